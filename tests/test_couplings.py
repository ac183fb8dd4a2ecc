"""Laws of the couplings of flow matching; oracles are all permutations and the dense plan."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from tables import COUPLINGS, cases

from alignlearn.couplings import EntropicCoupling, IndependentCoupling, OptimalTransportCoupling

every_coupling = pytest.mark.parametrize("coupling", **cases(COUPLINGS))
SIZES = [(40, 40), (40, 30), (30, 40), (40, 1), (1, 7), (3, 20)]


def clouds(n, m, rng, D=2):
    return rng.standard_normal((n, D)), rng.standard_normal((m, D)) + 1.0


def cost(x_0, x_1, i, j):
    return float(((x_0[i] - x_1[j]) ** 2).sum(1).mean())


@every_coupling
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_every_row_of_the_data_is_paired_equally_often_up_to_one(coupling, n, m, rng):
    x_0, x_1 = clouds(n, m, rng)
    i, j = coupling(x_0, x_1, rng)
    counts = np.bincount(i, minlength=n)
    assert len(i) == len(j) >= n and j.min() >= 0 and j.max() < m
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("coupling", list(COUPLINGS.values())[:3])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_every_row_of_the_source_is_paired_equally_often_up_to_one(coupling, n, m, rng):
    counts = np.bincount(coupling(*clouds(n, m, rng), rng)[1], minlength=m)
    assert counts.max() - counts.min() <= 1


@every_coupling
def test_coupling_is_reproducible_and_leaves_its_input_alone(coupling, rng):
    x_0, x_1 = clouds(30, 30, rng)
    before = x_0.copy(), x_1.copy()
    first, again = (coupling(x_0, x_1, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal((x_0, x_1), before)


@every_coupling
@pytest.mark.parametrize("D", [1, 2, 20])
def test_coupling_costs_no_more_than_independent_pairs(coupling, D, rng):
    """Pairs as they are drawn for the independent one; the others choose within the same."""
    x_0, x_1 = clouds(64, 64, rng, D)
    independent = cost(x_0, x_1, *IndependentCoupling()(x_0, x_1, np.random.default_rng(0)))
    assert cost(x_0, x_1, *coupling(x_0, x_1, np.random.default_rng(0))) <= independent


def test_optimal_transport_is_the_best_of_all_permutations(rng):
    for _ in range(20):
        x_0, x_1 = clouds(5, 5, rng)
        i, j = OptimalTransportCoupling()(x_0, x_1, rng)
        best = min(
            cost(x_0, x_1, np.arange(5), list(order)) for order in itertools.permutations(range(5))
        )
        assert cost(x_0, x_1, i, j) == pytest.approx(best)


def test_optimal_transport_on_the_line_keeps_the_order(rng):
    x_0, x_1 = clouds(100, 100, rng, D=1)
    i, j = OptimalTransportCoupling()(x_0, x_1, rng)
    order = np.argsort(x_0[i, 0])
    assert (np.diff(x_1[j, 0][order]) >= 0).all()


def test_blocks_cost_more_than_the_whole_and_less_than_none(rng):
    x_0, x_1 = clouds(256, 256, rng)
    costs = [
        cost(x_0, x_1, *OptimalTransportCoupling(size)(x_0, x_1, rng)) for size in (256, 32, 1)
    ]
    assert costs == sorted(costs)


@pytest.mark.parametrize("regularization", [100.0, 2.0, 0.5])
@pytest.mark.parametrize(("n", "m"), [(30, 30), (20, 35), (1, 4), (6, 1)])
def test_sinkhorn_has_the_marginals_of_its_rows_and_columns(regularization, n, m, rng):
    x_0, x_1 = clouds(n, m, rng)
    coupling = EntropicCoupling(regularization, max_iter=20_000, tol=1e-8)
    plan = np.exp(coupling.log_plan(x_0, x_1))
    np.testing.assert_allclose(plan.sum(1), 1 / n, atol=1e-7)
    np.testing.assert_allclose(plan.sum(0), 1 / m, atol=1e-7)


def test_sinkhorn_is_a_scaled_kernel(rng):
    """What makes it the entropic plan: ``log P + C / regularization = f_i + g_j``."""
    x_0, x_1 = clouds(12, 9, rng)
    residue = EntropicCoupling(0.5).log_plan(x_0, x_1) + cdist(x_0, x_1, "sqeuclidean") / 0.5
    mixed = residue - residue[:1] - residue[:, :1] + residue[0, 0]
    np.testing.assert_allclose(mixed, 0, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e4, 1e9])
def test_sinkhorn_neither_over_nor_underflows(scale, rng):
    x_0, x_1 = clouds(12, 12, rng)
    with np.errstate(invalid="raise", divide="raise", over="raise"):
        log_plan = EntropicCoupling(2.0).log_plan(x_0 * scale, x_1 * scale)
    assert not np.isnan(log_plan).any()
    np.testing.assert_allclose(np.exp(log_plan).sum(1), 1 / 12, rtol=1e-6)


def test_small_regularization_is_optimal_transport_and_large_is_none(rng):
    x_0, x_1 = clouds(40, 40, rng)
    squares = cdist(x_0, x_1, "sqeuclidean")
    best = cost(x_0, x_1, *OptimalTransportCoupling()(x_0, x_1, rng))
    for regularization, expected in ((1e-2, best), (1e6, squares.mean())):
        coupling = EntropicCoupling(regularization, max_iter=20_000)
        plan = np.exp(coupling.log_plan(x_0, x_1))
        assert (plan * squares).sum() == pytest.approx(expected, rel=0.02)


def test_entropic_partners_are_drawn_from_the_plan(rng):
    x_0, x_1 = clouds(4, 3, rng)
    coupling = EntropicCoupling(1.0)
    counts = np.zeros((4, 3))
    for _ in range(1500):
        np.add.at(counts, coupling(x_0, x_1, rng), 1 / 6000)
    np.testing.assert_allclose(counts, np.exp(coupling.log_plan(x_0, x_1)), atol=0.02)


@pytest.mark.parametrize("block_size", [0, -1, 2.5, "all", None])
def test_impossible_block_is_refused(block_size):
    with pytest.raises(ValueError, match="block_size"):
        OptimalTransportCoupling(block_size)


@pytest.mark.parametrize("name", ["regularization", "max_iter", "tol"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "small", None])
def test_impossible_parameter_of_sinkhorn_is_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        EntropicCoupling(**{name: value})
