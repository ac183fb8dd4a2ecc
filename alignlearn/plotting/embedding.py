"""Embeddings drawn: one to three coordinates, coloured by class or by value."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from alignlearn.plotting.canvas import (
    BLUE,
    COLORS,
    axes_to_draw_in,
    equal_units,
    finite_array,
    legend_above,
    name_axes,
    plain_frame,
)

MAX_CLASSES = 20

# Each class has a pair of its own; printed in grey, the marker is left.
# The factor on its area makes it look as large as the others.
_MARKERS = {"o": 1, "s": 0.75, "^": 1, "D": 0.6, "v": 1, "P": 1, "*": 1.6, "X": 1, "<": 1, ">": 1}
_GOLDEN = 0.5 * (5**0.5 - 1)


class EmbeddingDisplay:
    """Coordinates of an embedding: a strip, a plane or a space, with equal units on all axes.

    Parameters
    ----------
    coordinates : array-like of shape (n_samples, k)
        k from 1 to 3. A single coordinate is drawn as a strip, with a row for each class; the
        height within a row means nothing, it keeps points apart.
    labels : array-like of shape (n_samples,), optional
        Classes, at most 20: a colour and a marker for each.
    values : array-like of shape (n_samples,), optional
        Numbers, with a colour bar. Either these or `labels`.
    name : str, optional
        What labels or values are.
    axis_names : sequence of k str, optional
        Default coordinate 1, coordinate 2, ...

    Attributes
    ----------
    classes_ : ndarray or None
        The different labels, sorted.
    colorbar_ : matplotlib Colorbar or None
        That of the last `plot`.
    ax_ : matplotlib Axes
        Axes of the last `plot`.
    figure_ : matplotlib Figure
        Its figure.

    Raises
    ------
    ValueError
        If an array is not as above, or not finite, or there are more than 20 classes.
    """

    def __init__(self, coordinates, *, labels=None, values=None, name=None, axis_names=None):
        self.coordinates = finite_array(coordinates, "coordinates", "n_samples", "k")
        n, k = self.coordinates.shape
        if k > 3:
            raise ValueError(f"expected 1 to 3 coordinates, got {k}: choose some of the columns.")
        if labels is not None and values is not None:
            raise ValueError("expected labels or values, got both.")
        self.labels = None if labels is None else _sortable(labels)
        self.values = None if values is None else finite_array(values, "values", "n_samples")
        for given in (self.labels, self.values):
            if given is not None and given.shape != (n,):
                raise ValueError(
                    f"expected one label or value for each of {n} points, got shape {given.shape}."
                )
        self.classes_, self._class = None, np.zeros(n, dtype=int)
        if labels is not None:
            self.classes_, self._class = np.unique(self.labels, return_inverse=True)
            if len(self.classes_) > MAX_CLASSES:
                raise ValueError(
                    f"expected at most {MAX_CLASSES} classes, got {len(self.classes_)}: merge "
                    "some, or pass numbers as values."
                )
        self.name = name
        self.axis_names = axis_names or [f"coordinate {i + 1}" for i in range(k)]
        if len(self.axis_names) != k:
            raise ValueError(f"expected {k} axis names, got {self.axis_names!r}.")

    @classmethod
    def from_estimator(cls, manifold, X=None, y=None, *, coordinates=None, ax=None):
        """Draw the embedding that a fitted manifold learned.

        Parameters
        ----------
        manifold : LyapunovManifold
            Fitted; any transformer with `embedding_` will do.
        X : array-like of shape (n_samples, n_features), optional
            Points to embed; default the training points, their ``manifold.embedding_``.
        y : array-like of shape (n_samples,), optional
            Colours. Fractions, and numbers of which there are more than 20 different ones, are
            drawn as values, all else as classes.
        coordinates : sequence of 1 to 3 int, optional
            Which ones, counted from 1. Default all, or the first two of more than three.
        ax : matplotlib Axes, optional
            Where to draw; for three coordinates one with ``projection="3d"``.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        ValueError
            If there is no such coordinate, or y does not fit.
        """
        check_is_fitted(manifold)
        Y = finite_array(
            manifold.embedding_ if X is None else manifold.transform(X), "embedding", "n", "k"
        )
        k = Y.shape[1]
        if coordinates is None:
            coordinates = range(1, k + 1) if k <= 3 else (1, 2)
        if not all(1 <= i <= k for i in coordinates):
            raise ValueError(f"expected coordinates from 1 to {k}, got {tuple(coordinates)!r}.")
        of = f" of {k}" if len(coordinates) < k else ""
        display = cls(
            Y[:, [i - 1 for i in coordinates]],
            axis_names=[f"coordinate {i}{of}" for i in coordinates],
            name=getattr(y, "name", None),  # that of a pandas or polars column
            **({} if y is None else {"values" if _are_values(y) else "labels": y}),
        )
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default a new figure. Three coordinates need axes with ``projection="3d"``.

        Returns
        -------
        self : EmbeddingDisplay
        """
        k = self.coordinates.shape[1]
        n_rows = 1 if self.labels is None else len(self.classes_)
        figsize = (6.0, 5.0) if k > 1 else (7.0, 1.3 + 0.25 * n_rows)
        self.ax_ = ax = axes_to_draw_in(ax, figsize, n_dims=max(k, 2))
        self.figure_ = ax.figure
        shown = self._strip() if k == 1 else self.coordinates
        size = float(np.clip(6000 / len(shown), 9, 24))  # of a dot, in square points
        self._scatter(shown, size)
        name_axes(ax, self.axis_names)
        if k > 1:
            equal_units(ax, shown)
            if self.labels is not None:
                scale = (30 / size) ** 0.5
                font = "medium" if len(self.classes_) <= 10 else "small"
                style = {"handletextpad": 0.1, "markerscale": scale, "fontsize": font}
                legend_above(ax, title=self.name, **style)
        else:
            names = [] if self.labels is None else [_short(label) for label in self.classes_]
            ax.set(ylim=(n_rows - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
            ax.set_ylabel(self.name if names else None)
            plain_frame(ax)
        return self

    def _scatter(self, shown: np.ndarray, size: float) -> None:
        """The points in their colours."""
        ax = self.ax_
        # Snapped to pixels, small squares would be half or twice as large as the other markers.
        style = {"alpha": 0.85, "lw": 0, "snap": False} | (
            {"depthshade": False} if shown.shape[1] == 3 else {}
        )
        self.colorbar_ = None
        if self.labels is not None:
            markers = list(_MARKERS.items())
            for i, label in enumerate(self.classes_):
                marker, factor = markers[(i + i // len(COLORS)) % len(markers)]
                style |= {"color": COLORS[i % len(COLORS)], "marker": marker, "s": size * factor}
                ax.scatter(*shown[self._class == i].T, label=_short(label), **style)
        elif self.values is not None:
            points = ax.scatter(*shown.T, c=self.values, cmap="viridis", s=size, **style)
            self.colorbar_ = self.figure_.colorbar(points, ax=ax, label=self.name)
            self.colorbar_.solids.set_alpha(1)
        else:
            ax.scatter(*shown.T, color=BLUE, s=size, **style)

    def _strip(self) -> np.ndarray:
        """One coordinate, with a row for each class; heights that fill each row evenly."""
        height = 0.7 * (np.arange(len(self.coordinates)) * _GOLDEN % 1 - 0.5)
        return np.c_[self.coordinates, self._class + height]


def _sortable(labels) -> np.ndarray:
    """Labels as an array; what is neither number nor word, such as None, as the word for it."""
    labels = np.asarray(labels)
    return labels.astype(str) if labels.dtype == object else labels


def _are_values(y) -> bool:
    """Fractions and many different numbers are values; words, truth and few integers classes."""
    y = np.asarray(y)
    if y.dtype.kind not in "iuf":
        return False
    return bool((y != np.floor(y)).any()) or len(np.unique(y)) > MAX_CLASSES


def _short(label) -> str:
    text = str(label)
    return text if len(text) <= 16 else f"{text[:9]}…{text[-6:]}"
