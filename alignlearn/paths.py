"""Paths of flow matching: ``x_t = alpha(t) x_0 + beta(t) x_1 + gamma(t) z`` from data to source.

t = 0 is data ``x_0`` and t = 1 is the source ``x_1``, everywhere in this library (much of the
literature counts the other way round); z is standard normal. A stochastic interpolant (Albergo,
Boffi & Vanden-Eijnden 2023) in general; its conditional velocity
``u = alpha' x_0 + beta' x_1 + gamma' z`` is what flow matching regresses on (Lipman et al. 2023;
Tong et al. 2024). Lengths are in units of the data's standard deviation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from alignlearn.schedules import Schedule


@dataclass(frozen=True)
class Path(ABC):
    """A random path between a row of data and a row of the source.

    A new member defines the three scales, their derivatives and `time`. All of them take and return
    tensors of any shape. ``alpha(0) = beta(1) = 1`` and ``alpha(1) = beta(0) = 0``.

    Parameters
    ----------
    sigma : float
        Size of the noise on the path, in units of the data's standard deviation.

    Raises
    ------
    ValueError
        If `sigma` is negative or not finite.
    TypeError
        If it is no number.
    """

    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.sigma, Real):
            raise TypeError(f"sigma of a path must be a number, got {self.sigma!r}.")
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma of a path must be finite and at least 0, got {self.sigma}.")

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the data at time t."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Weight of the source at time t."""

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """Time derivative of `alpha`."""

    @abstractmethod
    def beta_dot(self, t: Tensor) -> Tensor:
        """Time derivative of `beta`."""

    def gamma(self, t: Tensor) -> Tensor:
        """Scale of the noise at time t: `sigma`, unless a member says otherwise."""
        return torch.full_like(t, self.sigma)

    def gamma_dot(self, t: Tensor) -> Tensor:
        """Time derivative of `gamma`."""
        return torch.zeros_like(t)

    def gamma_gamma_dot(self, t: Tensor) -> Tensor:
        """``gamma gamma'``, finite also where `gamma_dot` is not."""
        return torch.zeros_like(t)

    @abstractmethod
    def time(self, ratio: Tensor) -> Tensor:
        """Time at which ``sqrt(beta^2 + gamma^2) / alpha`` equals `ratio`."""

    @property
    def schedule(self) -> PathSchedule:
        """The same path seen as noising, see `PathSchedule`."""
        return PathSchedule(self)

    def state(self, x_0: Tensor, x_1: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """``x_t`` for rows (n, D) and times (n, 1)."""
        return self.alpha(t) * x_0 + self.beta(t) * x_1 + self.gamma(t) * z

    def target(self, x_0: Tensor, x_1: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Conditional velocity ``alpha' x_0 + beta' x_1 + gamma' z`` for rows (n, D), t (n, 1)."""
        return self.alpha_dot(t) * x_0 + self.beta_dot(t) * x_1 + self.gamma_dot(t) * z


@dataclass(frozen=True)
class PathSchedule(Schedule):
    """All that is not data on a path, as noise: ``sigma(t)^2 = beta^2 + gamma^2``.

    With independent pairs and a standard Gaussian source ``x_t = alpha x_0 + sigma(t) z`` in law,
    so that flow matching is a diffusion model with this schedule.

    Parameters
    ----------
    path : Path
        Which path.
    """

    path: Path

    def alpha(self, t: Tensor) -> Tensor:
        """``alpha`` of the path."""
        return self.path.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """``sqrt(beta^2 + gamma^2)``."""
        return torch.hypot(self.path.beta(t), self.path.gamma(t))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``alpha'`` of the path."""
        return self.path.alpha_dot(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """``(beta beta' + gamma gamma') / sigma``."""
        path = self.path
        return (path.beta(t) * path.beta_dot(t) + path.gamma_gamma_dot(t)) / self.sigma(t)

    def time(self, ratio: Tensor) -> Tensor:
        """Inverse of `ratio`."""
        return self.path.time(ratio)


@dataclass(frozen=True)
class LinearPath(Path):
    """``x_t = (1 - t) x_0 + t x_1 + sigma z``: straight lines, "CFM" and "OT-CFM".

    Rectified flow (Liu et al. 2023) for ``sigma = 0``. Tong et al. (2024), sections 3.2 and 4.

    Parameters
    ----------
    sigma : float, default=0
        Standard deviation of the noise, in units of the data's.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """``1 - t``."""
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        """``t``."""
        return t * torch.ones_like(t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``-1``."""
        return -torch.ones_like(t)

    def beta_dot(self, t: Tensor) -> Tensor:
        """``1``."""
        return torch.ones_like(t)

    def time(self, ratio: Tensor) -> Tensor:
        """``q / (1 + q)`` with ``q^2 + sigma^2 (1 + q)^2 = ratio^2``."""
        v = self.sigma**2
        excess = (ratio - self.sigma) * (ratio + self.sigma)
        q = excess / (v + torch.sqrt(v**2 + (1 + v) * excess))
        return q / (1 + q)


@dataclass(frozen=True)
class TrigonometricPath(Path):
    """``x_t = cos(pi t / 2) x_0 + sin(pi t / 2) x_1 + sigma z``, variance preserving.

    The interpolant of Albergo & Vanden-Eijnden (2023).

    Parameters
    ----------
    sigma : float, default=0
        Standard deviation of the noise, in units of the data's.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """``cos(pi t / 2)``."""
        return torch.cos(t * (math.pi / 2))

    def beta(self, t: Tensor) -> Tensor:
        """``sin(pi t / 2)``."""
        return torch.sin(t * (math.pi / 2))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``-pi / 2 sin(pi t / 2)``."""
        return -math.pi / 2 * self.beta(t)

    def beta_dot(self, t: Tensor) -> Tensor:
        """``pi / 2 cos(pi t / 2)``."""
        return math.pi / 2 * self.alpha(t)

    def time(self, ratio: Tensor) -> Tensor:
        """``2 / pi arctan q`` with ``q^2 + sigma^2 (1 + q^2) = ratio^2``."""
        excess = (ratio - self.sigma) * (ratio + self.sigma)
        return torch.atan(torch.sqrt(excess / (1 + self.sigma**2))) / (math.pi / 2)


@dataclass(frozen=True)
class SchroedingerBridgePath(Path):
    """``x_t = (1 - t) x_0 + t x_1 + sigma sqrt(t (1 - t)) z``: Brownian bridges, "SB-CFM".

    With pairs from `EntropicCoupling` of regularization ``2 sigma^2`` the flow has the marginals of
    the Schroedinger bridge between data and source (Tong et al. 2024, section 4.3). The noise
    vanishes like ``sqrt(t)``, so that the velocity is unbounded at both ends.

    Parameters
    ----------
    sigma : float, default=1
        Diffusion of the bridges, in units of the data's standard deviation; positive.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma == 0:
            raise ValueError("sigma of a Schroedinger bridge must be positive: 0 is LinearPath().")

    def alpha(self, t: Tensor) -> Tensor:
        """``1 - t``."""
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        """``t``."""
        return t * torch.ones_like(t)

    def gamma(self, t: Tensor) -> Tensor:
        """``sigma sqrt(t (1 - t))``."""
        return self.sigma * torch.sqrt(t * (1 - t))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``-1``."""
        return -torch.ones_like(t)

    def beta_dot(self, t: Tensor) -> Tensor:
        """``1``."""
        return torch.ones_like(t)

    def gamma_dot(self, t: Tensor) -> Tensor:
        """``sigma (1 - 2 t) / (2 sqrt(t (1 - t)))``."""
        return self.sigma * (1 - 2 * t) / (2 * torch.sqrt(t * (1 - t)))

    def gamma_gamma_dot(self, t: Tensor) -> Tensor:
        """``sigma^2 (1 - 2 t) / 2``."""
        return self.sigma**2 * (1 - 2 * t) / 2

    def time(self, ratio: Tensor) -> Tensor:
        """``q / (1 + q)`` with ``q^2 + sigma^2 q = ratio^2``."""
        v = self.sigma**2
        q = 2 * ratio**2 / (v + torch.sqrt(v**2 + 4 * ratio**2))
        return q / (1 + q)
