"""One-step maps of a generating process: ``step(field, x, t, s) -> x_s`` from time t to time s < t.

Two kinds of field: Euler, Heun and RungeKutta4 integrate a *velocity* ``(x, t) -> dx/dt``; the
exponential solvers and reverse diffusion take a *denoiser* ``(x, t) -> E[x_0 | x_t = x]`` and solve
the linear part of the flow exactly. Times are 0-dimensional tensors, rows are independent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alignlearn.schedules import Schedule, VarianceExploding

Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Solver(ABC):
    """One step of a generating process.

    Attributes
    ----------
    order : int
        Global error is ``O(h^order)`` for step size h in log noise.
    contraction : int
        e-folds by which a direction normal to the data contracts per e-fold of noise removed:
        1 for the probability-flow ODE, 2 for reverse diffusion with frozen noise.
    takes_velocity : bool
        Whether `field` is a velocity; a denoiser otherwise.
    """

    order: ClassVar[int]
    contraction: ClassVar[int] = 1
    takes_velocity: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Map x (n, D) at time t to time s."""

    def stops(self, times: Tensor) -> Tensor:
        """Times between which it steps, given those of a schedule's grid: the same."""
        return times

    def log_contraction(self, n_steps: int, s_max: float, s_min: float) -> float:
        """e-folds by which `n_steps` steps of a grid contract a direction normal to the data."""
        return self.contraction * math.log(s_max / s_min)


@dataclass(frozen=True)
class Euler(Solver):
    """``x + h v(x, t)``, ``h = s - t``."""

    order = 1

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``x + h v(x, t)``."""
        return x + (s - t) * field(x, t)


@dataclass(frozen=True)
class Heun(Solver):
    """Explicit trapezoidal rule (Heun's second-order method)."""

    order = 2

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``x + h (k_1 + k_2) / 2``."""
        h = s - t
        k_1 = field(x, t)
        k_2 = field(x + h * k_1, s)
        return x + h / 2 * (k_1 + k_2)


@dataclass(frozen=True)
class RungeKutta4(Solver):
    """The classical fourth-order method."""

    order = 4

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``x + h (k_1 + 2 k_2 + 2 k_3 + k_4) / 6``."""
        h = s - t
        k_1 = field(x, t)
        k_2 = field(x + h / 2 * k_1, t + h / 2)
        k_3 = field(x + h / 2 * k_2, t + h / 2)
        k_4 = field(x + h * k_3, s)
        return x + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)


def _exponential_step(x: Tensor, den: Tensor, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """``x_s = alpha_s Den + (sigma_s / sigma_t) (x_t - alpha_t Den)``: exact for a constant Den."""
    r = (schedule.sigma(s) / schedule.sigma(t)).to(x.dtype)
    return r * x + (schedule.alpha(s).to(x.dtype) - r * schedule.alpha(t).to(x.dtype)) * den


@dataclass(frozen=True)
class Exponential(Solver):
    """First-order exponential integrator of the probability-flow ODE, the DDIM step.

    ``y' = r y + (1 - r) Den(y, s)`` in variance-exploding coordinates, ``r = s'/s``
    (Song, Meng & Ermon 2021).

    Parameters
    ----------
    schedule : Schedule, default=VarianceExploding()
        Of the coordinates in which it steps.
    """

    schedule: Schedule = VarianceExploding()
    order = 1
    takes_velocity = False

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``r y + (1 - r) Den(y, s)``, in the coordinates of the schedule."""
        return _exponential_step(x, field(x, t), self.schedule, t, s)


@dataclass(frozen=True)
class ExponentialMidpoint(Solver):
    """Second-order exponential integrator: the denoiser is taken at the midpoint in log noise.

    The single-step second-order DPM-Solver++ (Lu et al. 2022) with midpoint ratio 1/2.

    Parameters
    ----------
    schedule : Schedule, default=VarianceExploding()
        Of the coordinates in which it steps.
    """

    schedule: Schedule = VarianceExploding()
    order = 2
    takes_velocity = False

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``r y + (1 - r) Den(y_m, s_m)``, in the coordinates of the schedule."""
        m = self.schedule.time(torch.sqrt(self.schedule.ratio(t) * self.schedule.ratio(s)))
        x_m = _exponential_step(x, field(x, t), self.schedule, t, m)
        return _exponential_step(x, field(x_m, m), self.schedule, t, s)


@dataclass(frozen=True)
class StochasticSolver(Solver):
    """A solver whose step adds noise: ``x_s = step(x_t) + noise_scale * xi``.

    The noise is additive, so the tangent map of a step does not depend on it.
    """

    contraction = 2

    @abstractmethod
    def noise_scale(self, t: Tensor, s: Tensor) -> Tensor:
        """Standard deviation of the noise added by the step from t to s."""

    @abstractmethod
    def noise_up(self, field: Field, x: Tensor, s: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Noising (forward) step of x from time s to time t >= s with standard normal z."""


@dataclass(frozen=True)
class ReverseDiffusion(StochasticSolver):
    """Reverse diffusion with the exact Gaussian posterior step and frozen noise.

    ``y' = r^2 y + (1 - r^2) Den(y, s) + s' sqrt(1 - r^2) xi`` in variance-exploding coordinates,
    ``r = s'/s``: the ancestral step of Ho et al. (2020). The call is the step with ``xi = 0``.
    Order 1 is that of the drift.

    Parameters
    ----------
    schedule : Schedule, default=VarianceExploding()
        Of the coordinates in which it steps.
    """

    schedule: Schedule = VarianceExploding()
    order = 1
    takes_velocity = False

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``r^2 y + (1 - r^2) Den(y, s)``, in the coordinates of the schedule."""
        r2 = (self.schedule.ratio(s) / self.schedule.ratio(t)).to(x.dtype) ** 2
        alpha_t, alpha_s = self.schedule.alpha(t).to(x.dtype), self.schedule.alpha(s).to(x.dtype)
        return alpha_s * (r2 / alpha_t * x + (1 - r2) * field(x, t))

    def noise_scale(self, t: Tensor, s: Tensor) -> Tensor:
        """``sigma_s sqrt(1 - r^2)``."""
        return self.schedule.sigma(s) * torch.sqrt(
            1 - (self.schedule.ratio(s) / self.schedule.ratio(t)) ** 2
        )

    def noise_up(self, field: Field, x: Tensor, s: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """``y + sqrt(ratio_t^2 - ratio_s^2) z`` in variance-exploding coordinates."""
        return _gaussian_path_step(self.schedule, x, s, t, z)


def _gaussian_path_step(schedule: Schedule, x: Tensor, s: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """The exact transition of the noising process, which is linear, from time s to time t."""
    ratio_s, ratio_t = schedule.ratio(s), schedule.ratio(t)
    y = x / schedule.alpha(s).to(x) + torch.sqrt(ratio_t**2 - ratio_s**2).to(x) * z
    return schedule.alpha(t).to(x) * y


@dataclass(frozen=True)
class EulerMaruyama(StochasticSolver):
    """Euler-Maruyama steps of the reverse SDE with frozen noise: the paper's process (G.1).

    ``x_s = x - h (f x - g^2 score) + g sqrt(h) xi``, ``h = t - s``, everything taken at time t, for
    the noising SDE ``dx = f x dt + g dW`` of the schedule. (In the paper's letters ``f = -beta_t``
    and ``g^2 = 2 beta_t``.) Noising paths are drawn from its exact transition.

    It overshoots where ``h g^2 / sigma^2`` nears 1. On Gaussian data, where `ReverseDiffusion` is
    exact, the rate of a normal direction is 7 % too low at 32 steps a decade, log-uniform, and the
    error falls like the step.

    Parameters
    ----------
    schedule : Schedule, default=VarianceExploding()
        Of the coordinates in which it steps.
    """

    schedule: Schedule = VarianceExploding()
    order = 1
    takes_velocity = False

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``x - h (f x - g^2 score)`` with ``score = (alpha Den - x) / sigma^2``."""
        f, g2 = self.schedule.drift(t).to(x.dtype), self.schedule.diffusion(t).to(x.dtype)
        alpha, sigma = self.schedule.alpha(t).to(x.dtype), self.schedule.sigma(t).to(x.dtype)
        score = (alpha * field(x, t) - x) / sigma**2
        return x - (t - s).to(x.dtype) * (f * x - g2 * score)

    def noise_scale(self, t: Tensor, s: Tensor) -> Tensor:
        """``g sqrt(h)``."""
        return torch.sqrt(self.schedule.diffusion(t) * (t - s))

    def noise_up(self, field: Field, x: Tensor, s: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """``y + sqrt(ratio_t^2 - ratio_s^2) z`` in variance-exploding coordinates."""
        return _gaussian_path_step(self.schedule, x, s, t, z)


@dataclass(frozen=True)
class PredictorCorrector(StochasticSolver):
    """Steps of reverse diffusion, each followed by Langevin steps at the noise level reached.

    Algorithm 1 of Song et al. (2021). A corrector step is a step of length zero, with a place in
    the grid and frozen noise of its own; its linear part is exact, as everywhere here:

    ``x' = rho x + (1 - rho) alpha Den(x) + sigma sqrt(1 - rho^2) xi``, ``rho = exp(-step)``,

    which is ``x + eps score + sqrt(2 eps) xi`` with ``eps = step sigma^2`` up to ``O(step^2)``, and
    reversible where the data are one point.

    Parameters
    ----------
    predictor : StochasticSolver, default=ReverseDiffusion()
        Also says the schedule.
    n_corrections : int, default=1
        Corrector steps after each predictor step.
    step : float, default=0.05
        Length of a corrector step; Song's signal-to-noise ratio r = 0.16 is ``2 r^2``.
    """

    predictor: ReverseDiffusion | EulerMaruyama = ReverseDiffusion()
    n_corrections: int = 1
    step: float = 0.05
    order = 1
    takes_velocity = False

    def __post_init__(self) -> None:
        if not isinstance(self.predictor, StochasticSolver):
            raise TypeError(
                "expected a predictor that adds noise, such as ReverseDiffusion(schedule), got "
                f"{type(self.predictor).__name__}."
            )
        if not self.n_corrections >= 1 or not self.step > 0:
            raise ValueError(
                f"expected n_corrections >= 1 and step > 0, got n_corrections={self.n_corrections} "
                f"and step={self.step}; without corrections take the predictor alone."
            )

    @property
    def schedule(self) -> Schedule:
        """Of the coordinates in which the predictor steps."""
        return self.predictor.schedule

    def stops(self, times: Tensor) -> Tensor:
        """Every time but the first is repeated for its corrector steps."""
        return torch.cat([times[:1], times[1:].repeat_interleave(1 + self.n_corrections)])

    def log_contraction(self, n_steps: int, s_max: float, s_min: float) -> float:
        """That of the predictor, and `step` for every corrector step."""
        predicted = self.predictor.log_contraction(n_steps, s_max, s_min)
        return predicted + n_steps * self.n_corrections * self.step

    def __call__(self, field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """A step of the predictor if ``t > s``, else ``rho x + (1 - rho) alpha Den``."""
        if t > s:
            return self.predictor(field, x, t, s)
        rho = math.exp(-self.step)
        return rho * x + (1 - rho) * self.schedule.alpha(s).to(x.dtype) * field(x, s)

    def noise_scale(self, t: Tensor, s: Tensor) -> Tensor:
        """That of the predictor if ``t > s``, else ``sigma sqrt(1 - rho^2)``."""
        if t > s:
            return self.predictor.noise_scale(t, s)
        return self.schedule.sigma(s) * math.sqrt(-math.expm1(-2 * self.step))

    def noise_up(self, field: Field, x: Tensor, s: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """That of the predictor if ``t > s``, else a corrector step: Langevin is reversible."""
        if t > s:
            return self.predictor.noise_up(field, x, s, t, z)
        return self(field, x, s, t) + self.noise_scale(s, t).to(x) * z
