"""How a network is told how much noise there is: time, the number of a step, or the noise itself.

Here t = 0 is data and t = 1 is noise; a clock turns t into the second argument of a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from alignlearn.schedules import Schedule


@dataclass(frozen=True)
class Clock(ABC):
    """What a network is told at time t of a schedule. A new member defines the call."""

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        """The network's own time, of the shape of t."""


@dataclass(frozen=True)
class LinearClock(Clock):
    """``offset + scale t``: ``LinearClock(999)`` counts steps, ``LinearClock(-1, 1)`` runs back.

    Parameters
    ----------
    scale, offset : float, default=1, 0
        Where a network has its noise end, less its data end, and its data end.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        """``offset + scale t``."""
        return self.offset + self.scale * t


@dataclass(frozen=True)
class NoiseClock(Clock):
    """``sigma / alpha``, the noise level itself (Karras et al. 2022)."""

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        """``sigma(t) / alpha(t)``."""
        return schedule.ratio(t)


@dataclass(frozen=True)
class LogNoiseClock(Clock):
    """``scale log(sigma / alpha)``; the raw networks of Karras et al. (2022) have scale 1/4.

    Parameters
    ----------
    scale : float, default=1
    """

    scale: float = 1.0

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        """``scale log(sigma(t) / alpha(t))``."""
        return self.scale * torch.log(schedule.ratio(t))
