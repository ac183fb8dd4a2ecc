"""Laws of the one-step maps."""

import math

import numpy as np
import pytest
import torch
from oracles import Mixture, gaussian_denoiser, reference_flow
from tables import (
    ODE_SOLVERS,
    REVERSALS,
    SCHEDULES,
    SMOOTH_SCHEDULES,
    STOCHASTIC_SOLVERS,
    cases,
)

from alignlearn.flow import Flow, denoiser_field
from alignlearn.schedules import PaperCosine
from alignlearn.solvers import EulerMaruyama, Exponential, PredictorCorrector, ReverseDiffusion

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


ORDERED = {  # a solver that takes the velocity wants a smooth one
    f"{name}-{path}": (make_solver, schedule)
    for name, make_solver in (ODE_SOLVERS | REVERSALS).items()
    for path, schedule in SCHEDULES.items()
    if path in SMOOTH_SCHEDULES or not make_solver(schedule).takes_velocity
}


@pytest.mark.parametrize("make_solver, schedule", **cases(ORDERED))
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
def test_posterior_step_is_the_regression_of_the_noising_step(schedule):
    """Gaussian data: ``E[x_s | x_t] = Cov(x_s, x_t) Cov(x_t)^-1 x_t``."""
    c = torch.tensor([2.0, 0.3, 0.0], dtype=torch.float64)
    solver = ReverseDiffusion(schedule)
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

    def noised(x, z):
        return solver.noise_up(lambda x, t: 0 * x, x, s, t, z)

    gain, noise = noised(one, zero), noised(zero, one)
    variance = gain**2 * schedule.sigma(s) ** 2 + noise**2
    torch.testing.assert_close(variance, (schedule.sigma(t) ** 2).expand(1, 3))


def variance_after(solver, t, s):
    """Data in one point: variance after the reverse step from t, where it is ``sigma_t^2``."""
    gain = solver(lambda x, t: 0 * x, torch.ones(1, 1, dtype=torch.float64), t, s).squeeze()
    return gain**2 * solver.schedule.sigma(t) ** 2 + solver.noise_scale(t, s) ** 2


@every_schedule
def test_posterior_step_ends_at_the_variance_of_the_path(schedule):
    t, s = schedule.grid(1, S_MAX, S_MIN)
    torch.testing.assert_close(
        variance_after(ReverseDiffusion(schedule), t, s), schedule.sigma(s) ** 2
    )


@every_schedule
def test_euler_maruyama_step_ends_at_the_variance_of_the_path_to_first_order(schedule):
    """What it misses falls with the square of the step."""
    t, *_ = schedule.grid(1, S_MAX, S_MIN)
    misses = []
    for h in (1e-3, 5e-4):
        s = t * (1 - h)
        misses.append(variance_after(EulerMaruyama(schedule), t, s) - schedule.sigma(s) ** 2)
    assert float(misses[0] / misses[1]) == pytest.approx(4, abs=0.1)


def test_euler_maruyama_on_the_papers_schedule_is_the_papers_step():
    """G.1: ``Y + beta (Y + 2 score) dt`` with noise ``sqrt(2 beta dt)`` and its formula of beta."""
    schedule = PaperCosine()
    t, dt = torch.tensor(0.6, dtype=torch.float64), 1e-3
    phase = math.pi / 2 * (0.6 + schedule.offset) / (1 + schedule.offset)
    beta = math.pi / (1 + schedule.offset) * math.tan(phase)
    field = denoiser_field(mixture.denoise, schedule)
    score = (schedule.alpha(t) * field(starts, t) - starts) / schedule.sigma(t) ** 2
    solver = EulerMaruyama(schedule)
    step = solver(field, starts, t, t - dt)
    torch.testing.assert_close(step, starts + beta * (starts + 2 * score) * dt)
    assert float(solver.noise_scale(t, t - dt)) == pytest.approx(math.sqrt(2 * beta * dt))


@every_schedule
def test_corrector_step_keeps_the_law_of_the_path_where_data_are_one_point(schedule):
    solver = PredictorCorrector(ReverseDiffusion(schedule), 1, 0.3)
    t = schedule.grid(1, S_MAX, S_MIN)[-1]
    torch.testing.assert_close(variance_after(solver, t, t), schedule.sigma(t) ** 2)


@every_schedule
def test_corrector_step_is_a_langevin_step_to_first_order(schedule):
    """``x + eps score + sqrt(2 eps) xi``, ``eps = step sigma^2`` (Song et al. 2021)."""
    t = schedule.grid(1, S_MAX, S_MIN)[-1]
    field, sigma = denoiser_field(mixture.denoise, schedule), schedule.sigma(t)
    score = (schedule.alpha(t) * field(starts, t) - starts) / sigma**2
    step = 1e-4
    solver = PredictorCorrector(ReverseDiffusion(schedule), 1, step)
    moved = (solver(field, starts, t, t) - starts) / (step * sigma**2)
    torch.testing.assert_close(moved, score, rtol=1e-3, atol=1e-6)
    noise = float(solver.noise_scale(t, t) / (math.sqrt(2 * step) * sigma))
    assert noise == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("n_corrections, step", [(0, 0.1), (1, 0.0), (1, math.nan)])
def test_corrector_that_does_nothing_is_refused(n_corrections, step):
    with pytest.raises(ValueError, match="n_corrections >= 1 and step > 0"):
        PredictorCorrector(ReverseDiffusion(), n_corrections, step)


def test_predictor_without_noise_is_refused():
    with pytest.raises(TypeError, match="a predictor that adds noise"):
        PredictorCorrector(Exponential())


@pytest.mark.parametrize("make_solver", **cases(ODE_SOLVERS | REVERSALS))
def test_step_of_length_zero_is_the_identity(make_solver):
    schedule = SCHEDULES["variance exploding"]
    t = schedule.time(torch.tensor(math.sqrt(S_MAX * S_MIN), dtype=torch.float64))
    end = make_solver(schedule)(lambda x, t: torch.sin(x), starts, t, t)
    torch.testing.assert_close(end, starts, rtol=1e-14, atol=1e-14)
