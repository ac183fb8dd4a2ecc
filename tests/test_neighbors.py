"""Laws of the dimension from neighbour distances. Oracle: Gaussian data of known dimension."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from alignlearn.datasets import make_random_manifold, make_torus
from alignlearn.neighbors import calibrated_dimension, contradiction, neighbor_dimension


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


# --- what the closest neighbours see against what a model says of their scale ------------------


def curve(n, noise=0.0, random_state=None):
    """A closed curve in R^3."""
    rng = np.random.default_rng(random_state)
    t = rng.uniform(0, 2 * np.pi, n)
    X = np.c_[(2 + np.cos(3 * t)) * np.cos(t), (2 + np.cos(3 * t)) * np.sin(t), np.sin(3 * t)]
    return X + noise * rng.standard_normal(X.shape)


def torus(n, noise=0.0, random_state=None):
    """The torus in R^3."""
    return make_torus(n, noise=noise, random_state=random_state).points


def five_in_twenty(n, noise=0.0, random_state=None):
    """A random manifold."""
    return make_random_manifold(n, 5, 20, noise=noise, random_state=random_state).points


MANIFOLDS = {"curve": (curve, 1), "torus": (torus, 2), "5 in R^20": (five_in_twenty, 5)}
DENSITIES = {
    "cube": lambda rng, shape: rng.uniform(size=shape),
    "Gaussian": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape),
    "two sizes": lambda rng, shape: rng.normal(size=shape) * rng.choice([0.03, 1], (shape[0], 1)),
    "rounded": lambda rng, shape: rng.normal(size=shape).round(1),
}


def extents(X, *reach):
    """How far the data reach in each direction: as given, else nowhere."""
    return np.tile(np.r_[reach, np.zeros(X.shape[1] - len(reach))], (len(X), 1))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("name", MANIFOLDS)
def test_noise_never_contradicts_the_directions_it_hides(name, n, noise):
    make, d = MANIFOLDS[name]
    for seed in range(3):
        X = make(n, noise=noise, random_state=seed)
        noisy = [noise] * (X.shape[1] - d)
        assert contradiction(X, X[:200], extents(X[:200], *[np.inf] * d, *noisy)) is None


@pytest.mark.parametrize("d", [2, 3, 10])
@pytest.mark.parametrize("name", DENSITIES)
def test_density_never_contradicts_full_dimension(name, d):
    X = DENSITIES[name](np.random.default_rng(d), (1000, d))
    assert contradiction(X, X[:200], extents(X[:200], *[np.inf] * d)) is None


@pytest.mark.parametrize("name", MANIFOLDS)
def test_directions_without_any_extent_are_refuted(name):
    """A model that says that one more direction, or all, reach beyond the neighbours."""
    make, d = MANIFOLDS[name]
    X = make(3000, random_state=0)
    for claim in {d + 1, X.shape[1]} if d < 5 else {X.shape[1]}:
        seen = contradiction(X, X[:200], extents(X[:200], *[np.inf] * claim))
        assert seen == pytest.approx(d, rel=0.25)


def test_directions_thinner_than_the_distance_of_neighbours_are_no_claim():
    X = torus(1000, random_state=0)
    assert contradiction(X, X[:200], extents(X[:200], np.inf, np.inf, 0.01)) is None


def test_pieces_of_different_dimension_are_not_mixed():
    line, ball = flat(300, 1, 4, seed=1), 9 + flat(500, 4, 4, seed=2)
    X = np.r_[line, ball]
    right = np.r_[extents(line, np.inf), extents(ball, *[np.inf] * 4)]
    assert contradiction(X, X, right) is None
    wrong = np.r_[extents(line, np.inf), extents(ball, np.inf)]
    wrong[:300] = extents(line, *[np.inf] * 4)
    assert contradiction(X, X, wrong) is None  # the larger piece is asked, and claims too little
    assert contradiction(line, line, wrong[:300]) == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_units_order_repeated_and_almost_repeated_rows_contradict_nothing_new(scale):
    X = curve(600, random_state=0)
    thick = extents(X, np.inf, np.inf)
    seen = contradiction(X, X, thick)
    again = scale * np.r_[X[::-1], X[:50]]
    assert contradiction(again, scale * X, scale * thick) == pytest.approx(seen)
    full = np.random.default_rng(0).normal(size=(1000, 6))
    almost = np.r_[full, full[:100] * (1 + 1e-9)]
    assert contradiction(scale * almost, scale * full, extents(full, *[np.inf] * 6)) is None


@pytest.mark.parametrize("D", [4, 16, 60])
def test_isometric_embedding_changes_nothing_that_neighbours_see(D):
    """With many columns distances are rounded, and that of a row to itself is not always 0."""
    X = curve(600, random_state=0)
    turned = X @ ortho_group.rvs(D, random_state=D)[:3]
    seen = contradiction(X, X, extents(X, np.inf, np.inf))
    again = contradiction(turned, turned, extents(turned, np.inf, np.inf))
    assert again == pytest.approx(seen, rel=1e-3)


def test_few_rows_contradict_nothing():
    for n in (1, 3, 6):
        X = flat(n, 1, 3)
        assert contradiction(X, X, extents(X, np.inf, np.inf, np.inf)) is None
