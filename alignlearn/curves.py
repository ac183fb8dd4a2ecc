"""Densities on curves whose score is known: the paper's plane examples (appendix G.2), any noise.

The measure ``q |Gamma'(u)| du`` on a curve, smoothed by Gaussian noise, has its density, score and
denoiser as integrals over u, which quadrature turns into sums over nodes. (The paper prints
``Gamma'`` in place of the speed ``|Gamma'|``.) No training, no error but rounding: what a process
does with such a score is the process's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alignlearn.derivatives import push_forward

Curve = Callable[[Tensor], Tensor]

# Gauss-Legendre nodes of a panel, and its length in units of the smallest noise level: the error
# against a Gaussian as narrow is of the order of rounding.
_NODES, _PANEL = 16, 4.0


class CurveDensity(NamedTuple):
    """A density on curves in R^D, as nodes of a quadrature; in float64.

    Attributes
    ----------
    nodes : Tensor of shape (m, D)
        Points on the curves.
    log_weights : Tensor of shape (m,)
        Log probability that each stands for; they sum to one.
    tangents : Tensor of shape (m, D)
        Unit tangent vectors there.

    Examples
    --------
    Lyapunov vectors of two moons, with the exact score:

    >>> import torch
    >>> from alignlearn.curves import TWO_MOONS, CurveDensity
    >>> from alignlearn.flow import Flow
    >>> from alignlearn.schedules import VarianceExploding
    >>> from alignlearn.solvers import ExponentialMidpoint
    >>> from alignlearn.tangent import lyapunov_frame
    >>> moons, schedule = CurveDensity.from_curves(*TWO_MOONS, s_min=0.02), VarianceExploding()
    >>> flow = Flow.from_denoiser(
    ...     moons.denoise, schedule, ExponentialMidpoint(schedule), n_steps=24, s_max=2, s_min=0.02
    ... )
    >>> top = torch.tensor([[0.0, 1.0]], dtype=torch.float64)  # of the upper moon
    >>> lyapunov_frame(flow, flow.trajectory(top), 1).vectors.squeeze().abs().round(decimals=1)
    tensor([1., 0.], dtype=torch.float64)
    """

    nodes: Tensor
    log_weights: Tensor
    tangents: Tensor

    @classmethod
    def from_curves(
        cls, *curves: Curve, s_min: float, weight: Callable[[Tensor], Tensor] | None = None
    ) -> CurveDensity:
        """Nodes so close that noise of size `s_min`, and any larger, is integrated to rounding.

        Parameters
        ----------
        *curves : callable (u (m,)) -> (m, D)
            Regular, differentiable curves over ``0 <= u <= 1``, in PyTorch.
        s_min : float
            Smallest noise level for which it will be asked.
        weight : callable (x (m, D)) -> (m,), optional
            Density q with respect to arc length, up to a factor; default uniform.

        Returns
        -------
        CurveDensity

        Raises
        ------
        ValueError
            If `s_min` is not positive, there is no curve, or the weight is negative, not finite or
            zero everywhere.
        """
        if not curves or not s_min > 0:
            raise ValueError(f"expected a curve or more and s_min > 0, got {len(curves)}, {s_min}.")
        parts = [_panels(curve, s_min) for curve in curves]
        nodes, velocity, du = (torch.cat(part) for part in zip(*parts, strict=True))
        speed = velocity.norm(dim=1)
        q = torch.ones_like(speed) if weight is None else weight(nodes)
        if not torch.isfinite(q).all() or (q < 0).any() or not (q > 0).any():
            raise ValueError("expected a weight that is finite, not negative and not all zero.")
        mass = q * speed * du
        return cls(nodes, torch.log(mass / mass.sum()), velocity / speed[:, None])

    def _logits(self, y: Tensor, s: Tensor | float) -> Tensor:
        """Log of ``weight exp(-|y - x|^2 / 2 s^2)``, (n, m), without the term ``|y|^2 / 2 s^2``."""
        half_norms = (self.nodes * self.nodes).sum(-1) / 2
        return self.log_weights + (y @ self.nodes.T - half_norms) / (s * s)

    def denoise(self, y: Tensor, s: Tensor | float) -> Tensor:
        """Posterior mean ``E[x | x + s z = y]``, y (n, D), s a number, 0-dimensional or (n, 1)."""
        return torch.softmax(self._logits(y, s), -1) @ self.nodes

    def score(self, y: Tensor, s: Tensor | float) -> Tensor:
        """``grad log p_s(y) = (Den(y, s) - y) / s^2``, (n, D)."""
        return (self.denoise(y, s) - y) / (s * s)

    def log_density(self, y: Tensor, s: Tensor | float) -> Tensor:
        """``log p_s(y)`` of ``x + s z``, (n,)."""
        s = torch.as_tensor(s, dtype=y.dtype, device=y.device)
        log_kernel = torch.logsumexp(self._logits(y, s), -1, keepdim=True)
        log_p = log_kernel - (y * y).sum(-1, keepdim=True) / (2 * s * s)
        return (log_p - y.shape[-1] / 2 * torch.log(2 * math.pi * s * s)).squeeze(-1)

    def sample(self, n_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw points of the curves (n_samples, D), among the nodes."""
        return self.nodes[
            torch.multinomial(self.log_weights.exp(), n_samples, True, generator=generator)
        ]

    def nearest(self, y: Tensor) -> Tensor:
        """Index (n,) of the node nearest to each row of y (n, D): of `nodes` and `tangents`."""
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(y, self.nodes, compute_mode=exact).argmin(-1)


def _panels(curve: Curve, s_min: float) -> tuple[Tensor, Tensor, Tensor]:
    """Composite Gauss-Legendre rule: nodes (m, D), velocities (m, D) and du (m,)."""
    _, velocity = _point_and_velocity(curve, torch.linspace(0, 1, 257, dtype=torch.float64))
    if not (velocity.norm(dim=1) > 0).all():
        raise ValueError(
            "expected curves that never stand still, got one with Gamma'(u) = 0 or NaN."
        )
    n_panels = math.ceil(float(velocity.norm(dim=1).max()) / (_PANEL * s_min))
    roots, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(_NODES))
    left = torch.arange(n_panels, dtype=torch.float64)[:, None]
    u = ((left + (roots + 1) / 2) / n_panels).flatten()
    du = (weights / 2 / n_panels).repeat(n_panels)
    return *_point_and_velocity(curve, u), du


def _point_and_velocity(curve: Curve, u: Tensor) -> tuple[Tensor, Tensor]:
    """``Gamma(u)`` and ``Gamma'(u)``, (m, D) each."""
    column = u[:, None]
    velocity = push_forward(lambda v: curve(v[:, 0]), column, torch.ones_like(column)[None])[0]
    return curve(u), velocity


def circle(u: Tensor) -> Tensor:
    """Unit circle ``(cos 2 pi u, sin 2 pi u)``.

    Parameters
    ----------
    u : Tensor of shape (m,)

    Returns
    -------
    Tensor of shape (m, 2)
    """
    t = 2 * math.pi * u
    return torch.stack([torch.cos(t), torch.sin(t)], -1)


def upper_moon(u: Tensor) -> Tensor:
    """Half circle ``(cos pi u, sin pi u)``, of `alignlearn.datasets.make_moons_curve`.

    Parameters
    ----------
    u : Tensor of shape (m,)

    Returns
    -------
    Tensor of shape (m, 2)
    """
    return circle(u / 2)


def lower_moon(u: Tensor) -> Tensor:
    """Half circle ``(1 - cos pi u, 1/2 - sin pi u)``, the other one.

    Parameters
    ----------
    u : Tensor of shape (m,)

    Returns
    -------
    Tensor of shape (m, 2)
    """
    return torch.tensor([1.0, 0.5]).to(u) - circle(u / 2)


def figure_eight(u: Tensor) -> Tensor:
    """Lemniscate of Gerono ``(sin t, sin t cos t)``, ``t = 2 pi u``: it crosses itself.

    Parameters
    ----------
    u : Tensor of shape (m,)

    Returns
    -------
    Tensor of shape (m, 2)
    """
    t = 2 * math.pi * u
    return torch.stack([torch.sin(t), torch.sin(t) * torch.cos(t)], -1)


def trefoil(u: Tensor) -> Tensor:
    """Trefoil knot ``(sin t + 2 sin 2t, cos t - 2 cos 2t, -sin 3t) / 2``, ``t = 2 pi u``, in R^3.

    Parameters
    ----------
    u : Tensor of shape (m,)

    Returns
    -------
    Tensor of shape (m, 3)
    """
    t = 2 * math.pi * u
    x, y = torch.sin(t) + 2 * torch.sin(2 * t), torch.cos(t) - 2 * torch.cos(2 * t)
    return torch.stack([x, y, -torch.sin(3 * t)], -1) / 2


TWO_MOONS = (upper_moon, lower_moon)
