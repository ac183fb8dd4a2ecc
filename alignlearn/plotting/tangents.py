"""Tangent spaces drawn: segments, discs or crosses on the points."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from alignlearn.plotting.canvas import (
    BLUE,
    GREY,
    axes_to_draw_in,
    equal_units,
    finite_array,
    legend_above,
    name_axes,
)

_CORNERS = 32  # of a polygon that looks like a disc
_LIGHT = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])


def spread_indices(X: np.ndarray, n_points: int) -> np.ndarray:
    """At most `n_points` rows of X that cover it evenly, by farthest points (Gonzalez 1985).

    Begins far from the mean; every next row is the one farthest from those taken. Fewer come back
    where X has fewer different rows.

    Parameters
    ----------
    X : ndarray of shape (n, D)
    n_points : int

    Returns
    -------
    indices : ndarray of shape (m,), int
    """
    distance = np.linalg.norm(X - X.mean(axis=0), axis=1)
    indices = [int(distance.argmax())]
    distance = np.linalg.norm(X - X[indices[0]], axis=1)
    while len(indices) < n_points and distance.max() > 0:
        indices.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(X - X[indices[-1]], axis=1))
    return np.array(indices)


def spacing(points: np.ndarray) -> float:
    """Median distance from a point to the nearest other one; 1 where all are at one place."""
    if len(points) < 2:
        return 1.0
    nearest, _ = NearestNeighbors(n_neighbors=1).fit(points).kneighbors()
    usable = nearest[nearest > 0]
    return float(np.median(usable)) if usable.size else 1.0


def tangent_discs(points: np.ndarray, vectors: np.ndarray, size: float) -> np.ndarray:
    """Rims ``x + r (cos(a) v_1 + sin(a) v_2)`` of discs with diameter `size` in tangent planes.

    Parameters
    ----------
    points : ndarray of shape (n, D)
    vectors : ndarray of shape (n, D, 2)
    size : float

    Returns
    -------
    rims : ndarray of shape (n, 32, D)
    """
    angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    return points[:, None] + 0.5 * size * np.swapaxes(vectors @ circle, 1, 2)


def tangent_segments(points: np.ndarray, vectors: np.ndarray, size: float) -> np.ndarray:
    """Segments of length `size` along every vector, through the points: ``(n d, 2, D)``.

    Parameters
    ----------
    points : ndarray of shape (n, D)
    vectors : ndarray of shape (n, D, d)
    size : float

    Returns
    -------
    segments : ndarray of shape (n * d, 2, D)
        Ends, the segments of a point one after the other.
    """
    move = 0.5 * size * np.swapaxes(vectors, 1, 2)
    x = points[:, None]
    return np.stack([x - move, x + move], axis=2).reshape(-1, 2, points.shape[1])


class TangentDisplay:
    """Tangent spaces on points of the plane or of space.

    A line is drawn as a segment, a plane as a disc, all three directions of space as a cross. A
    disc means its plane only: directions within it are all alike.

    Parameters
    ----------
    points : array-like of shape (n, D)
        Where the tangent spaces are; D = 2 or 3.
    vectors : array-like of shape (n, D, d)
        Bases as columns; d from 1 to 3. Columns of a projection may be shorter than 1, the marks
        then are too.
    sample : array-like of shape (n_samples, D), optional
        Points of the data, drawn as grey dots.
    size : float, optional
        Length of a segment and diameter of a disc in the units of the data; default 0.8 of the
        typical distance between neighbours among `points`.
    axis_names : sequence of D str, optional
        Default feature 1, feature 2, ...

    Attributes
    ----------
    marks_ : ndarray of shape (n_marks, n_corners, D)
        Corners of the segments or discs of the last `plot`.
    ax_ : matplotlib Axes
        Axes of the last `plot`.
    figure_ : matplotlib Figure
        Its figure.

    Raises
    ------
    ValueError
        If an array is not as above, or not finite, or the size is not positive.
    """

    def __init__(self, points, vectors, *, sample=None, size=None, axis_names=None):
        self.points = finite_array(points, "points", "n", "D")
        self.vectors = finite_array(vectors, "vectors", "n", "D", "d")
        D = self.points.shape[1]
        if D not in (2, 3):
            raise ValueError(
                f"expected points with 2 or 3 coordinates, got {D}: project points and vectors, or "
                "use TangentDisplay.from_estimator, which projects on three principal axes."
            )
        if self.vectors.shape[:2] != self.points.shape:
            raise ValueError(
                f"expected vectors of shape {(*self.points.shape, 'd')}, got {self.vectors.shape}."
            )
        if self.vectors.shape[2] > 3:
            raise ValueError(
                f"tangent spaces of {self.vectors.shape[2]} dimensions cannot be drawn: take the "
                "one or two most stretched directions, n_components=1 or 2."
            )
        self.sample = None if sample is None else finite_array(sample, "sample", "n_samples", "D")
        if sample is not None and self.sample.shape[1] != D:
            raise ValueError(f"expected a sample with {D} columns, got {self.sample.shape}.")
        self.size = 0.8 * spacing(self.points) if size is None else float(size)
        if not 0 < self.size < np.inf:
            raise ValueError(f"expected a positive size, got {size!r}.")
        self.axis_names = axis_names or [f"feature {i + 1}" for i in range(D)]
        if len(self.axis_names) != D:
            raise ValueError(f"expected {D} axis names, got {self.axis_names!r}.")

    @classmethod
    def from_estimator(cls, manifold, X, *, n_points=100, n_components=None, ax=None):
        """Draw tangent spaces of a fitted manifold at points that cover X evenly.

        More than three features are projected on the three leading principal axes of X, the marks
        with them: what leaves these axes is shortened.

        Parameters
        ----------
        manifold : LyapunovManifold
            Fitted.
        X : array-like of shape (n_samples, n_features)
            The data.
        n_points : int, default=100
            Tangent spaces drawn.
        n_components : int, optional
            Leading vectors drawn, at most 3; default the manifold's `dimension_`.
        ax : matplotlib Axes, optional
            Where to draw; for three coordinates one with ``projection="3d"``.

        Returns
        -------
        display : TangentDisplay

        Raises
        ------
        ValueError
            If X has one feature, or too few rows to find principal axes, or the tangent spaces
            have more than three dimensions.
        """
        check_is_fitted(manifold)
        check_scalar(n_points, "n_points", Integral, min_val=1)
        x = finite_array(X, "X", "n_samples", "n_features")
        rows = spread_indices(x, n_points)
        at = X.iloc[rows] if hasattr(X, "iloc") else x[rows]  # a frame keeps its column names
        vectors = manifold.tangent_space(at, n_components)
        names = getattr(manifold, "feature_names_in_", None)
        names = None if names is None else list(names)
        if x.shape[1] > 3:
            x, vectors, names = _project(x, vectors)
        return cls(x[rows], vectors, sample=x, axis_names=names).plot(ax=ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default a new figure. Three coordinates need axes with ``projection="3d"``.

        Returns
        -------
        self : TangentDisplay
        """
        D, d = self.vectors.shape[1:]
        self.ax_ = ax = axes_to_draw_in(ax, (6.0, 5.0), n_dims=D)
        self.figure_ = ax.figure
        if self.sample is not None:
            style = {"color": GREY, "s": 7, "alpha": 0.6, "lw": 0}
            ax.scatter(*self.sample.T, label=f"{len(self.sample)} points", **style)
        corners = tangent_discs if d == 2 else tangent_segments
        self.marks_ = corners(self.points, self.vectors, self.size)
        (_draw_solid if D == 3 else _draw_flat)(ax, self.marks_, d)
        shown = self.marks_.reshape(-1, D)
        equal_units(ax, shown if self.sample is None else np.concatenate([shown, self.sample]))
        name_axes(ax, self.axis_names)
        legend_above(ax, markerscale=2)
        return self


def _project(x, vectors):
    """Points and vectors on the three leading principal axes, and the names of these."""
    if len(x) < 4:
        raise ValueError(
            f"expected at least 4 rows to find the principal axes of {x.shape[1]} features, got "
            f"{len(x)}."
        )
    pca = PCA(n_components=3, random_state=0).fit(x)
    names = [
        f"PC {i} ({share:.0%})" for i, share in enumerate(pca.explained_variance_ratio_, start=1)
    ]
    return pca.transform(x), pca.components_ @ vectors, names


def _draw_flat(ax, marks: np.ndarray, d: int) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    label = "tangent spaces"
    if d == 2:
        ax.add_collection(PolyCollection(marks, fc=BLUE, ec=BLUE, alpha=0.3, label=label))
    else:
        ax.add_collection(LineCollection(marks, color=BLUE, lw=1.8, label=label))


def _draw_solid(ax, marks: np.ndarray, d: int) -> None:
    from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

    label = "tangent spaces"
    if d == 2:
        discs = Poly3DCollection(marks, fc=_lit(marks), ec=BLUE, lw=0.5, alpha=0.85, label=label)
        ax.add_collection3d(discs)
    else:
        ax.add_collection3d(Line3DCollection(marks, color=BLUE, lw=1.6, label=label))


def _lit(rims: np.ndarray) -> np.ndarray:
    """Colours of discs, light where they face the light: their tilt is seen, and in grey too."""
    from matplotlib.colors import to_rgb

    arms = rims[:, [0, _CORNERS // 4]] - rims.mean(axis=1, keepdims=True)
    normals = np.cross(arms[:, 0], arms[:, 1])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    facing = np.abs(normals / np.where(lengths > 0, lengths, 1) @ _LIGHT)[:, None]
    return 1 - (1 - 0.75 * facing) * (1 - np.array(to_rgb(BLUE)))
