"""Laws of the one-step maps."""

import math

import numpy as np
import pytest
import torch
from oracles import Mixture, gaussian_denoiser, reference_flow
from tables import SCHEDULES, SOLVERS, STOCHASTIC_SOLVERS, cases

from alignlearn.flow import Flow
from alignlearn.solvers import Exponential, ReverseDiffusion

S_MAX, S_MIN = 3.0, 0.3
every_schedule = pytest.mark.parametrize("schedule", **cases(SCHEDULES))
mixture = Mixture.example()
# Start points of the noise end, in variance-exploding coordinates.
starts = S_MAX * torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)))


def end_points(make_solver, schedule, n_steps, denoise=mixture.denoise):
    """Where a flow takes `starts`, in variance-exploding coordinates; noise is zero."""
    solver = make_solver(schedule)
    flow = Flow.from_denoiser(denoise, schedule, solver, n_steps=n_steps, s_max=S_MAX, s_min=S_MIN)
    x = schedule.alpha(flow.times[0]) * starts
    for i in range(n_steps):
        x = flow.step(i)(x)
    return x / schedule.alpha(flow.times[-1])


@pytest.fixture(scope="module")
def references():
    """End points of the drift with contraction 1 (ODE) and 2 (frozen noise), by DOP853."""
    return {c: reference_flow(mixture.denoise, starts, S_MAX, S_MIN, c) for c in (1, 2)}


@every_schedule
@pytest.mark.parametrize("make_solver", **cases(SOLVERS))
def test_slope_of_the_error_is_the_declared_order(make_solver, schedule, references):
    solver = make_solver(schedule)
    n_steps = np.array([12, 24]) if solver.order > 2 else np.array([40, 80])
    expected = references[solver.contraction]
    errors = [(end_points(make_solver, schedule, n) - expected).abs().max() for n in n_steps]
    slope = -np.polyfit(np.log(n_steps), np.log(errors), 1)[0]
    assert abs(slope - solver.order) < 0.35


@every_schedule
@pytest.mark.parametrize("make_solver", [Exponential, ReverseDiffusion])
def test_one_step_is_exact_where_the_denoiser_is_constant(make_solver, schedule):
    center = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    end = end_points(make_solver, schedule, 1, lambda y, s: center.expand_as(y))
    r = (S_MIN / S_MAX) ** make_solver(schedule).contraction
    torch.testing.assert_close(end, center + r * (starts - center), rtol=1e-9, atol=1e-12)


@every_schedule
@pytest.mark.parametrize("make_solver", **cases(STOCHASTIC_SOLVERS))
def test_reverse_step_is_the_regression_of_the_noising_step(make_solver, schedule):
    """Gaussian data: ``E[x_s | x_t] = Cov(x_s, x_t) Cov(x_t)^-1 x_t``."""
    c = torch.tensor([2.0, 0.3, 0.0], dtype=torch.float64)
    solver = make_solver(schedule)
    flow = Flow.from_denoiser(
        gaussian_denoiser(c.diag()), schedule, solver, n_steps=1, s_max=S_MAX, s_min=S_MIN
    )
    t, s = flow.times
    a_t, a_s = schedule.alpha(t), schedule.alpha(s)
    gain = a_s * a_t * (c + S_MIN**2) / (a_t**2 * (c + S_MAX**2))
    torch.testing.assert_close(flow.step(0)(starts), gain * starts, rtol=1e-9, atol=1e-12)


@every_schedule
@pytest.mark.parametrize("make_solver", **cases(STOCHASTIC_SOLVERS))
def test_noising_step_ends_at_the_variance_of_the_path(make_solver, schedule):
    """``Var = (alpha_t / alpha_s)^2 Var_s + noise``: exact for points of noise level s."""
    solver = make_solver(schedule)
    t, s = schedule.grid(1, S_MAX, S_MIN)
    zero, one = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    gain, noise = solver.noise_up(one, s, t, zero), solver.noise_up(zero, s, t, one)
    variance = gain**2 * schedule.sigma(s) ** 2 + noise**2
    torch.testing.assert_close(variance, (schedule.sigma(t) ** 2).expand(1, 3))


@every_schedule
@pytest.mark.parametrize("make_solver", **cases(STOCHASTIC_SOLVERS))
def test_reverse_step_ends_at_the_variance_of_the_path(make_solver, schedule):
    """Data in one point: the variance of a step's result is ``sigma_s^2``, exactly."""
    solver = make_solver(schedule)
    t, s = schedule.grid(1, S_MAX, S_MIN)
    one = torch.ones(1, 3, dtype=torch.float64)
    gain = solver(lambda x, t: 0 * x, one, t, s)
    variance = gain**2 * schedule.sigma(t) ** 2 + solver.noise_scale(t, s) ** 2
    torch.testing.assert_close(variance, (schedule.sigma(s) ** 2).expand(1, 3))


@pytest.mark.parametrize("make_solver", **cases(SOLVERS))
def test_step_of_length_zero_is_the_identity(make_solver):
    schedule = SCHEDULES["variance exploding"]
    t = schedule.time(torch.tensor(math.sqrt(S_MAX * S_MIN), dtype=torch.float64))
    end = make_solver(schedule)(lambda x, t: torch.sin(x), starts, t, t)
    torch.testing.assert_close(end, starts, rtol=1e-14, atol=1e-14)
