"""Laws of the dimension from neighbour distances. Oracle: Gaussian data of known dimension."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from alignlearn.neighbors import calibrated_dimension, neighbor_dimension


def flat(n, d, D, seed=0):
    """A d-dimensional Gaussian cloud in R^D."""
    Z = np.random.default_rng(seed).standard_normal((n, d))
    return Z @ ortho_group.rvs(D, random_state=seed)[:d]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_low_dimensions_need_no_calibration(d):
    assert neighbor_dimension(flat(4000, d, 5)) == pytest.approx(d, rel=0.07)


@pytest.mark.parametrize("d", [2, 5, 10, 15])
def test_calibration_takes_the_bias_out(d):
    X, reference = flat(1000, d, 20), np.random.default_rng(1).standard_normal((1000, 20))
    assert calibrated_dimension(X, reference, 0) == pytest.approx(d, rel=0.12)
    if d >= 10:
        assert neighbor_dimension(X) < 0.95 * d


def test_data_like_the_reference_are_full_dimensional():
    X, reference = (np.random.default_rng(seed).standard_normal((800, 12)) for seed in (0, 1))
    assert calibrated_dimension(X, reference, 0) == 12


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_units_order_and_repeated_rows_do_not_matter(scale):
    X = flat(300, 3, 4)
    again = scale * np.r_[X[::-1], X[:50]]
    assert neighbor_dimension(again) == pytest.approx(neighbor_dimension(X))


def test_few_rows_are_no_evidence():
    assert np.isnan(neighbor_dimension(np.zeros((50, 3))))
    assert np.isnan(neighbor_dimension(np.eye(3)))
    assert calibrated_dimension(np.eye(3), np.eye(3), 0) == 3
