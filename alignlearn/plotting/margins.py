"""Margins drawn: at data, at generated samples and after moves along and across."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from alignlearn.plotting.canvas import (
    COLORS,
    GREY,
    WIDE,
    axes_to_draw_in,
    finite_array,
    legend_above,
    plain_frame,
)


class MarginDisplay:
    """Distribution of margins: the share of points with a smaller margin, a curve for each set.

    Right of zero is inside. Where a generator keeps to the support, the curves of the data and of
    the generated samples lie on one another, and only moves across the manifold leave it.

    Parameters
    ----------
    margins : dict of array-like of shape (n_points,)
        By the name of the set, see `MarginReport`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last `plot`.
    figure_ : matplotlib Figure
        Its figure.

    Raises
    ------
    ValueError
        If there is no set, or one is not as above or not finite.
    """

    def __init__(self, margins):
        if not margins:
            raise ValueError("expected margins of at least one set of points, got none.")
        self.margins = {
            k: finite_array(v, f"margins of {k}", "n_points") for k, v in margins.items()
        }

    @classmethod
    def from_estimator(cls, support, *, ax=None):
        """Draw the margin report of a fitted support.

        Parameters
        ----------
        support : ManifoldSupport
            Fitted.
        ax : matplotlib Axes, optional
            Where to draw.

        Returns
        -------
        display : MarginDisplay
        """
        check_is_fitted(support)
        report = support.margin_report_
        return cls({name: report.margins[name] for name in report.inside}).plot(ax=ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default a new figure.

        Returns
        -------
        self : MarginDisplay
        """
        self.ax_ = ax = axes_to_draw_in(ax, WIDE)
        self.figure_ = ax.figure
        for i, (name, values) in enumerate(self.margins.items()):
            x = np.sort(values)
            share = np.arange(1, len(x) + 1) / len(x)
            style = {"color": COLORS[i % len(COLORS)], "lw": 1.8}
            ax.step(np.r_[x[0], x], np.r_[0, share], where="post", label=name, **style)
        ax.axvline(0, color=GREY, ls="--", lw=1.2, label="boundary")
        ax.set(
            ylim=(-0.02, 1.02),
            xlabel="geometric margin (above 0: inside the one-class SVM)",
            ylabel="share of points below",
        )
        plain_frame(ax)
        legend_above(ax)
        return self
