"""What a network says about a noisy point ``x_t = alpha x_0 + sigma z``: data, noise or a mixture.

On the average over the posterior, whatever it is trained to predict is ``p x_0 + q z`` with two
scalars that depend on the time alone, and ``x_t = alpha x_0 + sigma z`` is a second equation: so
each of them gives the denoiser ``E[x_0 | x_t]`` (Salimans & Ho 2022, appendix D).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from alignlearn.schedules import Schedule


@dataclass(frozen=True)
class Prediction(ABC):
    """What a network was trained to predict, ``p x_0 + q z``.

    A new member defines `weights`, with ``sigma p != alpha q``.
    """

    @abstractmethod
    def weights(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scalars (p, q) at time t, of its shape."""

    def denoised(self, output: Tensor, x: Tensor, schedule: Schedule, t: Tensor) -> Tensor:
        """``E[x_0 | x_t = x] = (sigma output - q x) / (sigma p - q alpha)``.

        Parameters
        ----------
        output : Tensor of shape (n, D)
            What the network says.
        x : Tensor of shape (n, D)
            Noisy rows, in the coordinates of the schedule.
        schedule : Schedule
            Scales of data and noise.
        t : Tensor of shape () or (n, 1)
            Time, one for all rows or one for each.

        Returns
        -------
        Tensor of shape (n, D)
        """
        p, q = self.weights(schedule, t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        determinant = sigma * p - q * alpha
        return (sigma / determinant).to(x) * output - (q / determinant).to(x) * x

    def output(self, denoised: Tensor, x: Tensor, schedule: Schedule, t: Tensor) -> Tensor:
        """What a network says whose denoiser is `denoised`: the inverse of that method.

        Parameters
        ----------
        denoised : Tensor of shape (n, D)
            ``E[x_0 | x_t = x]``.
        x, schedule, t
            See `denoised`.

        Returns
        -------
        Tensor of shape (n, D)
        """
        p, q = self.weights(schedule, t)
        noise = (x - schedule.alpha(t).to(x) * denoised) / schedule.sigma(t).to(x)
        return p.to(x) * denoised + q.to(x) * noise


@dataclass(frozen=True)
class SamplePrediction(Prediction):
    """The data ``x_0``: a denoiser."""

    def weights(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """``1, 0``."""
        return torch.ones_like(t), torch.zeros_like(t)


@dataclass(frozen=True)
class NoisePrediction(Prediction):
    """The noise z, "epsilon" (Ho et al. 2020)."""

    def weights(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """``0, 1``."""
        return torch.zeros_like(t), torch.ones_like(t)


@dataclass(frozen=True)
class ScorePrediction(Prediction):
    """The score ``grad log p_t(x) = -E[z | x_t = x] / sigma`` (Song et al. 2021)."""

    def weights(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """``0, -1 / sigma``."""
        return torch.zeros_like(t), -1 / schedule.sigma(t)


@dataclass(frozen=True)
class VPrediction(Prediction):
    """``v = alpha z - sigma x_0`` (Salimans & Ho 2022)."""

    def weights(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """``-sigma, alpha``."""
        return -schedule.sigma(t), schedule.alpha(t)


@dataclass(frozen=True)
class VelocityPrediction(Prediction):
    """``dx/dt = alpha' x_0 + sigma' z``, the velocity of the probability flow (Lipman et al. 2023).

    Parameters
    ----------
    reversed : bool, default=False
        Whether the network's time runs from noise to data, so that its velocity is ``-dx/dt``.
    """

    reversed: bool = False

    def weights(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """``alpha', sigma'``, with the other sign if `reversed`."""
        sign = -1 if self.reversed else 1
        return sign * schedule.alpha_dot(t), sign * schedule.sigma_dot(t)
