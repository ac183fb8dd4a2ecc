"""Scores: closed forms, order of models that is known, and what they refuse."""

from functools import partial

import numpy as np
import pytest
import sklearn
import torch
from oracles import gaussian_log_density, gaussian_loss
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tables import LEARNED_MODELS, MODELS, cases

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_affine_subspace, make_gaussian, make_sphere
from alignlearn.denoising import denoising_loss, draw_noise_levels
from alignlearn.models import Diffusion, FlowMatching, GaussianModel, KernelDiffusion
from alignlearn.scoring import (
    alignment_score,
    denoising_score,
    dimension_score,
    log_likelihood_score,
)

OF_MODELS = {"denoising": denoising_score, "log likelihood": log_likelihood_score}
OF_MANIFOLDS = {"dimension": dimension_score, "alignment": alignment_score}
SCORES = OF_MODELS | OF_MANIFOLDS
every_score = pytest.mark.parametrize("score", **cases(SCORES))
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def manifold(model=None, **options):
    model = GaussianModel() if model is None else model
    options = {"n_steps": 3, "n_paths": 2, "n_reference": 30, "random_state": 0} | options
    return LyapunovManifold(model=model, **options)


def gaussian(n, seed=0):
    """Rows of an anisotropic Gaussian in R^3, turned."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3))).Q
    return rng.standard_normal((n, 3)) * [2.0, 1.0, 0.2] @ turn.T


@pytest.fixture(scope="module")
def circle():
    """A circle in R^2 with its true frames, and a manifold fitted to other points of it."""
    sample = make_sphere(120, 1, random_state=0)
    rest = make_sphere(150, 1, random_state=0, sample_state=1).points
    return sample, manifold(KernelDiffusion()).fit(rest)


class TurnedFrames(LyapunovManifold):
    """Tangents of the unit circle, turned by an angle in degrees."""

    def tangent_space(self, X, n_components=None):
        turn = np.radians(90 + self.angle)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return (X @ rotation.T)[..., None] / np.linalg.norm(X, axis=1)[:, None, None]


@pytest.fixture(scope="module")
def turned(circle):
    """Manifold of the circle whose frames are turned by the angle asked for."""
    m = TurnedFrames(model=GaussianModel(), n_steps=2, n_reference=5, random_state=0)
    m.fit(circle[0].points).dimension_ = 1
    return lambda angle: setattr(m, "angle", angle) or m


# --- denoising ----------------------------------------------------------------------------------


def test_denoising_score_of_a_gaussian_is_the_closed_form():
    model, X = GaussianModel().fit(gaussian(4000)), gaussian(4000)
    c = np.linalg.eigvalsh(np.cov(X.T, bias=True)) / np.exp(2 * model.scaling_.log_unit)
    expected = gaussian_loss(c, 0.01, 2.0)
    assert denoising_score(model, X) == pytest.approx(-expected, rel=0.02)


@pytest.mark.parametrize("working_memory", [1e-3, 1024])
@pytest.mark.parametrize("make_model", **cases(MODELS))
def test_denoising_score_is_the_loss_of_obvious_code(make_model, working_memory):
    model, X, levels = make_model().fit(gaussian(60)), gaussian(15, 1), (0.05, 1.5)
    x, generator = model.encode(X).repeat(2, 1), torch.Generator().manual_seed(0)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    generator.manual_seed(int(seed))
    s = draw_noise_levels(30, levels, generator, coarse_share=0.0)
    s = s[torch.randperm(30, generator=generator)].to(x)
    z = torch.randn(30, 3, generator=generator, dtype=x.dtype)
    with torch.no_grad():
        rows = [
            denoising_loss(model.denoiser(), x[i : i + 1], s[i : i + 1], z[i : i + 1])
            for i in range(30)
        ]
    with sklearn.config_context(working_memory=working_memory):
        found = denoising_score(model, X, noise_range=levels, n_draws=30)
    assert found == pytest.approx(-float(sum(rows)) / 30, rel=1e-4)


def turn_of(X):
    """The same rows with their axes in another order: as spread out, but elsewhere."""
    return X[:, [1, 2, 0]]


# A pretrained network knows its own data, whatever it is fitted to.
FITTED_TO_DATA = {k: make for k, make in LEARNED_MODELS.items() if k != "PretrainedModel"}


@pytest.mark.parametrize("make_model", **cases(FITTED_TO_DATA))
def test_model_of_these_data_beats_the_model_of_turned_data(make_model):
    X, held_out = gaussian(300), gaussian(40, 1)
    model = make_model()
    if isinstance(model, Diffusion):  # is ahead long before it has learned everything
        model.set_params(max_iter=150, n_estimators=1)
    elif isinstance(model, FlowMatching):
        model.set_params(max_iter=300)
    right, wrong = clone(model).fit(X), clone(model).fit(turn_of(X))
    for score in OF_MODELS.values():
        assert score(right, held_out) > score(wrong, held_out) + 0.05


def test_more_training_scores_better():
    X, held_out = gaussian(300), gaussian(300, 1)
    model = MODELS["Diffusion"](width=32, n_estimators=1)
    few, many = (
        denoising_score(clone(model).set_params(max_iter=n).fit(X), held_out) for n in (5, 150)
    )
    assert many > few + 0.05


def test_curved_data_are_denoised_better_by_the_curved_model(circle):
    sample, m = circle
    rest = make_sphere(150, 1, random_state=0, sample_state=1).points
    levels = m.model_.noise_range_
    linear = GaussianModel().fit(rest)
    curved, flat = (denoising_score(e, sample.points, noise_range=levels) for e in (m, linear))
    assert curved > flat + 0.2


def test_equal_denoisers_score_equally_over_one_noise_range_only():
    X, held_out = gaussian(100), gaussian(60, 1)
    fine, coarse = (KernelDiffusion(s_min=s).fit(X) for s in (0.1, 0.5))
    score = partial(denoising_score, noise_range=(0.2, 2.0))
    assert score(fine, held_out) == score(coarse, held_out)
    assert denoising_score(fine, held_out) != denoising_score(coarse, held_out)


@pytest.mark.parametrize("noise_range", [(0.0, 1.0), (1.0, 0.5), (0.1, np.inf)])
def test_impossible_noise_range_is_refused(noise_range):
    model = GaussianModel().fit(gaussian(50))
    with pytest.raises(ValueError, match="0 < s_min < s_max"):
        denoising_score(model, gaussian(50), noise_range=noise_range)


# --- likelihood ---------------------------------------------------------------------------------


def test_log_likelihood_score_of_a_gaussian_is_its_log_density_per_feature():
    X, held_out = gaussian(400), gaussian(80, 1)
    model = GaussianModel().fit(X)
    smoothing = model.noise_range_[0] * np.exp(model.scaling_.log_unit)
    expected = gaussian_log_density(held_out, X, smoothing).mean() / 3
    assert log_likelihood_score(model, held_out) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("c", [1e-3, 20.0])
def test_change_of_units_changes_the_log_likelihood_by_minus_log_c_and_nothing_else(c):
    X, held_out = gaussian(100), gaussian(60, 1)
    m, scaled = manifold().fit(X), manifold().fit(c * X)
    for score in SCORES.values():
        shift = -np.log(c) if score is log_likelihood_score else 0.0
        expected = score(m, held_out) + shift
        assert score(scaled, c * held_out) == pytest.approx(expected, abs=1e-6)


# --- dimension ----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 4])
def test_every_row_of_a_plane_shows_its_dimension(d):
    X = make_affine_subspace(200, d, 5, random_state=0, noise=1e-3).points
    m = manifold().fit(X[:100])
    assert m.dimension_ == d and dimension_score(m, X[100:]) == 1
    m.dimension_ = d % 4 + 1  # a wrong one
    assert dimension_score(m, X[100:]) == 0


def test_rows_that_fill_their_space_show_all_dimensions_and_no_fewer():
    X = make_gaussian(200, 3, random_state=0).points
    m = manifold().fit(X[:100])
    m.dimension_ = 3
    assert dimension_score(m, X[100:]) == 1
    m.dimension_ = 2  # as from neighbour distances, where a model resolves nothing
    assert (m.dimension(X[100:]) == 2).all() and dimension_score(m, X[100:]) == 0


@pytest.mark.parametrize("n_features, share", [(4, 0.0), (6, 1.0)])
def test_a_faint_gap_counts_where_more_directions_exist_than_were_read(n_features, share):
    class Faint(LyapunovManifold):
        def lyapunov_exponents(self, X):
            return np.tile([-0.01, -0.01, -0.05, -0.06], (len(X), 1))

    X = make_gaussian(200, n_features, random_state=0).points
    m = Faint(**manifold().get_params(deep=False)).fit(X[:100])
    m.dimension_ = 2
    assert dimension_score(m, X[100:]) == share


def test_mixture_scores_the_share_of_its_largest_part(circle):
    sample, m = circle
    dimensions = m.dimension(sample.points)
    assert dimension_score(m, sample.points) == np.mean(dimensions == m.dimension_)


# --- alignment ----------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0, 10, 30, 45, 60, 90])
def test_frames_of_a_circle_turned_by_an_angle_score_the_cosine_of_twice_the_angle(
    circle, turned, angle
):
    """Chords are parallel to the midway tangent, so ``q = cos^2``, and d / D is one half."""
    X = circle[0].points
    expected = np.cos(2 * np.radians(angle))
    assert alignment_score(turned(angle), X) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("angle", [0, 10, 45, 90])
def test_with_true_frames_alignment_is_one_minus_the_angle_over_a_right_angle(
    circle, turned, angle
):
    sample = circle[0]
    found = alignment_score(turned(angle), sample.points, sample.tangents)
    assert found == pytest.approx(1 - angle / 90, abs=1e-9)


@pytest.mark.parametrize("d, D", [(1, 4), (2, 5), (3, 6)])
def test_tangents_of_a_plane_score_one_and_random_planes_nothing(d, D, rng):
    X = make_affine_subspace(400, d, D, random_state=0).points
    m = manifold().fit(X[:200])
    assert alignment_score(m, X[200:]) == pytest.approx(1, abs=1e-6)
    m.tangent_space = lambda X: np.linalg.qr(rng.standard_normal((len(X), D, d))).Q
    # Midway planes of random ones are random: 1000 steps in d dimensions leave little to chance.
    assert abs(alignment_score(m, X[200:])) < 0.1


def test_one_more_direction_that_holds_its_part_of_the_noise_gains_nothing(rng):
    X = rng.standard_normal((500, 5)) * [3.0, 3.0, 0.2, 0.2, 0.2]
    m, planes = manifold().fit(X[:100]), np.eye(5)
    scores = []
    for d in (1, 2, 3, 4):
        m.dimension_ = d
        m.tangent_space = lambda X, d=d: np.broadcast_to(planes[:, :d], (len(X), 5, d))
        scores.append(alignment_score(m, X))
    one, two, three, four = scores
    assert two > one + 0.1
    assert three == pytest.approx(two, abs=0.05) and four == pytest.approx(two, abs=0.05)


def test_alignment_says_nothing_where_nothing_is_outside():
    X = make_gaussian(60, 3, random_state=0).points
    m = manifold().fit(X)
    m.dimension_ = 3
    assert alignment_score(m, X) == 0


@pytest.mark.parametrize("y", [np.zeros(120), np.zeros((120, 3, 1)), np.zeros((119, 2, 1))])
def test_y_that_is_no_stack_of_frames_is_refused(circle, y):
    sample, m = circle
    with pytest.raises(ValueError, match=r"y to be None or true frames of shape .*\(120, 2, d\)"):
        alignment_score(m, sample.points, y)


def test_steps_need_two_different_rows(circle):
    with pytest.raises(ValueError, match="at least two different rows"):
        alignment_score(circle[1], np.ones((4, 2)))


# --- all of them --------------------------------------------------------------------------------


@every_score
def test_score_is_a_float_that_depends_on_nothing_else(circle, score):
    sample, m = circle
    torch.manual_seed(1)
    first = score(m, sample.points)
    torch.manual_seed(2)
    assert isinstance(first, float) and np.isfinite(first)
    assert score(m, sample.points.tolist()) == first


@pytest.mark.parametrize("score", **cases(OF_MODELS))
def test_manifold_scores_as_its_model(circle, score):
    sample, m = circle
    assert score(m, sample.points) == score(m.model_, sample.points)


@every_score
def test_pipeline_scores_what_its_last_step_sees(score):
    X, held_out = gaussian(100), gaussian(50, 1)
    inner = make_pipeline(PCA(3, whiten=True), manifold())
    pipeline = Pipeline([("scale", StandardScaler()), ("inner", inner)]).fit(X)
    seen = inner[0].transform(pipeline["scale"].transform(held_out))
    assert score(pipeline, held_out) == score(inner[-1], seen)
    alone = Pipeline([("manifold", manifold())]).fit(X)
    assert score(alone, held_out) == score(alone[0], held_out)


@every_score
@pytest.mark.parametrize("set_up", [KMeans, lambda: make_pipeline(StandardScaler(), KMeans())])
def test_other_estimators_are_refused_by_name(score, set_up):
    X = gaussian(50)
    with pytest.raises(TypeError, match="expected .* LyapunovManifold or a Pipeline .* got .*KMea"):
        score(set_up().fit(X), X)


@every_score
def test_pipeline_that_ends_in_nothing_is_refused(score):
    X = gaussian(50)
    pipeline = make_pipeline(FunctionTransformer(), "passthrough").fit(X)
    with pytest.raises(TypeError, match="a Pipeline that ends in passthrough"):
        score(pipeline, X)


@pytest.mark.parametrize("score", **cases(OF_MANIFOLDS))
def test_model_alone_has_no_geometry_to_score(score):
    with pytest.raises(TypeError, match="pass LyapunovManifold"):
        score(GaussianModel().fit(gaussian(50)), gaussian(50))


@every_score
def test_unfitted_estimator_is_refused(score):
    for estimator in (manifold(), make_pipeline(StandardScaler(), manifold())):
        with pytest.raises(NotFittedError):
            score(estimator, gaussian(50))


@every_score
def test_rows_of_another_width_are_refused(circle, score):
    with pytest.raises(ValueError, match="3 features, but .* is expecting 2"):
        score(circle[1], gaussian(20))


def test_grid_search_finds_the_curved_model_of_curved_data():
    X = make_sphere(150, 1, random_state=0).points
    grid = {"model": [GaussianModel(), KernelDiffusion()], "n_steps": [2]}
    score = partial(denoising_score, noise_range=(0.1, 2.0))
    search = GridSearchCV(manifold(), grid, scoring=score, cv=2, error_score="raise").fit(X)
    assert isinstance(search.best_params_["model"], KernelDiffusion)


def test_all_scores_at_once_and_with_true_frames():
    sample = make_sphere(80, 1, random_state=0)
    search = GridSearchCV(
        manifold(KernelDiffusion()),
        {"model__n_neighbors": [3, 5]},
        scoring=SCORES,
        refit="alignment",
        cv=2,
        error_score="raise",
    ).fit(sample.points, sample.tangents)
    assert 0.5 < search.best_score_ <= 1
    assert {f"mean_test_{name}" for name in SCORES} <= set(search.cv_results_)
