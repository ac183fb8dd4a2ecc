"""Laws of the sources of flow matching."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from tables import SOURCES, cases

from alignlearn.sources import EightGaussians, StandardGaussian

every_source = pytest.mark.parametrize("source", **cases(SOURCES))


@every_source
def test_density_integrates_to_one(source):
    axis = np.linspace(-8, 8, 401)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    mass = np.exp(source.log_density(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1, abs=1e-6)


@every_source
def test_sample_has_the_moments_of_the_density(source, rng):
    axis = np.linspace(-8, 8, 401)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    weight = np.exp(source.log_density(grid)) * (axis[1] - axis[0]) ** 2
    sample = source.sample(20_000, 2, rng)
    for power in (1, 2, 4):
        expected = weight @ grid**power
        np.testing.assert_allclose((sample**power).mean(0), expected, rtol=0.05, atol=0.1)


@every_source
def test_sample_is_reproducible(source):
    first, again = (source.sample(9, 2, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_densities_are_those_of_scipy(rng):
    x = rng.standard_normal((20, 2)) * 3
    normal = multivariate_normal(np.zeros(2)).logpdf(x)
    np.testing.assert_allclose(StandardGaussian().log_density(x), normal)
    source = EightGaussians(radius=2.0, scale=0.7)
    mixture = np.mean([multivariate_normal(c, 0.49).pdf(x) for c in source.centers], axis=0)
    np.testing.assert_allclose(source.log_density(x), np.log(mixture))


def test_density_far_away_is_finite():
    assert np.isfinite(EightGaussians().log_density(np.full((1, 2), 1e6))).all()


def test_eight_centers_lie_on_the_circle_at_equal_angles():
    centers = EightGaussians(radius=3.0).centers
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 3.0)
    gaps = np.linalg.norm(centers - np.roll(centers, 1, axis=0), axis=1)
    np.testing.assert_allclose(gaps, 6.0 * math.sin(math.pi / 8))


@pytest.mark.parametrize("name", ["radius", "scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "wide", None])
def test_impossible_parameter_is_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        EightGaussians(**{name: value})
