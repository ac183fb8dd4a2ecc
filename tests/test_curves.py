"""Laws of densities on curves. Oracles: adaptive quadrature, samples, automatic differentiation."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import i0e
from tables import cases

from alignlearn.curves import (
    TWO_MOONS,
    CurveDensity,
    circle,
    figure_eight,
    lower_moon,
    trefoil,
    upper_moon,
)
from alignlearn.datasets import make_moons_curve
from alignlearn.flow import Flow
from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion
from alignlearn.tangent import lyapunov_frame

CURVES = {
    "two moons": TWO_MOONS,
    "circle": (circle,),
    "figure eight": (figure_eight,),
    "trefoil": (trefoil,),
}
every_curve = pytest.mark.parametrize("curves", **cases(CURVES))
every_noise = pytest.mark.parametrize("s", [0.02, 0.1, 1.0, 10.0])


def along(x):
    """A density with respect to arc length, not uniform."""
    return 1 + 0.5 * torch.sin(2 * x[..., 0])


def points_near(density, s, generator, n=5):
    """Points at a distance of the noise, where the data are seen from."""
    x = density.sample(n, generator)
    return x + s * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def speed(curve, u):
    """``|Gamma'(u)|`` by central difference."""
    h = 1e-5
    ends = curve(torch.tensor([u - h, u + h], dtype=torch.float64))
    return float((ends[1] - ends[0]).norm()) / (2 * h)


def integrated(curves, integrand, center):
    """``int integrand(x) q |Gamma'| du``, adaptive, with the panels split around `center`."""
    total = 0.0
    for curve in curves:

        def f(u, curve=curve):
            x = curve(torch.tensor([u], dtype=torch.float64))[0]
            return integrand(x) * float(along(x)) * speed(curve, u)

        u = torch.linspace(0, 1, 4001, dtype=torch.float64)
        near = (curve(u) - center).norm(dim=1)
        breaks = [float(u[near.argmin()]), 0.25, 0.5, 0.75]
        options = {"limit": 400, "epsabs": 1e-13, "epsrel": 1e-9}
        total += quad(f, 0, 1, points=sorted(breaks), **options)[0]
    return total


@every_curve
@pytest.mark.parametrize("s", [0.2])
def test_density_and_denoiser_are_those_of_adaptive_quadrature(curves, s, generator):
    density = CurveDensity.from_curves(*curves, s_min=0.05, weight=along)
    y = points_near(density, s, generator, n=1)
    D = y.shape[1]

    def kernel(x):
        return math.exp(-float((y[0] - x).square().sum()) / (2 * s**2))

    mass = integrated(curves, kernel, y[0])
    mean = [integrated(curves, lambda x, j=j: float(x[j]) * kernel(x), y[0]) for j in range(D)]
    length = integrated(curves, lambda x: 1.0, y[0])
    log_p = math.log(mass / length) - D / 2 * math.log(2 * math.pi * s**2)
    assert density.log_density(y, s).item() == pytest.approx(log_p, abs=1e-6)
    np.testing.assert_allclose(density.denoise(y, s)[0], np.array(mean) / mass, atol=1e-6)


@every_noise
def test_circle_has_the_bessel_closed_form(s, generator):
    """``p_s(y) = exp(-(1 + r^2) / 2 s^2) I_0(r / s^2) / (2 pi s^2)``, ``r = |y|``."""
    density = CurveDensity.from_curves(circle, s_min=0.02)
    y = points_near(density, s, generator, n=50)
    r = y.norm(dim=1).numpy()
    expected = np.log(i0e(r / s**2)) - (r - 1) ** 2 / (2 * s**2) - np.log(2 * np.pi * s**2)
    np.testing.assert_allclose(density.log_density(y, s), expected, atol=1e-9)


@every_curve
@every_noise
def test_score_is_the_gradient_of_the_log_density(curves, s, generator):
    density = CurveDensity.from_curves(*curves, s_min=0.02, weight=along)
    y = points_near(density, s, generator)
    gradient = torch.func.grad(lambda y: density.log_density(y, s).sum())(y)
    torch.testing.assert_close(density.score(y, s), gradient, rtol=1e-8, atol=1e-7)


@every_curve
def test_nodes_are_many_enough(curves, generator):
    """Four times as many change nothing, at the smallest noise level and three of it off."""
    coarse, fine = (CurveDensity.from_curves(*curves, s_min=s) for s in (0.02, 0.005))
    y = points_near(fine, 0.06, generator, n=100)
    torch.testing.assert_close(
        coarse.log_density(y, 0.02), fine.log_density(y, 0.02), rtol=0, atol=1e-8
    )
    torch.testing.assert_close(coarse.denoise(y, 0.02), fine.denoise(y, 0.02), rtol=0, atol=1e-9)


def test_moons_are_those_of_the_data_set(generator):
    """20,000 points of the sampler: their empirical denoiser is that of the curve."""
    X = torch.from_numpy(make_moons_curve(20_000, random_state=0).points)
    density = CurveDensity.from_curves(*TWO_MOONS, s_min=0.3)
    y = points_near(density, 0.3, generator, n=40)
    logits = -((y[:, None] - X) ** 2).sum(-1) / (2 * 0.3**2)
    empirical = torch.softmax(logits, -1) @ X
    torch.testing.assert_close(density.denoise(y, 0.3), empirical, rtol=0, atol=0.02)
    log_p = torch.logsumexp(logits, -1) - math.log(len(X) * 2 * math.pi * 0.3**2)
    torch.testing.assert_close(density.log_density(y, 0.3), log_p, rtol=0, atol=0.05)


@every_curve
def test_sample_has_the_moments_of_the_density(curves, generator):
    density = CurveDensity.from_curves(*curves, s_min=0.05, weight=along)
    x, w = density.sample(20_000, generator), density.log_weights.exp()
    torch.testing.assert_close(x.mean(0), w @ density.nodes, rtol=0, atol=0.04)
    torch.testing.assert_close((x**2).mean(0), w @ density.nodes**2, rtol=0, atol=0.05)
    assert w.sum() == pytest.approx(1)


def test_speed_of_the_parameter_does_not_matter(generator):
    """``|Gamma'| du`` is arc length: what the paper's appendix G.2 prints as ``Gamma' dt``."""
    even = CurveDensity.from_curves(circle, s_min=0.05)
    uneven = CurveDensity.from_curves(lambda u: circle((u + u**2) / 2), s_min=0.05)
    y = points_near(even, 0.2, generator, n=20)
    torch.testing.assert_close(uneven.denoise(y, 0.2), even.denoise(y, 0.2), rtol=0, atol=1e-10)


@pytest.mark.parametrize("moon", [upper_moon, lower_moon])
def test_half_of_the_mass_is_on_each_moon(moon):
    density = CurveDensity.from_curves(*TWO_MOONS, s_min=0.1)
    one = CurveDensity.from_curves(moon, s_min=0.1).nodes
    on_it = (density.nodes[:, None] - one).norm(dim=-1).amin(1) < 1e-12
    assert density.log_weights.exp()[on_it].sum() == pytest.approx(0.5)


@every_curve
def test_tangents_are_unit_and_follow_the_nodes(curves):
    density = CurveDensity.from_curves(*curves[:1], s_min=0.01)
    along_nodes = density.nodes.diff(dim=0)
    cosines = (along_nodes * density.tangents[:-1]).sum(1) / along_nodes.norm(dim=1)
    assert cosines.min() > 0.999
    torch.testing.assert_close(density.tangents.norm(dim=1), torch.ones(len(cosines) + 1).double())
    nearest = density.nearest(density.nodes[::7] + 1e-6)
    assert torch.equal(nearest, torch.arange(0, len(density.nodes), 7))


@pytest.mark.parametrize("make_solver", [ExponentialMidpoint, ReverseDiffusion])
def test_leading_lyapunov_vectors_of_the_exact_score_are_tangent(make_solver, generator):
    """To first order in the noise that is left, curvature 1 turns the tangent by ``s_min``."""
    schedule = VarianceExploding()
    density = CurveDensity.from_curves(*TWO_MOONS, s_min=0.02)
    flow = Flow.from_denoiser(
        density.denoise, schedule, make_solver(schedule), n_steps=24, s_max=1.0, s_min=0.02
    )
    i = torch.multinomial(density.log_weights.exp(), 60, True, generator=generator)
    x, noising = density.nodes[i], None
    if make_solver is ReverseDiffusion:
        noising = torch.randn(24, 1, 2, generator=generator, dtype=x.dtype)
    vectors = lyapunov_frame(flow, flow.trajectory(x, noising), 1).vectors[..., 0]
    cosines = (vectors * density.tangents[i]).sum(1).abs()
    assert cosines.quantile(0.05) > 0.995 and cosines.median() > 0.9995


@pytest.mark.parametrize(
    "curves, options, message",
    [
        ((), {"s_min": 0.1}, "a curve or more"),
        ((circle,), {"s_min": 0.0}, "s_min > 0"),
        ((circle,), {"s_min": math.nan}, "s_min > 0"),
        ((lambda u: circle(0 * u),), {"s_min": 0.1}, "never stand still"),
        ((lambda u: circle(u) / 0,), {"s_min": 0.1}, "never stand still"),
        ((circle,), {"s_min": 0.1, "weight": lambda x: x[:, 0]}, "not negative"),
        ((circle,), {"s_min": 0.1, "weight": lambda x: 0 * x[:, 0]}, "not all zero"),
    ],
)
def test_curve_that_carries_no_density_is_refused(curves, options, message):
    with pytest.raises(ValueError, match=message):
        CurveDensity.from_curves(*curves, **options)
