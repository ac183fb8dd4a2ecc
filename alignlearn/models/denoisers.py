"""Networks as denoisers of a model's scaled data: trained here, composed, or of any conventions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alignlearn.clocks import Clock
from alignlearn.predictions import Prediction
from alignlearn.schedules import Schedule


def _learned_part(network: nn.Module, y: Tensor, s: Tensor) -> Tensor:
    """``c_out network(c_in y, log s)`` with the coefficients of `PreconditionedDenoiser`."""
    c_in = torch.rsqrt(1 + s * s)
    return s * c_in * network(c_in * y, torch.log(s))


class PreconditionedDenoiser(nn.Module):
    """``Den(y, s) = c_skip y + c_out network(c_in y, log s)`` (Karras et al. 2022, unit data).

    ``c_skip = 1/(1 + s^2), c_out = s / sqrt(1 + s^2), c_in = 1 / sqrt(1 + s^2)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        s = s.to(y)
        c_in = torch.rsqrt(1 + s * s)
        return c_in * c_in * y + _learned_part(self.network, y, s)


class PiecewiseDenoiser(nn.Module):
    """``Den(y, s) = pieces(y, s) + c_out network(c_in y, log s)``: what a closed form leaves over.

    Coefficients as in `PreconditionedDenoiser`.
    """

    def __init__(self, pieces: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.pieces, self.network = pieces, network

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        s = s.to(y)
        return self.pieces(y, s) + _learned_part(self.network, y, s)


class MeanDenoiser(nn.Module):
    """Mean of denoisers: the errors that they do not share cancel (Breiman 1996, bagging)."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        total = self.members[0](y, s)
        for member in self.members[1:]:
            total = total + member(y, s)
        return total / len(self.members)


class SpanDenoiser(nn.Module):
    """Denoiser of data in a linear subspace: all that is noise across it goes at once."""

    basis: Tensor

    def __init__(self, denoiser: nn.Module, basis: Tensor) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("basis", basis)

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        return self.denoiser(y @ self.basis, s) @ self.basis.T


class SmoothDenoiser(nn.Module):
    """Denoiser of data without structure below a noise level, where their score is that of there.

    ``Den(y, s) = y + (s / level)^2 (Den(y, level) - y)`` for s < level: Tweedie's formula.
    """

    def __init__(self, denoiser: nn.Module, level: float) -> None:
        super().__init__()
        self.denoiser, self.level = denoiser, level

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        s = s.to(y)
        above = s.clamp(min=self.level)
        ratio = s / above
        return y + ratio * ratio * (self.denoiser(y, above) - y)


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
