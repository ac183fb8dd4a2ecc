"""Dimensions drawn: against scale, and point by point."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from alignlearn.plotting.canvas import (
    BLUE,
    ORANGE,
    WIDE,
    axes_to_draw_in,
    band_label,
    finite_array,
    legend_above,
    plain_frame,
    quartiles,
)

# More bars than this leave no room for their shares in figures.
_LABELLED_BARS = 10


class ScaleDisplay:
    """Dimension against scale: median over points and quartile band, a step for each window.

    Data with noise or texture show more directions the closer one looks: the curve rises to the
    left. A plateau is a dimension that holds over a range of scales.

    Parameters
    ----------
    windows : array-like of shape (n_scales, 2)
        Noise levels between which each dimension was taken, in the units of the data; ascending.
    dimension : array-like of shape (n_points, n_scales)
        Directions along the data, at each point and scale.
    sample_dimension : int, optional
        Dimension of the whole sample, drawn as a line.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last `plot`.
    figure_ : matplotlib Figure
        Its figure.

    Raises
    ------
    ValueError
        If an array is not as above, or not finite.
    """

    def __init__(self, windows, dimension, *, sample_dimension=None):
        self.windows = finite_array(windows, "windows", "n_scales", "2")
        self.dimension = finite_array(dimension, "dimension", "n_points", "n_scales")
        self.sample_dimension = sample_dimension
        n_scales = self.dimension.shape[1]
        if self.windows.shape != (n_scales, 2):
            raise ValueError(
                f"expected windows of shape ({n_scales}, 2), one for each column of dimension, got "
                f"{self.windows.shape}."
            )
        if self.windows.min() <= 0 or (np.diff(self.windows.ravel()) < 0).any():
            raise ValueError("expected windows of positive noise levels, the finest first.")

    @classmethod
    def from_estimator(cls, manifold, X, *, n_scales=6, ax=None):
        """Draw the dimension of a fitted manifold at several scales.

        Parameters
        ----------
        manifold : LyapunovManifold
            Fitted.
        X : array-like of shape (n_points, n_features)
            Points to look at. A hundred tell as much as all: each scale costs what
            ``manifold.lyapunov_exponents(X)`` costs.
        n_scales : int, default=6
            Number of scales.
        ax : matplotlib Axes, optional
            Where to draw.

        Returns
        -------
        display : ScaleDisplay
        """
        found = manifold.scale_spectrum(X, n_scales)
        display = cls(found.windows, found.dimension, sample_dimension=manifold.dimension_)
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default a new figure.

        Returns
        -------
        self : ScaleDisplay
        """
        self.ax_ = ax = axes_to_draw_in(ax, WIDE)
        self.figure_ = ax.figure
        from matplotlib.ticker import LogLocator

        low, median, high = np.repeat(quartiles(self.dimension), 2, axis=1)
        scale, d = self.windows.ravel(), self.sample_dimension
        label = band_label(len(self.dimension))
        ax.fill_between(scale, low, high, color=BLUE, alpha=0.25, lw=0, label=label)
        ax.plot(scale, median, color=BLUE, lw=1.8, label="median")
        if d is not None:
            ax.axhline(d, color=ORANGE, ls="--", lw=1.4, label=f"dimension {d} of the sample")
        ax.set(
            xscale="log",
            xlim=(scale[0], scale[-1]),
            ylim=(0, 1.08 * max(high.max(), 1, d or 0)),
            xlabel="noise level per feature, in the units of the data",
            ylabel="directions along the data",
        )
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(lambda s, _: f"{s:g}")
        ax.xaxis.set_minor_formatter(lambda s, _: "")
        plain_frame(ax)
        legend_above(ax)
        return self


class DimensionDisplay:
    """Histogram of the pointwise dimension: share of the points at every integer.

    Parameters
    ----------
    dimensions : array-like of shape (n_points,), int
        Dimension at each point, 1 or more.
    sample_dimension : int, optional
        Dimension of the whole sample, marked.

    Attributes
    ----------
    values_ : ndarray of shape (n_bars,), int
        Every dimension from the smallest to the largest one found.
    shares_ : ndarray of shape (n_bars,)
        Share of the points that have it.
    ax_ : matplotlib Axes
        Axes of the last `plot`.
    figure_ : matplotlib Figure
        Its figure.

    Raises
    ------
    ValueError
        If the dimensions are not integers from 1 on.
    """

    def __init__(self, dimensions, *, sample_dimension=None):
        given = finite_array(dimensions, "dimensions", "n_points")
        self.dimensions = given.astype(int)
        self.sample_dimension = sample_dimension
        if self.dimensions.min() < 1 or (self.dimensions != given).any():
            raise ValueError("expected dimensions that are integers of 1 or more, one a point.")
        low, high = self.dimensions.min(), self.dimensions.max()
        self.values_ = np.arange(low, high + 1)
        self.shares_ = np.bincount(self.dimensions - low) / len(self.dimensions)

    @classmethod
    def from_estimator(cls, manifold, X=None, *, ax=None):
        """Draw the pointwise dimension of a fitted manifold.

        Parameters
        ----------
        manifold : LyapunovManifold
            Fitted.
        X : array-like of shape (n_points, n_features), optional
            Points to look at; default the reference points of the fit, at no cost.
        ax : matplotlib Axes, optional
            Where to draw.

        Returns
        -------
        display : DimensionDisplay
        """
        check_is_fitted(manifold)
        if X is None:
            dimensions = manifold._pointwise(manifold.reference_exponents_)
        else:
            dimensions = manifold.dimension(X)
        return cls(dimensions, sample_dimension=manifold.dimension_).plot(ax=ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default a new figure.

        Returns
        -------
        self : DimensionDisplay
        """
        self.ax_ = ax = axes_to_draw_in(ax, WIDE)
        self.figure_ = ax.figure
        n, d = len(self.dimensions), self.sample_dimension
        bars = ax.bar(self.values_, self.shares_, width=0.7, color=BLUE)
        if len(self.values_) <= _LABELLED_BARS:
            ax.bar_label(bars, [_percent(share) for share in self.shares_], padding=2)
        low, high, top = *self.values_[[0, -1]], self.shares_.max()
        if d is not None:  # over the bars, so that it is seen where no point has that dimension
            mark = {"marker": "v", "ms": 9, "color": ORANGE, "ls": ""}
            ax.plot(d, 1.15 * top, label=f"dimension {d} of the sample", **mark)
            low, high = min(low, d), max(high, d)
            legend_above(ax)
        ax.set(
            xlim=(low - 1, high + 1),
            ylim=(0, 1.19 * top),
            xlabel="dimension at a point",
            ylabel=f"share of {n} points" if n > 1 else "share of one point",
        )
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.yaxis.set_major_formatter(lambda share, _: _percent(share))
        plain_frame(ax)
        return self


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
