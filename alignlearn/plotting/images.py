"""Images drawn: moved along Lyapunov vectors, and sets of them side by side."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar

from alignlearn.plotting.canvas import finite_array, new_figure


class ImageMovesDisplay:
    """An image moved along vectors by one and the same step, as in the paper's Figure 5.

    Moves along the leading Lyapunov vectors morph the image, along the last ones destroy it. Top
    row: the vectors; below: the image plus and minus the step. A vector's sign means nothing.

    Parameters
    ----------
    image : array-like of shape (h, w)
        The image.
    vectors : array-like of shape (m, h, w)
        Directions of Euclidean length 1.
    step : float
        Length of the step, in grey levels.
    labels : sequence of m str, optional
        Names above the columns; default 1, 2, ..., m.
    value_range : (float, float), optional
        Grey levels of black and white; values outside are clipped in the picture only. Default: the
        image's own range.

    Attributes
    ----------
    moved_ : ndarray of shape (2, m, h, w)
        The image plus and minus the step, not clipped.
    axes_ : ndarray of matplotlib Axes of shape (3, m + 1)
        Axes of the last `plot`.
    figure_ : matplotlib Figure or SubFigure
        Where they are.

    Raises
    ------
    ValueError
        If an array or the labels are not as above, or an array is not finite.
    """

    def __init__(self, image, vectors, step, *, labels=None, value_range=None):
        self.image = finite_array(image, "image", "h", "w")
        self.vectors = finite_array(vectors, "vectors", "m", "h", "w")
        if self.vectors.shape[1:] != self.image.shape:
            raise ValueError(
                "expected an image (h, w) and vectors (m, h, w) of the same size, got "
                f"{self.image.shape} and {self.vectors.shape}."
            )
        self.step = float(step)
        m = len(self.vectors)
        self.labels = [str(i + 1) for i in range(m)] if labels is None else list(labels)
        if len(self.labels) != m:
            raise ValueError(f"expected a label for each of {m} vectors, got {len(self.labels)}.")
        self.value_range = value_range or (self.image.min(), self.image.max())
        move = self.step * self.vectors
        self.moved_ = np.stack([self.image + move, self.image - move])

    @classmethod
    def from_estimator(
        cls, manifold, x, image_shape, indices, step, *, value_range=None, figure=None
    ):
        """Draw the moves of one sample along Lyapunov vectors of a fitted manifold.

        Parameters
        ----------
        manifold : LyapunovManifold
            Fitted on flattened images.
        x : array-like of shape (n_features,)
            The image.
        image_shape : (int, int)
            Height and width.
        indices : sequence of int
            Which vectors, counted from 1, the most stretched.
        step : float
            Length of the step, in the units of the data.
        value_range, figure : optional
            As in the constructor and `plot`.

        Returns
        -------
        display : ImageMovesDisplay

        Raises
        ------
        ValueError
            If x is not an image of that shape, or an index is below 1.
        """
        x = finite_array(x, "x", "n_features")
        if x.size != np.prod(image_shape):
            raise ValueError(f"expected an image of shape {image_shape}, got {x.size} pixels.")
        if min(indices, default=0) < 1:
            raise ValueError(f"expected indices of vectors, counted from 1, got {indices!r}.")
        frame = manifold.lyapunov_frame(x[None], n_components=max(indices)).vectors[0]
        vectors = frame.T[np.asarray(indices) - 1].reshape(-1, *image_shape)
        display = cls(
            x.reshape(image_shape),
            vectors,
            step,
            labels=[f"vector {i}" for i in indices],
            value_range=value_range,
        )
        return display.plot(figure=figure)

    def plot(self, figure=None):
        """Draw.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
            An empty one; default a new figure.

        Returns
        -------
        self : ImageMovesDisplay
        """
        m = len(self.vectors)
        if figure is None:
            figure = new_figure((1.35 * (m + 1), 5.2))
        self.figure_ = figure
        self.axes_ = axes = figure.subplots(3, m + 1)
        low, high = self.value_range
        grey = {"cmap": "gray", "vmin": low, "vmax": high}
        axes[0, 0].imshow(self.image, **grey)
        axes[0, 0].set_title("the image", fontsize=10)
        for row, name in [(1, "image\n+ step"), (2, "image\n\u2212 step")]:
            axes[row, 0].text(0.95, 0.5, name, ha="right", va="center", fontsize=10)
        for j, (vector, label) in enumerate(zip(self.vectors, self.labels, strict=True), start=1):
            size = np.abs(vector).max()
            axes[0, j].imshow(vector, cmap="PuOr", vmin=-size, vmax=size)
            axes[0, j].set_title(label, fontsize=10)
            for row, moved in enumerate(self.moved_[:, j - 1], start=1):
                axes[row, j].imshow(moved, **grey)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(color="0.6", linewidth=0.6, visible=bool(ax.images))
        return self


class ImageGridDisplay:
    """Sets of images side by side, such as real and generated ones.

    Parameters
    ----------
    images : dict of str to array-like of shape (n, h, w)
        The sets, under their titles.
    n_columns : int, default=8
        Images in a row of a set.
    value_range : (float, float), optional
        Grey levels of black and white, the same for all; default the range of the first set.

    Attributes
    ----------
    mosaics_ : dict of str to ndarray
        One picture for each set; NaN between the images.
    axes_ : ndarray of matplotlib Axes
        Axes of the last `plot`, one for each set.
    figure_ : matplotlib Figure or SubFigure
        Where they are.

    Raises
    ------
    ValueError
        If there is no set, or one is not of that shape or not finite.
    """

    def __init__(self, images, *, n_columns=8, value_range=None):
        if not images:
            raise ValueError("expected at least one set of images, got none.")
        self.images = {
            title: finite_array(stack, f"images {title!r}", "n", "h", "w")
            for title, stack in images.items()
        }
        self.n_columns = check_scalar(n_columns, "n_columns", Integral, min_val=1)
        first = next(iter(self.images.values()))
        self.value_range = value_range or (first.min(), first.max())
        self.mosaics_ = {title: self._mosaic(stack) for title, stack in self.images.items()}

    def _mosaic(self, stack: np.ndarray) -> np.ndarray:
        """Images in rows, one pixel apart."""
        n, h, w = stack.shape
        n_rows = -(-n // self.n_columns)
        cells = np.full((n_rows * self.n_columns, h + 1, w + 1), np.nan)
        cells[:n, :h, :w] = stack
        grid = cells.reshape(n_rows, self.n_columns, h + 1, w + 1)
        return grid.swapaxes(1, 2).reshape(n_rows * (h + 1), -1)[:-1, :-1]

    def plot(self, figure=None):
        """Draw.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
            An empty one; default a new figure.

        Returns
        -------
        self : ImageGridDisplay
        """
        if figure is None:
            height, width = np.max([m.shape for m in self.mosaics_.values()], axis=0)
            figure = new_figure((4.6 * len(self.images), 4.45 * height / width + 0.45))
            figure.get_layout_engine().set(wspace=0.06)
        self.figure_ = figure
        self.axes_ = figure.subplots(1, len(self.images), squeeze=False)[0]
        low, high = self.value_range
        for ax, (title, mosaic) in zip(self.axes_, self.mosaics_.items(), strict=True):
            ax.imshow(mosaic, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            ax.set_title(title)
            ax.set_axis_off()
        return self
