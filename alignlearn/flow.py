"""Flow: a field, a solver and a grid of times, i.e. the generating process as a map.

``F = F_{N-1} o ... o F_0`` maps noise (first time of the grid) to data (last time).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from alignlearn.derivatives import AUTOMATIC, Derivative
from alignlearn.schedules import Schedule
from alignlearn.solvers import Field, Solver, StochasticSolver

Denoiser = Callable[[Tensor, Tensor], Tensor]


def denoiser_field(denoise: Denoiser, schedule: Schedule) -> Field:
    """``(x, t) -> E[x_0 | x_t = x]`` from ``denoise(y, s)``, with ``y = x / alpha``.

    Parameters
    ----------
    denoise : callable (y (n, D), s) -> (n, D)
        Denoiser in variance-exploding coordinates.
    schedule : Schedule
        Of the coordinates x.

    Returns
    -------
    callable (x (n, D), t) -> (n, D)
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        return denoise(x / schedule.alpha(t).to(x), schedule.ratio(t))

    return field


def velocity_field(denoise: Denoiser, schedule: Schedule) -> Field:
    """``(x, t) -> dx/dt`` of the probability-flow ODE, from ``denoise(y, s)``.

    ``v = alpha' Den + sigma' (x - alpha Den) / sigma``, the conditional velocity averaged over
    the posterior (Lipman et al. 2023; Song et al. 2021, eq. 13).

    Parameters
    ----------
    denoise, schedule
        See `denoiser_field`.

    Returns
    -------
    callable (x (n, D), t) -> (n, D)
    """
    den_field = denoiser_field(denoise, schedule)

    def field(x: Tensor, t: Tensor) -> Tensor:
        den = den_field(x, t)
        noise = (x - schedule.alpha(t).to(x) * den) / schedule.sigma(t).to(x)
        return schedule.alpha_dot(t).to(x) * den + schedule.sigma_dot(t).to(x) * noise

    return field


@dataclass(frozen=True)
class Step:
    """One step of a flow as a map of rows, without its additive noise.

    Attributes
    ----------
    solver : Solver
    field : callable (x, t) -> Tensor
    t, s : Tensor
        Times between which it steps, 0-dimensional.
    """

    solver: Solver
    field: Field
    t: Tensor
    s: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Map x (n, D) at time t to time s."""
        return self.solver(self.field, x, self.t, self.s)


class Trajectory(NamedTuple):
    """States visited by a flow.

    Attributes
    ----------
    states : Tensor of shape (n_steps + 1, n, D)
        From noise to data; the last one is the end point.
    noise : Tensor of shape (n_steps, n, D) or None
        The frozen noise ``xi`` of a stochastic solver, None for an ODE and where nobody asks.
    """

    states: Tensor
    noise: Tensor | None


@dataclass(frozen=True)
class Flow:
    """The generating process ``F``: one `solver` step of `field` for each interval of `times`.

    Parameters
    ----------
    field : callable (x, t) -> Tensor
        Velocity or denoiser, as `solver` expects.
    solver : Solver
        One-step map.
    times : Tensor of shape (n_steps + 1,)
        Noise first, data last; decreasing, or equal where a corrector steps.
    elapsed : float
        Log-contraction of a direction normal to the data; the unit of Lyapunov exponents.
    derivative : Derivative
        How steps are differentiated; default forward and reverse mode, all columns at once.

    Examples
    --------
    >>> import torch
    >>> from alignlearn.flow import Flow
    >>> from alignlearn.schedules import VarianceExploding
    >>> from alignlearn.solvers import Exponential
    >>> schedule = VarianceExploding()
    >>> flow = Flow.from_denoiser(  # data at the origin: every direction is normal
    ...     lambda y, s: 0 * y, schedule, Exponential(schedule), n_steps=8, s_max=10.0, s_min=0.1
    ... )
    >>> flow.push(torch.ones(1, 2))
    tensor([[0.0100, 0.0100]])
    """

    field: Field
    solver: Solver
    times: Tensor
    elapsed: float = 1.0
    derivative: Derivative = AUTOMATIC

    @classmethod
    def from_denoiser(
        cls,
        denoise: Denoiser,
        schedule: Schedule,
        solver: Solver,
        *,
        n_steps: int,
        s_max: float,
        s_min: float,
    ) -> Flow:
        """Flow of a Gaussian path on a grid that is log-uniform in the noise-to-signal ratio.

        Parameters
        ----------
        denoise : callable (y, s) -> Tensor of shape (n, D)
            ``E[x_0 | x_0 + s z = y]``.
        schedule : Schedule
            Clock and scale of the path.
        solver : Solver
            One-step map; gets the velocity or the denoiser, as it declares.
        n_steps : int
            Steps of the grid, without those of a corrector.
        s_max, s_min : float
            First and last noise-to-signal ratio.
        """
        make = velocity_field if solver.takes_velocity else denoiser_field
        times = solver.stops(schedule.grid(n_steps, s_max, s_min))
        elapsed = solver.log_contraction(n_steps, s_max, s_min)
        return cls(make(denoise, schedule), solver, times, elapsed)

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.times) - 1

    def step(self, i: int) -> Step:
        """The map ``F_i`` from ``times[i]`` to ``times[i + 1]``, without its additive noise."""
        return Step(self.solver, self.field, self.times[i], self.times[i + 1])

    def orbit(self, z: Tensor, noise: Tensor | None = None) -> Trajectory:
        """Trajectory that starts at ``z (n, D)``; `noise` (n_steps, n or 1, D) if stochastic.

        Raises
        ------
        ValueError
            If the flow is stochastic and `noise` is missing, or the reverse.
        """
        stochastic = self._stochastic_solver(noise, "noise")
        states = [z]
        for i in range(self.n_steps):
            x = self.step(i)(states[-1])
            if stochastic is not None and noise is not None:
                x = x + self._scale(stochastic, i).to(x) * noise[i]
            states.append(x)
        return Trajectory(torch.stack(states), noise)

    def push(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Generate: the image ``F(z)`` of noise ``z (n, D)``."""
        return self.orbit(z, noise).states[-1]

    def pull(self, x: Tensor) -> Tensor:
        """Encode: the noise ``z`` with ``F(z) = x``, for an ODE solver."""
        return self.trajectory(x).states[0]

    def trajectory(self, x: Tensor, noising: Tensor | None = None) -> Trajectory:
        """Trajectory that ends at given points.

        An ODE is run backwards; every step is inverted to machine precision, so that the states
        are an orbit of the discrete flow. For reverse diffusion a noising path is drawn from x and
        the noise that makes every reverse step land on it is found and frozen.

        Parameters
        ----------
        x : Tensor of shape (n, D)
            End points.
        noising : Tensor of shape (n_steps, n or 1, D), optional
            Standard normal draws of the noising path, for a stochastic flow only. With 1 in the
            middle all rows share them, and a row does not depend on the rest of its batch.

        Returns
        -------
        Trajectory
            Its last state is `x`.

        Raises
        ------
        ValueError
            If the flow is stochastic and `noising` is missing, or the reverse.
        """
        states, stochastic = self.states_to(x, noising), self._stochastic_solver(noising, "noising")
        if stochastic is None:
            return Trajectory(states, None)
        xi = [
            (states[i + 1] - self.step(i)(states[i])) / self._scale(stochastic, i).to(x)
            for i in range(self.n_steps)
        ]
        return Trajectory(states, torch.stack(xi))

    def states_to(self, x: Tensor, noising: Tensor | None = None) -> Tensor:
        """States (n_steps + 1, n, D) of `trajectory`; the frozen noise, which costs as much, not.

        Parameters and errors are those of `trajectory`.
        """
        stochastic = self._stochastic_solver(noising, "noising")
        states = [x]
        for i in reversed(range(self.n_steps)):
            t, s = self.times[i], self.times[i + 1]
            if stochastic is None or noising is None:
                states.append(self._invert_step(states[-1], t, s))
            else:
                states.append(stochastic.noise_up(self.field, states[-1], s, t, noising[i]))
        return torch.stack(states[::-1])

    def _invert_step(self, x_s: Tensor, t: Tensor, s: Tensor, max_corrections: int = 20) -> Tensor:
        """Solve ``step(x_t) = x_s`` by defect correction around the backward step.

        Each correction multiplies the error by ``O(h^(order + 1))``, whatever the stretch; they end
        at rounding, or where they gain nothing more.
        """
        x_t = best = self.solver(self.field, x_s, s, t)
        target, smallest = x_s, math.inf
        rounding = 4 * torch.finfo(x_s.dtype).eps * float(x_s.abs().amax())
        for _ in range(max_corrections):
            defect = x_s - self.solver(self.field, x_t, t, s)
            size = float(defect.abs().amax())
            if not size < smallest:
                break
            best, smallest = x_t, size
            if size <= rounding:
                break
            target = target + defect
            x_t = self.solver(self.field, target, s, t)
        return best

    def _scale(self, solver: StochasticSolver, i: int) -> Tensor:
        return solver.noise_scale(self.times[i], self.times[i + 1])

    def _stochastic_solver(self, noise: Tensor | None, name: str) -> StochasticSolver | None:
        """The solver if it is stochastic, else None; noise must have been given accordingly."""
        if not isinstance(self.solver, StochasticSolver):
            if noise is not None:
                raise ValueError(
                    f"{type(self.solver).__name__} is deterministic and takes no {name}=."
                )
            return None
        if noise is None or len(noise) != self.n_steps:
            raise ValueError(
                f"{type(self.solver).__name__} is stochastic: pass {name}= of shape "
                f"({self.n_steps}, n or 1, D), standard normal."
            )
        return self.solver
