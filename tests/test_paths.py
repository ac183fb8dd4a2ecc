"""Laws of the paths of flow matching. Oracle: torchcfm's published formulas, in its own time."""

import math

import pytest
import test_schedules
import torch
from tables import PATHS, cases

from alignlearn.paths import LinearPath, SchroedingerBridgePath, TrigonometricPath
from alignlearn.schedules import Rectified, Trigonometric

every_path = pytest.mark.parametrize("path", **cases(PATHS))
times = torch.linspace(1e-3, 1 - 1e-3, 200, dtype=torch.float64)


@pytest.fixture
def pairs(generator):
    """Rows of data, of the source and of noise, and a time for each."""
    options = {"dtype": torch.float64, "generator": generator}
    x_0, x_1, z = (torch.randn(50, 3, **options) for _ in range(3))
    return x_0, x_1, z, 0.01 + 0.98 * torch.rand(50, 1, **options)


# torchcfm 1.0.7, conditional_flow_matching.py; there x0 is the source, x1 the data and t runs from
# the source at 0 to the data at 1. Each gives x_t and u_t.


def linear(x0, x1, t, z, sigma):
    """ConditionalFlowMatcher, and ExactOptimalTransportConditionalFlowMatcher for its pairs."""
    return t * x1 + (1 - t) * x0 + sigma * z, x1 - x0


def trigonometric(x0, x1, t, z, sigma):
    """VariancePreservingConditionalFlowMatcher."""
    cos, sin = torch.cos(math.pi / 2 * t), torch.sin(math.pi / 2 * t)
    return cos * x0 + sin * x1 + sigma * z, math.pi / 2 * (cos * x1 - sin * x0)


def bridge(x0, x1, t, z, sigma):
    """SchrodingerBridgeConditionalFlowMatcher, without the 1e-8 of its denominator."""
    mu_t = t * x1 + (1 - t) * x0
    xt = mu_t + sigma * torch.sqrt(t * (1 - t)) * z
    return xt, (1 - 2 * t) / (2 * t * (1 - t)) * (xt - mu_t) + x1 - x0


TORCHCFM = {
    "linear": (linear, LinearPath),
    "trigonometric": (trigonometric, TrigonometricPath),
    "Schroedinger bridge": (bridge, SchroedingerBridgePath),
}


@pytest.mark.parametrize(("formula", "make_path"), TORCHCFM.values(), ids=TORCHCFM)
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_state_and_target_are_those_of_torchcfm_in_reversed_time(formula, make_path, sigma, pairs):
    x_0, x_1, z, t = pairs
    path = make_path(sigma)
    state, velocity = formula(x_1, x_0, 1 - t, z, sigma)
    torch.testing.assert_close(path.state(x_0, x_1, z, t), state)
    torch.testing.assert_close(path.target(x_0, x_1, z, t), -velocity)


@every_path
def test_path_leads_from_the_data_to_the_source(path, pairs):
    """But for the noise that a path keeps at its ends."""
    x_0, x_1, z, t = pairs
    noise = path.gamma(torch.zeros_like(t)) * z
    torch.testing.assert_close(path.state(x_0, x_1, z, torch.zeros_like(t)), x_0 + noise)
    torch.testing.assert_close(path.state(x_0, x_1, z, torch.ones_like(t)), x_1 + noise)


@every_path
def test_target_is_the_derivative_of_the_state(path, pairs):
    x_0, x_1, z, t = pairs
    _, expected = torch.func.jvp(lambda t: path.state(x_0, x_1, z, t), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(path.target(x_0, x_1, z, t), expected)


@every_path
@pytest.mark.parametrize(
    "law",
    [
        test_schedules.test_noise_to_signal_ratio_strictly_increases,
        test_schedules.test_time_inverts_ratio,
    ],
    ids=lambda law: law.__name__,
)
def test_schedule_of_a_path_obeys_the_laws_of_schedules(law, path):
    law(path.schedule)


@every_path
@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_derivatives_of_the_schedule_are_those_of_forward_mode(path, name):
    test_schedules.test_derivative_formula_equals_forward_mode(path.schedule, name)


@every_path
def test_spread_of_the_schedule_is_that_of_source_and_noise(path):
    expected = torch.sqrt(path.beta(times) ** 2 + path.gamma(times) ** 2)
    torch.testing.assert_close(path.schedule.sigma(times), expected)
    product = path.gamma(times) * path.gamma_dot(times)
    torch.testing.assert_close(path.gamma_gamma_dot(times), product)


@pytest.mark.parametrize(
    ("path", "schedule"), [(LinearPath(), Rectified()), (TrigonometricPath(), Trigonometric())]
)
def test_path_without_noise_has_the_schedule_of_its_name(path, schedule):
    for name in ("alpha", "sigma", "alpha_dot", "sigma_dot", "ratio"):
        actual = getattr(path.schedule, name)(times)
        torch.testing.assert_close(actual, getattr(schedule, name)(times), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make_path", [LinearPath, TrigonometricPath, SchroedingerBridgePath])
@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf, "small", None])
def test_impossible_sigma_is_refused(make_path, sigma):
    with pytest.raises((TypeError, ValueError), match="sigma"):
        make_path(sigma)


def test_schroedinger_bridge_without_noise_is_refused():
    with pytest.raises(ValueError, match="LinearPath"):
        SchroedingerBridgePath(0.0)
