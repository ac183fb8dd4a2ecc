"""Networks of Song et al. (2021): ``(x, t)`` on the path of a stochastic differential equation."""

from __future__ import annotations

import torch
from torch import Tensor

from alignlearn.clocks import LinearClock, NoiseClock
from alignlearn.doors.wrapped import Wrapped, ends_of_ratio, like_rows, time_of_ratio
from alignlearn.models.pretrained import PretrainedModel
from alignlearn.predictions import ScorePrediction
from alignlearn.schedules import Schedule, VarianceExploding


class SdeScales:
    """``t -> (alpha, sigma)`` of an SDE that has ``marginal_prob(x, t) -> (mean, std)``."""

    def __init__(self, sde) -> None:
        self.sde = sde

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scales at times of any shape."""
        flat = t.reshape(-1)
        mean, std = self.sde.marginal_prob(torch.ones_like(flat)[:, None, None, None], flat)
        return mean.reshape(t.shape), std.expand(flat.shape).reshape(t.shape)


class SdeScore(Wrapped):
    """``(x, sigma) -> score`` in variance-exploding coordinates, of a score ``(x_t, t)``."""

    def __init__(self, network, scales: SdeScales) -> None:
        super().__init__(network)
        self.scales = scales

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Rows x (n, ...), sigma (n,)."""
        t = time_of_ratio(self.scales, sigma)
        alpha = like_rows(self.scales(t)[0], x)
        return alpha * self.network(alpha * x, t.to(x))


def from_score_sde(score, sde, *, clock=None, prediction=None, shape=None, **options):
    """Model of a score function ``(x, t)``, data at t = 0 and noise at t = 1.

    What ``get_score_fn`` of score_sde gives. Pass its raw network, which predicts the noise and
    counts steps, with a schedule of this library: ``from_score_sde(network, LinearVP(),
    clock=LinearClock(999), prediction=NoisePrediction())``.

    Parameters
    ----------
    score : callable
        ``(x, t) -> grad log p_t(x)``, t of shape (n,).
    sde : Schedule or object with ``marginal_prob``
        Its path: ``LinearVP(beta_min, beta_max)`` or ``VarianceExploding(sigma_min, sigma_max)`` of
        `alignlearn.schedules`, or an SDE of score_sde, whose time must run from 0 to 1.
    clock : Clock, optional
        What the network is told, with a Schedule; default the time itself.
    prediction : Prediction, optional
        What the network says, with a Schedule; default the score.
    shape : tuple of int, optional
        Of a row as the network takes it, such as (channels, height, width).
    **options
        Further parameters of `PretrainedModel`, such as ``shift`` and ``scale``.

    Returns
    -------
    model : PretrainedModel
        Not fitted.

    Raises
    ------
    TypeError
        If `sde` is neither, or clock or prediction come with an object that has its own.
    """
    if isinstance(sde, Schedule):
        network, schedule = score, sde
        clock = LinearClock() if clock is None else clock
        prediction = ScorePrediction() if prediction is None else prediction
    elif not hasattr(sde, "marginal_prob"):
        raise TypeError(
            f"sde must be a Schedule of alignlearn.schedules or have marginal_prob, got {sde!r}."
        )
    elif clock is not None or prediction is not None:
        raise TypeError("clock and prediction need a Schedule of alignlearn.schedules as sde.")
    else:
        scales = SdeScales(sde)
        network, schedule = SdeScore(score, scales), VarianceExploding(*ends_of_ratio(scales))
        clock, prediction = NoiseClock(), ScorePrediction()
    return PretrainedModel(network, prediction, schedule, clock=clock, shape=shape, **options)
