"""Errors of a generating process: their fields, where they act, and the flow with them in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from alignlearn._arrays import make_generator
from alignlearn.flow import Flow
from alignlearn.schedules import Schedule
from alignlearn.solvers import Field, Solver

# ----------------------------------------------------------------------------------- error fields


class ErrorField(ABC):
    """An error ``chi(x, t)`` of the generating process, one field for each of its steps."""

    @abstractmethod
    def fields(self, n_steps: int, n_features: int, generator: torch.Generator) -> Sequence[Field]:
        """Fields ``(x (n, D), t) -> (n, D)``, one a step, the first step first."""


def _check_size(size) -> None:
    if not isinstance(size, Real) or not 0 <= size < np.inf:
        raise ValueError(f"size must be a finite number of at least 0, got {size!r}.")


@dataclass(frozen=True)
class ConstantError(ErrorField):
    """``chi = size (1, ..., 1)`` at every point and time.

    Parameters
    ----------
    size : float
        L-infinity norm.
    """

    size: float

    def __post_init__(self) -> None:
        _check_size(self.size)

    def fields(self, n_steps: int, n_features: int, generator: torch.Generator) -> Sequence[Field]:
        """The same field for every step."""
        return [lambda x, t: torch.full_like(x, self.size)] * n_steps


@dataclass(frozen=True)
class RandomSignError(ErrorField):
    """``chi = size (+-1, ..., +-1)``: a sign for every coordinate, the same for all points.

    Parameters
    ----------
    size : float
        L-infinity norm.
    per_step : bool, default=False
        Whether signs are drawn anew at every step; otherwise once for the whole process.
    """

    size: float
    per_step: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)

    def fields(self, n_steps: int, n_features: int, generator: torch.Generator) -> Sequence[Field]:
        """Fields with their signs drawn."""
        n_draws = n_steps if self.per_step else 1
        signs = 2.0 * torch.randint(0, 2, (n_draws, n_features), generator=generator) - 1.0
        drawn = [
            lambda x, t, sign=sign: (self.size * sign).to(x).expand_as(x)  # type: ignore[misc]
            for sign in signs
        ]
        return drawn if self.per_step else drawn * n_steps


@dataclass(frozen=True)
class FieldError(ErrorField):
    """An error of the user's.

    Parameters
    ----------
    function : callable ``(x (n, D), t) -> (n, D)``
        On tensors in the coordinates of the flow; t = 0 is data, t = 1 noise.
    """

    function: Callable[[Tensor, Tensor], Tensor]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                "expected an error such as RandomSignError(0.1), or a callable (x, t) -> (n, D), "
                f"got {self.function!r}."
            )

    def fields(self, n_steps: int, n_features: int, generator: torch.Generator) -> Sequence[Field]:
        """The same field for every step, its values checked."""
        return [self._checked] * n_steps

    def _checked(self, x: Tensor, t: Tensor) -> Tensor:
        error = self.function(x, t)
        if not isinstance(error, Tensor) or error.shape != x.shape:
            got = tuple(error.shape) if hasattr(error, "shape") else type(error).__name__
            raise ValueError(
                f"expected an error field of the shape of its points, {tuple(x.shape)}, as a "
                f"tensor, got {got}."
            )
        if not torch.isfinite(error).all():
            raise ValueError(
                f"expected a finite error field, got NaN or infinity at t = {float(t):.3g}: bound "
                "it, as with torch.clamp."
            )
        return error.to(x)


# ---------------------------------------------------------------------------------- where they act


class Place(ABC):
    """What of the generating process an error is added to."""

    @abstractmethod
    def step(self, flow: Flow, i: int, chi: Field) -> Callable[[Tensor], Tensor]:
        """The map ``F_i`` of the flow with the error in it, without its additive noise."""


@dataclass(frozen=True)
class OnMap(Place):
    """``F_i(x) + chi(x, t_i)``: one error a step, whatever the length of the step."""

    def step(self, flow: Flow, i: int, chi: Field) -> Callable[[Tensor], Tensor]:
        """The step and the error at its start."""
        F, t = flow.step(i), flow.times[i]
        return lambda x: F(x) + chi(x, t)


@dataclass(frozen=True)
class _OnField(Place):
    """An error of the score or of the velocity, turned into one of the field of the solver.

    With ``v = alpha' Den + sigma' (x - alpha Den) / sigma`` and ``score = (alpha Den - x) /
    sigma^2``: ``d score = alpha / sigma^2 d Den`` and ``d v = -alpha lambda' d Den``, where lambda
    is ``log(sigma / alpha)``.

    Parameters
    ----------
    schedule : Schedule, optional
        Of the coordinates of the flow; default that of its solver.
    """

    schedule: Schedule | None = None

    def step(self, flow: Flow, i: int, chi: Field) -> Callable[[Tensor], Tensor]:
        """The step of the perturbed field."""
        gain = self._gain(flow.solver)

        def field(x: Tensor, t: Tensor) -> Tensor:
            return flow.field(x, t) + gain(t) * chi(x, t)

        return replace(flow, field=field).step(i)

    @abstractmethod
    def _gain(self, solver: Solver) -> Callable[[Tensor], Tensor | float]:
        """Factor, as a function of time, from this error to one of the field of the solver."""

    def _schedule_of(self, solver: Solver) -> Schedule:
        schedule = self.schedule
        if schedule is None:
            schedule = getattr(solver, "schedule", None)
        if schedule is None:
            raise ValueError(
                f"{type(solver).__name__} does not know the schedule of its coordinates: pass "
                f"it, as {type(self).__name__}(VarianceExploding(*model.noise_range_))."
            )
        return schedule


def _log_ratio_rate(schedule: Schedule, t: Tensor) -> Tensor:
    """``d log(sigma / alpha) / dt``."""
    sigma_rate = schedule.sigma_dot(t) / schedule.sigma(t)
    return sigma_rate - schedule.alpha_dot(t) / schedule.alpha(t)


@dataclass(frozen=True)
class OnScore(_OnField):
    """``score + chi`` in the coordinates x of the flow: ``Den + sigma^2 / alpha chi``.

    In the paper's G.1 chi is added to *twice* the score: its epsilon is ``2 size``.

    Parameters
    ----------
    schedule : Schedule, optional
        Of the coordinates of the flow; default that of its solver.
    """

    def _gain(self, solver: Solver) -> Callable[[Tensor], Tensor | float]:
        schedule = self._schedule_of(solver)
        if solver.takes_velocity:
            return lambda t: -_log_ratio_rate(schedule, t) * schedule.sigma(t) ** 2
        return lambda t: schedule.sigma(t) ** 2 / schedule.alpha(t)


@dataclass(frozen=True)
class OnVelocity(_OnField):
    """``dx/dt + chi`` with t from 1 (noise) to 0 (data), as in G.5 of the paper.

    Parameters
    ----------
    schedule : Schedule, optional
        Of the coordinates of the flow, needed if its solver takes a denoiser; default its own.
    """

    def _gain(self, solver: Solver) -> Callable[[Tensor], Tensor | float]:
        if solver.takes_velocity:
            return lambda t: 1.0
        schedule = self._schedule_of(solver)
        return lambda t: -1 / (schedule.alpha(t) * _log_ratio_rate(schedule, t))


@dataclass(frozen=True)
class PerturbedFlow(Flow):
    """A flow with an error in every step.

    Parameters
    ----------
    field, solver, times, elapsed, derivative
        Of the unperturbed flow.
    place : Place
        What the error is added to.
    errors : sequence of callables ``(x, t) -> (n, D)``
        One a step.
    """

    place: Place = OnMap()
    errors: Sequence[Field] = ()

    def step(self, i: int) -> Callable[[Tensor], Tensor]:
        """The perturbed map from ``times[i]`` to ``times[i + 1]``, without its additive noise."""
        plain = Flow(self.field, self.solver, self.times, self.elapsed, self.derivative)
        return self.place.step(plain, i, self.errors[i])


def perturb(
    flow: Flow, error, on: Place | None = None, *, n_features: int, random_state=None
) -> PerturbedFlow:
    """Put an error into a flow.

    Parameters
    ----------
    flow : Flow
        As from ``model.flow()``.
    error : ErrorField or callable ``(x, t) -> (n, D)``
        What is added.
    on : Place, optional
        Default ``OnVelocity()`` for a solver that takes a velocity, else ``OnScore()``: what it
        is added to.
    n_features : int
        Number of features D.
    random_state : int, RandomState instance or None, default=None
        Draws the signs of a `RandomSignError`.

    Returns
    -------
    PerturbedFlow
    """
    if on is None:
        on = OnVelocity() if flow.solver.takes_velocity else OnScore()
    if not isinstance(on, Place):
        raise TypeError(f"on must be OnScore(), OnVelocity() or OnMap(), got {on!r}.")
    error = error if isinstance(error, ErrorField) else FieldError(error)
    errors = error.fields(flow.n_steps, n_features, make_generator(random_state))
    if isinstance(on, OnScore) or (isinstance(on, OnVelocity) and not flow.solver.takes_velocity):
        on = replace(on, schedule=on._schedule_of(flow.solver))  # said here if it is missing
    of_flow = (flow.field, flow.solver, flow.times, flow.elapsed, flow.derivative)
    return PerturbedFlow(*of_flow, on, errors)
