"""Laws of the one-class SVM's margins, against sums over all pairs and moves that are known."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel, sigmoid_kernel
from sklearn.svm import OneClassSVM
from tables import cases

from alignlearn.boundary import KernelBoundary
from alignlearn.margins import match_samples, measure_margins

GAMMA = 0.3
KERNELS = {  # of OneClassSVM, and the formula
    "rbf": ("rbf", lambda A, B: rbf_kernel(A, B, GAMMA)),
    "linear": ("linear", lambda A, B: A @ B.T),
    "poly": ("poly", lambda A, B: polynomial_kernel(A, B, 3, GAMMA, 0.0)),
    "sigmoid": ("sigmoid", lambda A, B: sigmoid_kernel(A, B, GAMMA, 0.0)),
    "callable": (lambda A, B: np.exp(-abs(A[:, None] - B).sum(2)), None),
}


def report_of(boundary, X, generated, frames, **options):
    options = {"length": 0.1, "random_state": np.random.RandomState(0)} | options
    return measure_margins(
        boundary,
        X,
        generated,
        frames,
        inside=lambda x: boundary.margin(x) >= 0,
        retrain=lambda x: KernelBoundary.fit(x, nu=0.1, kernel=boundary.kernel),
        training_scores=boundary.score(X),
        **options,
    )


@pytest.mark.parametrize("kernel, formula", **cases(KERNELS))
def test_margin_is_f_over_the_norm_of_w_by_double_sums(kernel, formula, rng):
    X, queries = rng.standard_normal((40, 3)) + 2, rng.standard_normal((15, 3)) + 2
    boundary = KernelBoundary.fit(X, nu=0.2, kernel=kernel, gamma=GAMMA)
    svm = OneClassSVM(nu=0.2, kernel=kernel, gamma=GAMMA).fit(X)
    K = formula or kernel
    dual = list(zip(svm.dual_coef_[0], svm.support_, strict=True))
    f = sum(a * K(queries, X[[i]])[:, 0] for a, i in dual)
    squared = sum(a * b * K(X[[i]], X[[j]])[0, 0] for a, i in dual for b, j in dual)
    np.testing.assert_allclose(boundary.score(queries), svm.score_samples(queries), rtol=1e-10)
    expected = (f - svm.offset_) / np.sqrt(squared)
    np.testing.assert_allclose(boundary.margin(queries), expected, rtol=1e-8, atol=1e-10)
    rows = zip(X[:15, None], queries[:, None], strict=True)
    pairs = [K(a, a) - 2 * K(a, b) + K(b, b) for a, b in rows]
    expected = np.sqrt(np.maximum(np.ravel(pairs), 0))
    np.testing.assert_allclose(boundary.feature_distance(X[:15], queries), expected, atol=1e-7)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_no_margin_changes_by_more_than_the_feature_distance_and_the_lipschitz_constant(
    kernel, rng
):
    X = rng.standard_normal((60, 4)) + 1
    boundary = KernelBoundary.fit(X, nu=0.1, kernel=kernel, gamma=GAMMA)
    Y = X + rng.standard_normal(X.shape) * 10.0 ** rng.uniform(-6, 0, (60, 1))
    change = abs(boundary.margin(Y) - boundary.margin(X))
    allowed = boundary.feature_distance(X, Y)
    assert (change <= allowed + 1e-12).all()
    assert (allowed <= boundary.lipschitz * np.linalg.norm(Y - X, axis=1) * (1 + 1e-9)).all()
    ratio = allowed[:30] / np.linalg.norm(Y - X, axis=1)[:30]
    assert ratio.max() > 0.99 * boundary.lipschitz  # and no smaller constant would do


def test_nystroem_boundary_is_an_expansion_in_its_points_and_close_to_the_exact_one(rng):
    X = rng.standard_normal((400, 2))
    options = {"nu": 0.1, "gamma": GAMMA, "random_state": 0}
    exact = KernelBoundary.fit(X, **options)
    fast = KernelBoundary.fit(X, n_exact=399, n_components=50, **options)
    assert len(fast.points) == 50
    assert np.mean(fast.margin(X) < 0) == pytest.approx(0.1, abs=0.01)
    far = 3 * rng.standard_normal((400, 2))
    assert np.mean((fast.margin(far) > 0) == (exact.margin(far) > 0)) > 0.93
    squared = fast.coefficients @ rbf_kernel(fast.points, gamma=GAMMA) @ fast.coefficients
    assert fast.norm == pytest.approx(np.sqrt(squared))


def test_matching_is_the_cheapest_of_all_and_nearly_so_in_slices(rng):
    X, Y = rng.standard_normal((2, 120, 2))
    cost = np.square(X[:, None] - Y).sum(2)
    cheapest = cost[linear_sum_assignment(cost)].sum()
    whole, slices = match_samples(X, Y), match_samples(X, Y, chunk=40)
    assert np.square(whole - X).sum() == pytest.approx(cheapest)
    assert cheapest <= np.square(slices - X).sum() < 2 * cheapest
    for matched in (whole, slices):
        np.testing.assert_array_equal(np.sort(matched, axis=0), np.sort(Y, axis=0))
    np.testing.assert_array_equal(match_samples(X, X[::-1]), X)
    with pytest.raises(ValueError, match="one shape"):
        match_samples(X, Y[:5])


def test_margin_is_unchanged_by_tangential_moves_on_a_flat_manifold_and_changed_by_normal_ones(rng):
    """The plane z = 1: symmetric data give ``w = c e_z``, and the kernel is linear."""
    plane = rng.standard_normal((60, 2))
    X = np.c_[np.r_[plane, -plane], np.ones(120)]
    frames = np.tile(np.eye(3)[:, :2], (120, 1, 1))
    boundary = KernelBoundary.fit(X, nu=0.1, kernel="linear")
    found = report_of(boundary, X, X, frames)
    np.testing.assert_allclose(found.margins["aligned"], found.margins["data"], atol=1e-4)
    change = np.abs(found.margins["normal"] - found.margins["data"])
    np.testing.assert_allclose(change, 0.1, atol=1e-4)  # all of the length
    assert found.offset_margin == pytest.approx(1.0, abs=1e-4)  # from the origin to the plane


def test_generator_that_repeats_the_data_keeps_every_margin(rng):
    X = rng.standard_normal((90, 3))
    frames = np.linalg.qr(rng.standard_normal((90, 3, 2))).Q
    boundary = KernelBoundary.fit(X, nu=0.1, gamma=GAMMA)
    found = report_of(boundary, X, X[rng.permutation(90)], frames)
    np.testing.assert_array_equal(found.margins["generated"], found.margins["data"])
    assert found.largest_change == 0 and abs(found.retraining_change) < 1e-3
    assert np.isnan(found.tangential_share) and "none" in repr(found)


def test_share_of_a_tangential_shift_is_one_and_of_a_normal_one_is_none(rng):
    X = np.c_[rng.uniform(-1, 1, (80, 1)), np.zeros((80, 2))]
    frames = np.tile(np.eye(3)[:, :1], (80, 1, 1))
    boundary = KernelBoundary.fit(X, nu=0.1)
    for shift, share in [([1e-3, 0, 0], 1), ([0, 1e-3, 0], 0), ([1e-3, 0, 1e-3], 0.5)]:
        found = report_of(boundary, X, X + shift, frames)
        assert found.tangential_share == pytest.approx(share, abs=1e-9)
        np.testing.assert_allclose(found.displacement, np.linalg.norm(shift))


def test_bounds_are_the_formulas_of_the_papers(rng):
    X = rng.standard_normal((50, 2))
    found = report_of(KernelBoundary.fit(X, nu=0.1), X, X, np.tile(np.eye(2)[:, :1], (50, 1, 1)))
    expected = (np.log(50) / found.offset_margin + np.log(50**2 / 0.2)) / 50
    assert found.proposition_bound(0.1) == pytest.approx(expected)
    assert found.schoelkopf_bound() == 1  # 16 * 103^2 / 50 is far above
    assert found.to_dict()["n_points"] == 50


def test_data_that_fill_the_space_have_no_normal_move(rng):
    X = rng.standard_normal((50, 2))
    found = report_of(KernelBoundary.fit(X, nu=0.1), X, X, np.tile(np.eye(2), (50, 1, 1)))
    assert "normal" not in found.margins and "across" not in repr(found)
