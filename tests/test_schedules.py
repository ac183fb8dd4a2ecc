"""Laws of the noise schedules."""

import math

import pytest
import torch
from tables import SCHEDULES, cases

from alignlearn.schedules import Cosine, PaperCosine

every_schedule = pytest.mark.parametrize("schedule", **cases(SCHEDULES))
times = torch.linspace(1e-3, 1 - 1e-3, 500, dtype=torch.float64)


@every_schedule
def test_noise_to_signal_ratio_strictly_increases(schedule):
    assert (schedule.ratio(times).diff() > 0).all()


@every_schedule
@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_derivative_formula_equals_forward_mode(schedule, name):
    f, f_dot = getattr(schedule, name), getattr(schedule, f"{name}_dot")
    _, expected = torch.func.jvp(f, (times,), (torch.ones_like(times),))
    torch.testing.assert_close(f_dot(times), expected, rtol=1e-10, atol=1e-12)


@every_schedule
def test_time_inverts_ratio(schedule):
    torch.testing.assert_close(schedule.time(schedule.ratio(times)), times, rtol=1e-9, atol=0)


@every_schedule
@pytest.mark.parametrize("s", [1e-6, 1e-3, 1.0, 1e3])
def test_ratio_inverts_time_over_nine_decades(schedule, s):
    s = torch.tensor(s, dtype=torch.float64)
    torch.testing.assert_close(schedule.ratio(schedule.time(s)), s, rtol=1e-6, atol=0)


@every_schedule
def test_grid_is_log_uniform_between_its_ends_noise_first(schedule):
    grid = schedule.grid(7, 5.0, 0.1)
    expected = torch.linspace(math.log(5.0), math.log(0.1), 8, dtype=torch.float64)
    torch.testing.assert_close(schedule.ratio(grid).log(), expected, rtol=1e-9, atol=1e-9)
    assert (grid.diff() < 0).all() and grid.dtype == torch.float64


@every_schedule
@pytest.mark.parametrize(
    "n_steps, s_max, s_min", [(0, 1, 0.1), (4, 0.1, 1), (4, 1, 1), (4, 1, 0), (4, math.inf, 1)]
)
def test_impossible_grid_is_refused(schedule, n_steps, s_max, s_min):
    with pytest.raises(ValueError, match="n_steps|s_max > s_min"):
        schedule.grid(n_steps, s_max, s_min)


@pytest.mark.parametrize("name", ["linear VP", "cosine", "paper's cosine", "trigonometric"])
def test_variance_preserving_scales_sum_to_one(name):
    schedule = SCHEDULES[name]
    total = schedule.alpha(times) ** 2 + schedule.sigma(times) ** 2
    torch.testing.assert_close(total, torch.ones_like(times), rtol=1e-12, atol=0)


def test_rectified_path_is_a_straight_line():
    rectified = SCHEDULES["rectified"]
    torch.testing.assert_close(rectified.alpha(times) + rectified.sigma(times), times**0)


def test_papers_cosine_has_twice_the_published_beta():
    def beta(schedule):
        return -2 * schedule.alpha_dot(times) / schedule.alpha(times)

    torch.testing.assert_close(beta(PaperCosine()), 2 * beta(Cosine()), rtol=1e-12, atol=0)


def test_cosine_squared_scale_is_nichol_and_dhariwals():
    phase = (times + 0.008) / 1.008 * math.pi / 2
    expected = (phase.cos() / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    torch.testing.assert_close(Cosine().alpha(times) ** 2, expected, rtol=1e-12, atol=0)


@every_schedule
def test_noising_sde_has_the_moments_of_the_path(schedule):
    """``m' = f m`` and ``(sigma^2)' = 2 f sigma^2 + g^2``, by forward mode."""
    _, m_dot = torch.func.jvp(schedule.alpha, (times,), (torch.ones_like(times),))
    variance, v_dot = torch.func.jvp(
        lambda t: schedule.sigma(t) ** 2, (times,), (torch.ones_like(times),)
    )
    f, g2 = schedule.drift(times), schedule.diffusion(times)
    torch.testing.assert_close(f * schedule.alpha(times), m_dot, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(2 * f * variance + g2, v_dot, rtol=1e-9, atol=1e-9)
    assert (g2 > 0).all()


@pytest.mark.parametrize("name", ["linear VP", "cosine", "paper's cosine", "trigonometric"])
def test_diffusion_of_a_variance_preserving_path_is_beta(name):
    schedule = SCHEDULES[name]
    expected = -2 * schedule.drift(times)
    torch.testing.assert_close(schedule.diffusion(times), expected, rtol=1e-9, atol=0)
