"""Laws of the support: what it takes for fitted, where it draws the line, what its report holds."""

import copy
import json
import pickle

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM
from tables import MODELS, cases

from alignlearn import LyapunovManifold, ManifoldSupport, load, save
from alignlearn.datasets import make_sphere
from alignlearn.models import GaussianModel, KernelDiffusion

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SEED = 100
CIRCLE = make_sphere(300, 1, n_features=4, noise=0.02, random_state=SEED)
X = CIRCLE.points
FRESH = make_sphere(200, 1, n_features=4, noise=0.02, random_state=SEED, sample_state=1)


def small(model=None):
    model = KernelDiffusion() if model is None else model
    options = {"n_steps": 3, "n_paths": 2, "n_reference": 20, "window": (0.05, 0.5)}
    return LyapunovManifold(model=model, random_state=0, **options)


@pytest.fixture(scope="module")
def support():
    """Fitted, its report measured; not to be changed."""
    s = ManifoldSupport(small(), n_report=100, random_state=0).fit(X)
    assert s.margin_report_ is s.margin_report_  # measured once
    return s


def off(sample, length, seed=SEED):
    """Points of a sample moved by a length across the manifold."""
    E, step = sample.tangents, np.random.default_rng(seed).standard_normal(sample.points.shape)
    step -= (E @ (E.swapaxes(1, 2) @ step[..., None]))[..., 0]
    return sample.points + length * step / np.linalg.norm(step, axis=1, keepdims=True)


@pytest.mark.parametrize("n_exact", [10_000, 100])
@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly", "sigmoid"])
def test_decision_is_score_minus_offset_and_predict_is_its_sign(kernel, n_exact):
    s = ManifoldSupport(small(), kernel=kernel, n_exact=n_exact, random_state=0).fit(X)
    queries = np.r_[X, off(FRESH, 0.3)]
    scores, decision = s.score_samples(queries), s.decision_function(queries)
    np.testing.assert_array_equal(decision, scores - s.offset_)
    np.testing.assert_array_equal(s.predict(queries), np.where(decision >= 0, 1, -1))
    assert (scores <= 0).all() and np.isfinite(scores).all()
    assert set(s.predict(queries)) == {-1, 1}


def test_fresh_points_are_inside_and_points_off_the_manifold_are_not(support):
    assert np.mean(support.predict(FRESH.points) == 1) > 0.85
    assert np.mean(support.predict(off(FRESH, 0.3)) == 1) < 0.05
    assert np.mean(support.predict([[3.0, 0, 0, 0], [0, 0, 0, 0]]) == 1) == 0


def test_score_falls_with_the_distance_from_the_manifold(support):
    means = [support.score_samples(off(FRESH, step)).mean() for step in (0, 0.1, 0.2, 0.4, 0.8)]
    assert np.all(np.diff(means) < 0)


def test_a_step_across_is_seen_that_the_svm_alone_does_not_see(support):
    inliers, outliers = FRESH.points, off(FRESH, 0.15)
    labels = np.repeat([1, 0], 200)

    def auc(score):
        return roc_auc_score(labels, np.r_[score(inliers), score(outliers)])

    assert auc(support.score_samples) > 0.95
    assert auc(support.score_samples) > auc(OneClassSVM(nu=0.05).fit(X).score_samples) + 0.1


def test_a_small_step_out_of_the_linear_span_is_seen_beside_large_noise_within():
    turn = np.linalg.qr(np.random.default_rng(SEED).standard_normal((6, 6))).Q
    plane, normal = turn[:2], turn[2]
    inside = [make_sphere(300, 1, noise=0.1, random_state=seed).points @ plane for seed in (0, 1)]
    s = ManifoldSupport(small(), random_state=0).fit(inside[0])
    assert s.manifold_.model_.scaling_.rank == 2
    scores = s.score_samples(inside[1]), s.score_samples(inside[1] + 0.05 * normal)
    assert roc_auc_score(np.repeat([1, 0], 300), np.concatenate(scores)) > 0.99
    assert (s.predict(inside[1]) == 1).mean() > 0.85


@pytest.mark.parametrize("make_model", **cases(MODELS))
def test_fitted_models_and_manifolds_are_used_as_they_are(make_model):
    rows = X[:60]
    model = make_model().fit(rows)
    manifold = small(make_model()).fit(rows)
    for given in (model, FrozenEstimator(manifold)):
        before = pickle.dumps(given)
        s = ManifoldSupport(given, n_report=20, random_state=0).fit(rows)
        assert pickle.dumps(given) == before
        used = s.manifold_.model_ if given is model else s.manifold_
        assert used is (given.estimator if isinstance(given, FrozenEstimator) else given)


def test_unfitted_model_is_cloned_and_fitted():
    s = ManifoldSupport(GaussianModel(), random_state=0).fit(X)
    assert isinstance(s.manifold_, LyapunovManifold)
    assert type(s.manifold_.model_) is GaussianModel
    with pytest.raises(NotFittedError):
        s.manifold.sample(1)


def test_clone_forgets_a_fitted_manifold_and_keeps_a_frozen_one():
    manifold = small().fit(X)
    assert clone(ManifoldSupport(FrozenEstimator(manifold))).fit(X).manifold_ is manifold
    assert clone(ManifoldSupport(manifold)).fit(X).manifold_ is not manifold


REFUSED = {
    "foreign": (lambda: OneClassSVM(), TypeError, "manifold must be a LyapunovManifold"),
    "class": (lambda: LyapunovManifold, TypeError, "manifold must be a LyapunovManifold"),
    "other features": (
        lambda: GaussianModel().fit(X[:, :3]),
        ValueError,
        "has 3 features, X has 4: fit it to such rows",
    ),
    "frozen, unfitted": (lambda: FrozenEstimator(small()), NotFittedError, "not fitted"),
}


@pytest.mark.parametrize("make, kind, message", **cases(REFUSED))
def test_manifold_that_cannot_be_used_is_refused(make, kind, message):
    s = ManifoldSupport(make())
    with pytest.raises(kind, match=message):
        s.fit(X)
    with pytest.raises(NotFittedError):
        s.predict(X)


def test_too_few_rows_are_refused_and_questions_before_fit():
    with pytest.raises(ValueError, match="minimum of 10"):
        ManifoldSupport(small()).fit(X[:9])
    assert ManifoldSupport(small()).fit(X[:10]).predict(X[:10]).shape == (10,)
    for question in ("predict", "score_samples", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(ManifoldSupport(), question)(X)
    with pytest.raises(AttributeError, match="after fit"):
        _ = ManifoldSupport().margin_report_


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(bad, support):
    spoiled = X.copy()
    spoiled[3, 1] = bad
    for ask in (ManifoldSupport(small()).fit, support.predict):
        with pytest.raises(ValueError, match="NaN|infinity"):
            ask(spoiled)


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_units_change_no_answer(unit, support):
    s = ManifoldSupport(small(), random_state=0).fit(X * unit)
    queries = np.r_[FRESH.points, off(FRESH, 0.3)]
    expected = support.score_samples(queries)
    np.testing.assert_allclose(s.score_samples(queries * unit), expected, rtol=1e-6, atol=1e-6)
    report, plain = s.margin_report_, support.margin_report_
    assert report.length / unit == pytest.approx(plain.length)


def test_points_far_away_are_outside_or_refused_with_the_reason(support):
    for distance in (1e2, 1e6, 1e30, 1e200):
        try:
            assert (support.predict(distance * X[:5]) == -1).all()
        except ValueError as error:
            assert "training data" in str(error)


def test_workers_change_no_bit():
    s = ManifoldSupport(small(), random_state=0).fit(X)
    expected = s.score_samples(FRESH.points)
    with parallel_config("threading"):
        parallel = ManifoldSupport(small(), n_jobs=2, random_state=0).fit(X)
        np.testing.assert_array_equal(parallel.score_samples(FRESH.points), expected)
    again = ManifoldSupport(small(GaussianModel()).set_params(random_state=None), random_state=0)
    first, second = (clone(again).fit(X).score_samples(FRESH.points) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("way", ["file", "pickle", "deepcopy", "skops"])
def test_copy_gives_the_same_answers_and_the_same_report(way, support, tmp_path):
    if way == "file":
        save(support, tmp_path / "support.safetensors")
        twin = load(tmp_path / "support.safetensors")
    elif way == "skops":
        io = pytest.importorskip("skops.io")
        data = io.dumps(support)
        twin = io.loads(data, trusted=io.get_untrusted_types(data=data))
    else:
        twin = copy.deepcopy(support) if way == "deepcopy" else pickle.loads(pickle.dumps(support))
    np.testing.assert_array_equal(
        twin.decision_function(FRESH.points), support.decision_function(FRESH.points)
    )
    assert twin.margin_report_.to_dict() == support.margin_report_.to_dict()
    assert vars(twin).keys() == vars(support).keys()


# -------------------------------------------------------------------------------------- report


def test_moves_along_keep_the_margin_better_than_moves_of_the_same_length_across(support):
    s = ManifoldSupport(support.manifold_, move_length=0.2, random_state=0).fit(X)
    report = s.margin_report_
    lost = {k: (report.margins["data"] - report.margins[k]).mean() for k in ("aligned", "normal")}
    assert lost["normal"] > 2 * max(lost["aligned"], 0)  # a straight move leaves a circle too
    assert report.inside["aligned"] > 3 * report.inside["normal"]


def test_generator_that_draws_from_the_data_keeps_the_margin(support, monkeypatch):
    """The bootstrap: a perfect generator."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(LyapunovManifold, "sample", lambda m, n, seed: X[rng.integers(0, 300, n)])
    report = ManifoldSupport(support.manifold_, n_report=300, random_state=0).fit(X).margin_report_
    change = report.margins["generated"].mean() - report.margins["data"].mean()
    spread = report.margins["data"].std()
    assert abs(change) < 0.2 * spread
    assert abs(report.inside["generated"] - report.inside["data"]) < 0.05
    assert report.tangential_share > 0.9
    assert abs(report.retraining_change) < spread


def test_report_speaks_plainly(support):
    report = support.margin_report_
    text, numbers = repr(report), report.to_dict()
    json.dumps(numbers)
    for word in ("data", "generated", "along 1 Lyapunov vectors", "across", "Proposition 4.1"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) < 130
    assert numbers["n_points"] == 100 and numbers["n_train"] == 270
    assert report.largest_change <= numbers["largest_change_allowed"]


def test_length_of_the_moves_is_the_one_asked_for(support):
    s = ManifoldSupport(support.manifold_, move_length=0.07, random_state=0).fit(X)
    assert s.margin_report_.length == pytest.approx(0.07)


def test_display_draws_the_report(support):
    pytest.importorskip("matplotlib").use("agg")
    from alignlearn.plotting import MarginDisplay

    display = MarginDisplay.from_estimator(support)
    assert list(display.margins) == ["data", "generated", "aligned", "normal"]
    with pytest.raises(ValueError, match="got none"):
        MarginDisplay({})
