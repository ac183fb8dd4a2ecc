"""Velocity networks that are called ``(t, x)`` and whose time runs from noise to data."""

from __future__ import annotations

import torch
from torch import Tensor

from alignlearn.clocks import LinearClock
from alignlearn.doors.wrapped import Wrapped, common_time
from alignlearn.models.pretrained import PretrainedModel
from alignlearn.predictions import VelocityPrediction
from alignlearn.schedules import Rectified


class TimeFirst(Wrapped):
    """``(x, tau) -> network(tau, x)``.

    Parameters
    ----------
    network : callable
        ``(t, x) -> velocity``.
    scalar_time : bool
        Whether t is one number for all rows.
    """

    def __init__(self, network, scalar_time: bool) -> None:
        super().__init__(network)
        self.scalar_time = scalar_time

    def __call__(self, x: Tensor, tau: Tensor) -> Tensor:
        """Rows x (n, ...), tau (n,)."""
        if not self.scalar_time:
            return self.network(tau, x)
        t = common_time(tau)
        if t.ndim == 0:
            return self.network(t, x)
        return torch.cat([self.network(t_i, x[i : i + 1]) for i, t_i in enumerate(t)])


def from_torchcfm(
    network, *, schedule=None, coupled=False, scalar_time=False, shape=None, **options
):
    """Model of a velocity network ``(t, x)`` with noise at t = 0 and data at t = 1: torchcfm.

    Parameters
    ----------
    network : callable
        ``(t, x) -> dx/dt``.
    schedule : Schedule, optional
        Its path, in this library's time. Default ``Rectified()``, straight lines; of a
        variance-preserving matcher it is ``Trigonometric()``. Noise that a matcher adds on the path
        (its ``sigma``) is neglected: it should be well below the noise levels looked at.
    coupled : bool, default=False
        Whether the pairs were drawn by optimal transport or another coupling.
    scalar_time : bool, default=False
        Whether the network takes one time for all rows, as behind torchcfm's ``torch_wrapper``.
    shape : tuple of int, optional
        Of a row as the network takes it, such as (channels, height, width).
    **options
        Further parameters of `PretrainedModel`, such as ``shift`` and ``scale``.

    Returns
    -------
    model : PretrainedModel
        Not fitted.
    """
    return PretrainedModel(
        TimeFirst(network, scalar_time),
        VelocityPrediction(reversed=True),
        Rectified() if schedule is None else schedule,
        clock=LinearClock(-1.0, 1.0),
        shape=shape,
        coupled=coupled,
        **options,
    )
