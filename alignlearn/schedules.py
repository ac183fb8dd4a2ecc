"""Noise schedules: the scalars of the Gaussian path x_t = alpha(t) x_0 + sigma(t) z.

t = 0 is data and t = 1 is noise, everywhere in this library. A schedule changes the clock and the
length unit of a generating process, never its geometry: with ``s = sigma_t / alpha_t`` and
``y = x_t / alpha_t`` every schedule is the same variance-exploding flow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule(ABC):
    """A Gaussian path ``x_t = alpha(t) x_0 + sigma(t) z`` with ``sigma / alpha`` increasing in t.

    A new member defines `alpha`, `sigma`, their derivatives and `time`, the inverse of `ratio`.
    All of them take and return tensors of any shape.
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the data at time t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Scale of the noise at time t."""

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """Time derivative of `alpha`."""

    @abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor:
        """Time derivative of `sigma`."""

    @abstractmethod
    def time(self, ratio: Tensor) -> Tensor:
        """Time at which ``sigma / alpha`` equals `ratio`."""

    def ratio(self, t: Tensor) -> Tensor:
        """Noise-to-signal ratio ``s = sigma(t) / alpha(t)``."""
        return self.sigma(t) / self.alpha(t)

    def drift(self, t: Tensor) -> Tensor:
        """``f = alpha' / alpha`` of the noising SDE ``dx = f x dt + g dW``; ``-beta / 2`` if VP."""
        return self.alpha_dot(t) / self.alpha(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """``g^2 = (sigma^2)' - 2 f sigma^2`` of the noising SDE; ``beta`` if VP."""
        return 2 * self.sigma(t) * (self.sigma_dot(t) - self.drift(t) * self.sigma(t))

    def grid(self, n_steps: int, s_max: float, s_min: float) -> Tensor:
        """Times of `n_steps` steps, log-uniform in the noise-to-signal ratio, noise first.

        Parameters
        ----------
        n_steps : int
            Number of steps, at least 1.
        s_max, s_min : float
            First and last noise-to-signal ratio, ``s_max > s_min > 0``.

        Returns
        -------
        times : Tensor of shape (n_steps + 1,), float64
            Strictly decreasing.

        Raises
        ------
        ValueError
            If `n_steps` is below 1 or the two ratios are not ``s_max > s_min > 0``.
        """
        if n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {n_steps}.")
        if not 0 < s_min < s_max < math.inf:
            raise ValueError(f"expected s_max > s_min > 0, got s_max={s_max}, s_min={s_min}.")
        log_s = torch.linspace(math.log(s_max), math.log(s_min), n_steps + 1, dtype=torch.float64)
        return self.time(torch.exp(log_s))


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """``alpha = 1, sigma = s_min^(1-t) s_max^t`` (Song et al. 2021, "VE SDE").

    Parameters
    ----------
    s_min, s_max : float
        Noise at t = 0 and t = 1.
    """

    s_min: float = 0.01
    s_max: float = 50.0

    def alpha(self, t: Tensor) -> Tensor:
        """``1``."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """``s_min (s_max / s_min)^t``."""
        return self.s_min * torch.exp(t * math.log(self.s_max / self.s_min))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``0``."""
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """``log(s_max / s_min) sigma``."""
        return math.log(self.s_max / self.s_min) * self.sigma(t)

    def time(self, ratio: Tensor) -> Tensor:
        """``log(ratio / s_min) / log(s_max / s_min)``."""
        return torch.log(ratio / self.s_min) / math.log(self.s_max / self.s_min)


@dataclass(frozen=True)
class LinearVP(Schedule):
    """Variance preserving with ``beta`` linear in t (Ho et al. 2020; Song et al. 2021, "VP SDE").

    ``log alpha = -(beta_max - beta_min) t^2 / 4 - beta_min t / 2`` and ``sigma^2 = 1 - alpha^2``.

    Parameters
    ----------
    beta_min, beta_max : float, default=0.1, 20
        Rate of the noising at t = 0 and t = 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -(self.beta_max - self.beta_min) * t**2 / 4 - self.beta_min * t / 2

    def alpha(self, t: Tensor) -> Tensor:
        """``exp(-(beta_max - beta_min) t^2 / 4 - beta_min t / 2)``."""
        return torch.exp(self._log_alpha(t))

    def sigma(self, t: Tensor) -> Tensor:
        """``sqrt(1 - alpha^2)``."""
        return torch.sqrt(-torch.expm1(2 * self._log_alpha(t)))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``-beta(t) alpha / 2``."""
        return -(self.beta_min + (self.beta_max - self.beta_min) * t) / 2 * self.alpha(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """``-alpha alpha' / sigma``."""
        return -self.alpha(t) * self.alpha_dot(t) / self.sigma(t)

    def time(self, ratio: Tensor) -> Tensor:
        """Root of ``-2 log alpha(t) = log(1 + ratio^2)``, quadratic in t."""
        # -2 log alpha = log(1 + ratio^2) = a t^2 + b t, solved without cancellation for small t.
        a, b, c = (self.beta_max - self.beta_min) / 2, self.beta_min, torch.log1p(ratio**2)
        return 2 * c / (b + torch.sqrt(b**2 + 4 * a * c))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Nichol & Dhariwal (2021): ``alpha = (cos phi_t / cos phi_0)^power``, variance preserving.

    ``phi_t = (t + offset) / (1 + offset) * pi / 2``. As published the squared cosine is the
    *squared* scale, ``power = 1``; the paper's appendix G.1 uses it as the scale itself, which
    doubles beta: that variant is `PaperCosine`.

    Parameters
    ----------
    offset : float, default=0.008
        Keeps the noise of the first steps from vanishing.
    """

    offset: float = 0.008
    _power = 1

    def _phase(self, t: Tensor) -> Tensor:
        return (t + self.offset) / (1 + self.offset) * (math.pi / 2)

    @property
    def _cos_0(self) -> float:
        return math.cos(self.offset / (1 + self.offset) * math.pi / 2)

    def alpha(self, t: Tensor) -> Tensor:
        """``(cos(phi_t) / cos(phi_0))^power``."""
        return (torch.cos(self._phase(t)) / self._cos_0) ** self._power

    def sigma(self, t: Tensor) -> Tensor:
        """``sqrt(1 - alpha^2)``."""
        # 1 - cos^2 a / cos^2 b = sin(a - b) sin(a + b) / cos^2 b: no cancellation near t = 0.
        phase, phase_0 = self._phase(t), self._phase(torch.zeros_like(t))
        from_0 = t / (1 + self.offset) * (math.pi / 2)
        one_minus = torch.sin(from_0) * torch.sin(phase + phase_0) / self._cos_0**2
        squared_scale = (torch.cos(phase) / self._cos_0) ** 2
        return torch.sqrt(one_minus * sum(squared_scale**j for j in range(self._power)))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``-power phi' tan(phi_t) alpha``."""
        phase_dot = math.pi / 2 / (1 + self.offset)
        return -self._power * phase_dot * torch.tan(self._phase(t)) * self.alpha(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """``-alpha alpha' / sigma``."""
        return -self.alpha(t) * self.alpha_dot(t) / self.sigma(t)

    def time(self, ratio: Tensor) -> Tensor:
        """Root of ``cos^2(phi_t) = cos^2(phi_0) (1 + ratio^2)^(-1 / power)``."""
        # q = sin^2 phi_t - sin^2 phi_0 = sin(phi_t - phi_0) sin(phi_t + phi_0), through expm1, and
        # phi_t - phi_0 from its own sine and cosine: no cancellation for tiny ratios.
        log_squared_scale = -torch.log1p(ratio**2) / self._power
        cos_0, sin_0 = self._cos_0, math.sin(self.offset / (1 + self.offset) * math.pi / 2)
        q = -(cos_0**2) * torch.expm1(log_squared_scale)
        cos, sin = cos_0 * torch.exp(log_squared_scale / 2), torch.sqrt(sin_0**2 + q)
        from_0 = torch.atan2(q / (sin * cos_0 + cos * sin_0), cos * cos_0 + sin * sin_0)
        return from_0 / (math.pi / 2) * (1 + self.offset)


@dataclass(frozen=True)
class PaperCosine(Cosine):
    """The cosine schedule as the paper's appendix G.1 states it (twice the published beta).

    Parameters
    ----------
    offset : float, default=0.008
        See `Cosine`.
    """

    _power = 2


@dataclass(frozen=True)
class Rectified(Schedule):
    """``alpha = 1 - t, sigma = t``: rectified flow with independent coupling (Liu et al. 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        """``1 - t``."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """``t``."""
        return t * torch.ones_like(t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``-1``."""
        return -torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """``1``."""
        return torch.ones_like(t)

    def time(self, ratio: Tensor) -> Tensor:
        """``ratio / (1 + ratio)``."""
        return ratio / (1 + ratio)


@dataclass(frozen=True)
class Trigonometric(Schedule):
    """``alpha = cos(pi t / 2), sigma = sin(pi t / 2)`` (Albergo & Vanden-Eijnden 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        """``cos(pi t / 2)``."""
        return torch.cos(t * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        """``sin(pi t / 2)``."""
        return torch.sin(t * (math.pi / 2))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``-pi / 2 sin(pi t / 2)``."""
        return -math.pi / 2 * self.sigma(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """``pi / 2 cos(pi t / 2)``."""
        return math.pi / 2 * self.alpha(t)

    def time(self, ratio: Tensor) -> Tensor:
        """``2 / pi arctan(ratio)``."""
        return torch.atan(ratio) / (math.pi / 2)
