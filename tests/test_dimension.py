"""Laws of the step from exponents to a dimension."""

import numpy as np
import pytest
from oracles import gaussian_rates

from alignlearn.dimension import (
    TANGENT,
    estimate_dimension,
    local_extent,
    pointwise_dimension,
    prior_weights,
    spectral_gaps,
)

D = 6
RULES = [spectral_gaps, pointwise_dimension, estimate_dimension]


def spectrum(d, n=20, noise=0.03):
    """n points with d rates near 0 and D - d near -1."""
    rates = np.r_[np.full(d, -0.05), np.full(D - d, -0.95)]
    jitter = np.random.default_rng(d).uniform(-noise, noise, (n, D))
    return np.sort(rates + jitter)[:, ::-1]


@pytest.mark.parametrize("d", range(1, D))
def test_dimension_is_the_number_of_rates_that_do_not_contract(d):
    assert (pointwise_dimension(spectrum(d)) == d).all()
    estimate = estimate_dimension(spectrum(d))
    assert (estimate.dimension, estimate.confidence, estimate.resolved) == (d, 1.0, True)
    assert 0.5 < estimate.gap <= 1


def test_where_nothing_contracts_the_dimension_is_full_and_not_resolved():
    estimate = estimate_dimension(spectrum(D, noise=0.01))
    assert estimate.dimension == D and not estimate.resolved


def test_all_leading_directions_are_no_answer_where_there_are_more():
    rates = np.tile([0.0, -0.01, -0.05, -0.07, -0.09, -0.11], (20, 1))  # small gaps only
    for whole, expected in ((True, D), (False, 2)):
        assert (pointwise_dimension(rates, whole=whole) == expected).all()
        assert estimate_dimension(rates, whole=whole).dimension == expected


def test_guess_weighs_no_gap_where_there_are_more_directions():
    one = [0.0, -0.01, -0.147, -0.15, -0.155, -0.266, -0.27]  # gaps .25 and .15 at 2 and 5
    two = [0.0, -0.01, -0.059, -0.06, -0.065, -0.155, -0.16]  # .10 and .15
    rates = np.array([one, two] * 10)
    for whole, pointwise, expected in ((True, [5, 5], 5), (False, [2, 5], 2)):
        assert pointwise_dimension(rates[:2], 5.0, whole=whole).tolist() == pointwise
        assert estimate_dimension(rates, 5.0, whole=whole).dimension == expected
    flat = np.tile([0.0, -0.005, -0.01, -0.015, -0.02, -0.025], (20, 1))
    assert estimate_dimension(flat, 5.0, whole=False).dimension == 5


@pytest.mark.parametrize("d", range(1, D))
def test_minority_of_outliers_moves_the_confidence_only(d):
    outliers = spectrum(1 + d % (D - 1), n=6)
    estimate = estimate_dimension(np.r_[spectrum(d, n=14), outliers])
    assert estimate.dimension == d and estimate.confidence == pytest.approx(0.7)


@pytest.mark.parametrize("rule", RULES)
def test_order_of_the_points_does_not_matter(rule):
    rates = np.r_[spectrum(2, 12), spectrum(4, 8)]
    order = np.random.default_rng(0).permutation(20)
    expected = rule(rates)
    if rule is estimate_dimension:
        assert rule(rates[order]) == pytest.approx(expected)
    else:
        np.testing.assert_array_equal(rule(rates[order]), expected[order])


def test_gaps_sum_to_one_from_rate_zero_to_the_floor():
    rates = np.hstack([np.zeros((20, 1)), spectrum(3)])
    gaps = spectral_gaps(rates)
    assert (gaps >= 0).all()
    np.testing.assert_allclose(gaps.sum(1), 1.0)


def test_gaps_ignore_what_lies_beyond_the_floor_and_above_zero():
    rates = np.array([[0.3, 0.0, -1.0, -5.0]])
    np.testing.assert_allclose(spectral_gaps(rates), [[0.0, 1.0, 0.0, 0.0]])


def faint(gaps, n=20, jitter=0.0):
    """n points whose depths grow by the given steps from 0, on the scale of `spectral_gaps`."""
    depth = np.cumsum(gaps) + np.random.default_rng(0).uniform(-jitter, jitter, (n, len(gaps)))
    return np.sort(-TANGENT * np.expm1(np.clip(depth, 0, 1) * np.log1p(1 / TANGENT)))[:, ::-1]


def test_clear_gap_is_deaf_to_the_prior():
    for prior in (None, 1.0, 6.0):
        estimate = estimate_dimension(spectrum(3), prior)
        assert (estimate.dimension, estimate.clear) == (3, True)


def test_prior_decides_between_faint_gaps():
    """Two gaps of equal size, behind 2 and behind 5; the points are split between them."""
    rates = faint([0.0, 0.0, 0.15, 0.0, 0.0, 0.15], jitter=0.02)
    guesses = {guess: estimate_dimension(rates, guess) for guess in (2.0, 5.0)}
    assert {guess: e.dimension for guess, e in guesses.items()} == {2.0: 2, 5.0: 5}
    assert not any(e.clear for e in guesses.values())


def test_agreement_of_the_points_makes_a_faint_gap_clear():
    estimate = estimate_dimension(faint([0.0, 0.0, 0.2, 0.0, 0.0, 0.0]), 6.0)
    assert (estimate.dimension, estimate.clear, estimate.confidence) == (2, True, 1.0)


@pytest.mark.parametrize("prior, expected", [(3.6, 4), (40.0, D), (0.2, 1), (None, D)])
def test_without_any_gap_the_prior_is_the_answer(prior, expected):
    estimate = estimate_dimension(faint([0.01] * D), prior)
    assert estimate.dimension == expected and not estimate.resolved


@pytest.mark.parametrize("prior, expected", [(1.2, 1), (2.4, 2), (0.3, 1)])
def test_refuted_exponents_leave_the_answer_to_the_prior_however_clear_they_are(prior, expected):
    estimate = estimate_dimension(spectrum(3), prior, refuted=True)
    assert (estimate.dimension, estimate.resolved, estimate.clear) == (expected, False, False)
    assert estimate.confidence == 0.0


def test_weights_are_log_normal_around_the_prior():
    weights = prior_weights(8, 4.0)
    assert weights.argmax() == 3 and weights[3] == 1
    assert weights[1] == pytest.approx(weights[7])  # half and double
    np.testing.assert_array_equal(prior_weights(3, None), 1.0)


def test_extent_inverts_the_gaussian_closed_form():
    variances = np.array([9.0, 1.0, 0.04, 0.001, 0.0])
    rates = gaussian_rates(variances, 0.02, 5.0)
    np.testing.assert_allclose(local_extent(rates, 0.02, 5.0), np.sqrt(variances), atol=1e-8)


def test_extent_grows_with_the_rate_from_zero_to_infinity():
    extent = local_extent(np.array([-1.5, -1.0, -0.9, -0.5, -0.1, 0.0, 0.2]), 0.02, 5.0)
    assert extent[0] == 0 and np.isinf(extent[-2:]).all()
    assert (np.diff(extent[1:-1]) > 0).all() and not np.isnan(extent).any()


BAD = {
    "NaN": np.array([[0.0, np.nan]]),
    "infinity": np.array([[0.0, -np.inf]]),
    "1-D": np.zeros(3),
    "no points": np.zeros((0, 3)),
    "no exponents": np.zeros((3, 0)),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rates", BAD.values(), ids=BAD)
def test_bad_exponents_are_refused(rule, rates):
    with pytest.raises(ValueError, match="expected (finite )?exponents"):
        rule(rates)
