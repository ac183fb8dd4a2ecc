"""The Lyapunov spectrum drawn."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from alignlearn.plotting.canvas import (
    BLUE,
    GREY,
    ORANGE,
    WIDE,
    axes_to_draw_in,
    band_label,
    finite_array,
    legend_above,
    plain_frame,
    quartiles,
)


class SpectrumDisplay:
    """Lyapunov spectrum: median over points, quartile band, the gap and the floor.

    Parameters
    ----------
    exponents : array-like of shape (n_points, k)
        Exponents of each point, descending.
    dimension : int
        From 1 to k; marked behind this exponent.
    clear : bool, default=True
        Whether a gap stands out there; if not, the picture says so.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last `plot`.
    figure_ : matplotlib Figure
        Its figure.

    Raises
    ------
    ValueError
        If an array or the dimension is not as above, or not finite.
    """

    def __init__(self, exponents, dimension, *, clear=True):
        self.exponents = finite_array(exponents, "exponents", "n_points", "k")
        self.dimension = int(dimension)
        self.clear = bool(clear)
        if not 1 <= self.dimension <= self.exponents.shape[1]:
            raise ValueError(
                "expected exponents of shape (n_points, k) and a dimension from 1 to k, got shape "
                f"{self.exponents.shape} and {dimension}."
            )

    @classmethod
    def from_estimator(cls, manifold, X=None, *, ax=None):
        """Draw the spectrum of a fitted manifold.

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
        display : SpectrumDisplay
        """
        check_is_fitted(manifold)
        exponents = manifold.reference_exponents_ if X is None else manifold.lyapunov_exponents(X)
        clear = manifold.dimension_estimate_.clear
        return cls(exponents, manifold.dimension_, clear=clear).plot(ax=ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default a new figure.

        Returns
        -------
        self : SpectrumDisplay
        """
        self.ax_ = ax = axes_to_draw_in(ax, WIDE)
        self.figure_ = ax.figure
        low, median, high = quartiles(self.exponents)
        n, k = self.exponents.shape
        index, d = np.arange(1, k + 1), self.dimension
        lowest = min(-1.0, low.min())
        ax.fill_between(index, low, high, color=BLUE, alpha=0.25, lw=0, label=band_label(n))
        style = {"marker": "o", "ms": 4 if k <= 100 else 2, "lw": 1.2, "color": BLUE}
        ax.plot(index, median, label="median", **style)
        ax.axhline(-1, color=GREY, ls="--", lw=1.2, label="floor: dies with the noise")
        if d == k or not self.clear:
            style, says = {"ls": ":", "lw": 1.6}, f"dimension {d}, no clear gap"
        else:
            style, says = {"lw": 1.8}, f"gap behind dimension {d}"
        ax.axvline(d + 0.5, color=ORANGE, label=says, **style)
        ax.set(
            xlim=(0.2, k + 0.8),
            ylim=(lowest - 0.08, max(0.0, high.max()) + 0.08),
            xlabel="index of the direction, most stretched first",
            ylabel="Lyapunov exponent (0: along the data)",
        )
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        plain_frame(ax)
        legend_above(ax)
        return self
