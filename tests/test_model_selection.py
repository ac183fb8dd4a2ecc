"""Pipelines, searches and cross-validation of scikit-learn around the library's estimators."""

from functools import partial

import numpy as np
import pytest
import sklearn
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from tables import MODELS, cases

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion, GaussianModel, KernelDiffusion
from alignlearn.scoring import alignment_score, denoising_score, dimension_score

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
every_model = pytest.mark.parametrize("make_model", **cases(MODELS))
# Those that are trained: workers are given what is needed to train alike.
every_trained_model = pytest.mark.parametrize(
    "make_model", **cases({name: MODELS[name] for name in ("Diffusion", "FlowMatching")})
)
strict = {"error_score": "raise"}


def rows(n=60):
    return np.random.default_rng(0).standard_normal((n, 3)) * [2.0, 1.0, 0.1] + 5


def manifold(model=None, **options):
    model = MODELS["Diffusion"]() if model is None else model
    return LyapunovManifold(
        model=model, n_steps=2, n_paths=1, n_reference=9, random_state=0, **options
    )


@pytest.fixture
def two_workers():
    with parallel_config("loky", inner_max_num_threads=1):
        yield {"n_jobs": 2, **strict}


@every_trained_model
def test_two_workers_cross_validate_as_one(make_model, two_workers):
    pipeline = make_pipeline(StandardScaler(), manifold(make_model()))
    expected = cross_val_score(pipeline, rows(), cv=2, **strict)  # log density
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(cross_val_score(pipeline, rows(), cv=2, **two_workers), expected)
    model = make_model()
    expected = cross_val_score(model, rows(), cv=2, scoring=denoising_score, **strict)
    found = cross_val_score(model, rows(), cv=2, scoring=denoising_score, **two_workers)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_grid_of_nested_parameters_fits_what_it_says(two_workers):
    pipeline = Pipeline([("scale", StandardScaler()), ("manifold", manifold())])
    grid = {"manifold__model__max_iter": [1, 3], "manifold__n_steps": [2, 3]}
    search = GridSearchCV(pipeline, grid, scoring=denoising_score, cv=2, **two_workers)
    search.fit(rows())
    best = search.best_estimator_["manifold"]
    assert search.best_params_["manifold__model__max_iter"] == best.model_.n_iter_
    assert search.best_params_["manifold__n_steps"] == best.n_steps
    assert len(search.cv_results_["params"]) == 4


def test_grid_over_models_and_several_scores(two_workers):
    grid = {"model": [GaussianModel(), KernelDiffusion()]}
    scoring = {
        "denoising": partial(denoising_score, noise_range=(0.2, 2.0)),
        "alignment": alignment_score,
        "dimension": dimension_score,
    }
    search = GridSearchCV(
        manifold(), grid, scoring=scoring, refit="denoising", cv=2, **two_workers
    ).fit(rows())
    assert isinstance(search.best_estimator_.model_, GaussianModel)  # the data are Gaussian
    assert np.isfinite(search.cv_results_["mean_test_alignment"]).all()


def test_search_answers_as_its_best_estimator():
    search = GridSearchCV(manifold(GaussianModel()), {"n_steps": [2, 3]}, cv=2).fit(rows())
    assert search.score(rows()) == search.best_estimator_.score(rows())


def test_metadata_routing_passes_what_is_asked_for_and_refuses_the_rest():
    pipeline = make_pipeline(StandardScaler(), manifold(GaussianModel()))
    groups = np.repeat(np.arange(6), 10)
    grid = {"lyapunovmanifold__n_steps": [2, 3]}
    options = {"scoring": denoising_score, "cv": GroupKFold(2), **strict}
    plain = GridSearchCV(pipeline, grid, **options).fit(rows(), groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = GridSearchCV(pipeline, grid, **options).fit(rows(), groups=groups)
        found = cross_validate(pipeline, rows(), params={"groups": groups}, **options)
        with pytest.raises((TypeError, ValueError), match="sample_weight"):  # by version
            GridSearchCV(pipeline, grid, **options).fit(
                rows(), groups=groups, sample_weight=np.ones(60)
            )
    for key in ("mean_test_score", "split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(routed.cv_results_[key], plain.cv_results_[key])
    scores = [plain.cv_results_[f"split{i}_test_score"][0] for i in range(2)]
    np.testing.assert_allclose(found["test_score"], scores, rtol=0.05)  # n_steps is no part of it


@pytest.mark.skipif(not hasattr(LyapunovManifold, "transform"), reason="no transformer yet")
def test_classifier_behind_a_manifold_learns():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(),
        manifold(KernelDiffusion(), n_components=2),
        KNeighborsClassifier(5),
    )
    scores = cross_val_score(pipeline, X[::2], y[::2], cv=2, **strict)
    assert scores.mean() > 0.7


@every_model
def test_clone_has_the_parameters_and_nothing_fitted(make_model):
    m = manifold(make_model(), n_components=2).fit(rows())
    twin = clone(m)
    assert [k for k in vars(twin) if k.endswith("_") and not k.startswith("_")] == []
    assert twin.model is not m.model
    expected, found = m.get_params(), twin.get_params()
    expected.pop("model"), found.pop("model")
    assert found == expected
    np.testing.assert_allclose(twin.fit(rows()).exponents_, m.exponents_)


def test_nested_parameters_reach_the_model_and_fit_leaves_it_alone():
    m = manifold().set_params(model__max_iter=3, model__width=8)
    assert (m.model.max_iter, m.get_params()["model__width"]) == (3, 8)
    m.fit(rows())
    assert m.model_ is not m.model and not hasattr(m.model, "denoiser_")
    assert m.model_.n_iter_ == 3


def test_unknown_nested_parameter_is_refused():
    with pytest.raises(ValueError, match="Invalid parameter 'max_iters' for estimator Diffusion"):
        manifold(Diffusion()).set_params(model__max_iters=3)


@every_model
def test_html_shows_parameters_and_what_was_fitted(make_model):
    m = manifold(make_model(), n_components=1)
    before, after = m._repr_html_(), m.fit(rows())._repr_html_()
    version = parse_version(sklearn.__version__)
    for html in (before, after):
        assert type(m.model).__name__ in html
        assert version < parse_version("1.7") or "n_oversamples" in html
    assert "dimension_" not in before
    assert version < parse_version("1.9") or all(
        name in after for name in ("dimension_", "exponents_", "noise_level_", "n_features_in_")
    )
