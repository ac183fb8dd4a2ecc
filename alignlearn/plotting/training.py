"""Training drawn: the loss of every network against its steps."""

from __future__ import annotations

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

_TRAINING = {"lw": 1.1, "ls": "--"}
_KEPT = {"marker": "o", "ms": 8, "mfc": "white", "mew": 1.8, "ls": "", "zorder": 3}


class TrainingDisplay:
    """Training and held-out loss against steps, for each network of a model.

    The held-out loss decides which weights are kept, those of the step marked. Where it turns up
    while the training loss falls on, a network has begun to learn its rows by heart.

    Parameters
    ----------
    histories : sequence of TrainingHistory
        Training curve of each network. One without a single evaluation is left out.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last `plot`.
    figure_ : matplotlib Figure
        Its figure.

    Raises
    ------
    ValueError
        If no network was evaluated, or a loss is not finite.
    """

    def __init__(self, histories):
        self.histories = [history for history in histories if history.steps]
        if not self.histories:
            raise ValueError(
                "expected a history with at least one evaluation, got none: training was "
                "interrupted before the first."
            )
        for history in self.histories:
            losses = [history.train_loss, history.held_out_loss]
            if [len(history.steps)] * 2 != [len(loss) for loss in losses]:
                raise ValueError(
                    f"expected two losses for each of {len(history.steps)} steps, got "
                    f"{len(losses[0])} and {len(losses[1])}."
                )
            finite_array(losses, "losses", "2", "n_steps")

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the training of a fitted model.

        Parameters
        ----------
        estimator : Diffusion or LyapunovManifold
            Fitted; a manifold whose `model_` was trained.
        ax : matplotlib Axes, optional
            Where to draw.

        Returns
        -------
        display : TrainingDisplay

        Raises
        ------
        ValueError
            If the model has no training curve.
        """
        check_is_fitted(estimator)
        model = getattr(estimator, "model_", estimator)
        if not hasattr(model, "histories_"):
            raise ValueError(
                "expected a model that is trained in steps, such as Diffusion, or a manifold with "
                f"one; {type(model).__name__} has no training curve."
            )
        return cls(model.histories_).plot(ax=ax)

    def plot(self, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default a new figure.

        Returns
        -------
        self : TrainingDisplay
        """
        self.ax_ = ax = axes_to_draw_in(ax, WIDE)
        self.figure_ = ax.figure
        several = len(self.histories) > 1
        for i, history in enumerate(self.histories):
            color = COLORS[i % len(COLORS)]
            name = f"network {i + 1}, held out" if several else "held out"
            ax.plot(history.steps, history.held_out_loss, color=color, lw=1.8, label=name)
            ax.plot(history.steps, history.train_loss, color=color, **_TRAINING)
            if history.best_step:
                ax.plot(history.best_step, history.best_loss, mec=color, **_KEPT)
        ax.plot([], [], color=GREY, label="training rows", **_TRAINING)
        ax.plot([], [], mec=GREY, label="weights kept", **_KEPT)
        ax.axhline(1, color=GREY, ls=":", lw=1.4, label="no structure found")
        losses = [(1.0, *h.train_loss, *h.held_out_loss) for h in self.histories]
        low, high = min(map(min, losses)), max(map(max, losses))
        ax.set(
            xlim=(0, 1.03 * max(history.steps[-1] for history in self.histories)),
            ylim=(0.9 * low, 1.05 * high),
            yscale="log" if high > 20 * low > 0 else "linear",
            xlabel="optimisation steps",
            ylabel="denoising loss",
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
        plain_frame(ax)
        legend_above(ax)
        return self
