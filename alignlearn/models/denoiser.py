"""A network of any conventions, as the denoiser of a model's scaled data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alignlearn.clocks import Clock
from alignlearn.predictions import Prediction
from alignlearn.schedules import Schedule


@dataclass(frozen=True)
class NetworkDenoiser:
    """``Den(y, s)`` in a model's scaled coordinates, from a network in coordinates of its own.

    ``x = alpha (stretch y + offset)`` is what the network sees; outside its noise levels it is
    asked at the nearest one.

    Parameters
    ----------
    network : callable (x (n, *shape), tau (n,)) -> (n, *shape)
    prediction, schedule, clock : Prediction, Schedule, Clock
        What it says, and how it counts.
    shape : tuple of int
        Of one row as the network takes it.
    dtype : torch.dtype
        Of its numbers.
    stretch : float
        Its units of length per scaled one.
    offset : Tensor of shape (D,)
        Where it has the mean of the data.
    """

    network: Callable[[Tensor, Tensor], Tensor]
    prediction: Prediction
    schedule: Schedule
    clock: Clock
    shape: tuple[int, ...]
    dtype: torch.dtype
    stretch: float
    offset: Tensor

    def __call__(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        low, high = self.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        t = self.schedule.time((self.stretch * s.double()).clamp(low, high))
        offset = self.offset.to(y)
        x = self.schedule.alpha(t).to(y) * (self.stretch * y + offset)
        output = self._ask(x, self.clock(self.schedule, t)).to(y)
        return (self.prediction.denoised(output, x, self.schedule, t) - offset) / self.stretch

    def _ask(self, x: Tensor, tau: Tensor) -> Tensor:
        """What the network says, (n, D)."""
        n = len(x)
        rows = x.to(self.dtype).reshape(n, *self.shape)
        output = self.network(rows, tau.to(rows).reshape(-1).expand(n))
        if not isinstance(output, Tensor) or output.shape != rows.shape:
            kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"network must return a tensor of the shape of its input, {tuple(rows.shape)}, "
                f"got {kind}. If a row is an image, pass shape=(channels, height, width); if the "
                "output is wrapped or has more channels, wrap the network in a function."
            )
        return output.reshape(n, -1)
