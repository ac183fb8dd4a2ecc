"""The velocity of a path, as a network of both of its ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alignlearn.schedules import Schedule

# Ratio above which the network is told this one: nearer to the source little changes.
_S_MAX = 50.0


class VelocityNetwork(nn.Module):
    """Velocity field of a path, as what it says of both ends: ``v = alpha' Den + sigma' N``.

    ``x = alpha Den + sigma N`` splits x into the data and the noise that its velocity points to,
    whatever the pairs; solved for the two, (Den, N) is (x, v) in other coordinates. F completes x
    to them by a rotation, in which nothing is singular at either end::

        a, b = (alpha, m sigma) / |(alpha, m sigma)|,    x_hat = x / |(alpha, m sigma)|
        Den = a x_hat + b F,    N = m (b x_hat - a F)
        F = network(x_hat, log(sigma / alpha))

    with the root mean square m of the source. The best linear part is not built in: from there
    the network, which starts at zero, would hardly begin to learn.

    Parameters
    ----------
    network : nn.Module
        ``(x_hat (n, D), log_s () or (n, 1)) -> (n, D)``.
    schedule : Schedule
        Of the path.
    size : float
        Root mean square m of the source.
    s_min : float
        Ratio below which the field stays what it is there: it was not trained further.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, size: float, s_min: float) -> None:
        super().__init__()
        self.network, self.schedule, self.size = network, schedule, size
        self.t_min = float(schedule.time(torch.tensor(s_min, dtype=torch.float64)))
        self.s_min = s_min

    def split(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(Den, N) with ``x = alpha Den + sigma N`` for rows x (n, D), scales () or (n, 1)."""
        alpha, sigma = alpha.to(x), sigma.to(x)
        sigma = torch.maximum(sigma, self.s_min * alpha)
        norm = torch.hypot(alpha, self.size * sigma)
        a, b, x_hat = alpha / norm, self.size * sigma / norm, x / norm
        F = self.network(x_hat, torch.log(sigma / torch.maximum(alpha, sigma / _S_MAX)))
        return a * x_hat + b * F, self.size * (b * x_hat - a * F)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """``dx/dt`` at rows x (n, D) and times t, () or (n, 1), from 0 to 1."""
        t, schedule = t.clamp_min(self.t_min), self.schedule
        den, noise = self.split(x, schedule.alpha(t), schedule.sigma(t))
        return schedule.alpha_dot(t).to(x) * den + schedule.sigma_dot(t).to(x) * noise

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Den for rows y (n, D) in variance-exploding coordinates, s () or (n, 1)."""
        return self.split(y, torch.ones_like(s), s)[0]


class SpanVelocity(VelocityNetwork):
    """Velocity of data in a linear subspace: across it there is nothing but source."""

    span: Tensor

    def __init__(self, inner: VelocityNetwork, span: Tensor) -> None:
        super().__init__(inner.network, inner.schedule, inner.size, inner.s_min)
        self.register_buffer("span", span)

    def split(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """See `VelocityNetwork.split`; rows of x in the whole space."""
        inside = x @ self.span
        den, noise = super().split(inside, alpha, sigma)
        sigma = torch.maximum(sigma.to(x), self.s_min * alpha.to(x))
        across = (x - inside @ self.span.T) / sigma
        return den @ self.span.T, noise @ self.span.T + across
