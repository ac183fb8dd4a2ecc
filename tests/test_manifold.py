"""Laws of `LyapunovManifold`; oracles are the closed forms of Gaussians, spheres and planes."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from oracles import gaussian_rates, projectors
from scipy.stats import ortho_group
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import MODELS, SCHEDULES, SINGLE_PRECISION, STOCHASTIC_SOLVERS, cases

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_sphere, make_torus
from alignlearn.dimension import CLEAR, clarity
from alignlearn.models import Diffusion, GaussianModel, KernelDiffusion
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion

D = 4
SPREADS = np.array([3.0, 2.0, 0.1, 0.03])


def ode(n_steps=8, **options):
    """A manifold whose answers have exact symmetries: kernel denoiser and the ODE, no noise."""
    solver = ExponentialMidpoint(SCHEDULES["variance exploding"])
    defaults = {"model": KernelDiffusion(s_min=0.3), "solver": solver, "random_state": 0}
    return LyapunovManifold(n_steps=n_steps, **(defaults | options))


def plane(n=80, seed=0):
    """Gaussian rows around a plane in R^4."""
    return np.random.default_rng(seed).standard_normal((n, D)) * SPREADS


@pytest.fixture(scope="module")
def X():
    return plane()


@pytest.fixture(scope="module")
def gaussian(X):
    return LyapunovManifold(model=GaussianModel(), random_state=0).fit(X)


# --- right answers ----------------------------------------------------------------------------


def test_gaussian_data_have_the_closed_form_exponents_at_every_point(gaussian, X):
    c = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1] / X.var(0).mean()
    expected = gaussian_rates(c, *gaussian.model_.window_)
    unseen = plane(10, seed=1)
    rates = gaussian.lyapunov_exponents(unseen)
    np.testing.assert_allclose(rates, np.broadcast_to(expected, (10, D)), atol=1e-6)
    np.testing.assert_allclose(gaussian.exponents_, expected, atol=1e-6)


@pytest.mark.parametrize(
    "noise, window",
    [(0.0, (0.02, 0.2)), (0.02, (0.02, 0.2)), (0.15, (0.1, 0.2)), (1.2, (0.1, 1.0))],
)
def test_noise_raises_the_window_no_more_than_it_must(noise, window, rng):
    X = rng.standard_normal((400, 3)) * [2.0, 2.0, 0.0] + noise * rng.standard_normal((400, 3))
    manifold = LyapunovManifold(model=GaussianModel(), random_state=0).fit(X)
    assert manifold.window_ == pytest.approx(window)
    assert manifold.dimension_ == 2


@pytest.mark.parametrize("make_solver", **cases(STOCHASTIC_SOLVERS))
def test_every_reverse_process_finds_the_plane(make_solver, X):
    solver = make_solver(SCHEDULES["variance exploding"])
    options = {"n_steps": 24, "n_paths": 2, "n_reference": 20, "window": (0.05, 0.5)}
    model = GaussianModel()
    manifold = LyapunovManifold(model=model, solver=solver, random_state=0, **options).fit(X)
    assert manifold.dimension_ == 2
    principal = np.linalg.svd(X - X.mean(0), full_matrices=False)[2][:2].T
    planes = projectors(manifold.tangent_space(X[:3]))
    np.testing.assert_allclose(planes, np.stack([projectors(principal)] * 3), atol=1e-6)


def test_tangent_space_of_gaussian_data_is_the_principal_plane(gaussian, X):
    axes = np.linalg.svd(X - X.mean(0))[2][:2].T
    vectors = gaussian.tangent_space(plane(10, seed=1), 2)
    assert vectors.shape == (10, D, 2)
    expected = np.broadcast_to(projectors(axes), (10, D, D))
    np.testing.assert_allclose(projectors(vectors), expected, atol=1e-6)


def test_plane_has_dimension_two_at_every_point(gaussian, X):
    assert gaussian.dimension_ == 2
    assert (gaussian.dimension(plane(10, seed=1)) == 2).all()


def test_tangent_planes_of_the_sphere_are_normal_to_the_radius():
    sphere = make_sphere(600, 2, random_state=0)
    vectors = ode(model=KernelDiffusion()).fit(sphere.points).tangent_space(sphere.points[:50], 2)
    radial = np.abs(np.einsum("ni,nij->nj", sphere.points[:50], vectors)).max(1)
    assert np.median(radial) < 0.1  # the cosine to the radius; kernel: a few degrees


def test_trained_diffusion_finds_the_dimension_of_the_sphere():
    X = make_sphere(400, 2, random_state=0).points
    model = Diffusion(width=32, n_blocks=2, n_estimators=1, max_iter=400)
    options = {"n_paths": 2, "n_reference": 40, "random_state": 0}
    manifold = LyapunovManifold(model=model, **options).fit(X)
    assert manifold.dimension_ == 2
    unseen = make_sphere(30, 2, random_state=1).points
    vectors = manifold.tangent_space(unseen)
    radial = np.linalg.norm(np.einsum("ni,nij->nj", unseen, vectors), axis=1)
    assert np.degrees(np.arcsin(np.median(radial))) < 10


def test_wide_data_on_a_plane_are_two_dimensional():
    """More features than columns carried: the randomized route."""
    X = plane(60)[:, :2] @ ortho_group.rvs(150, random_state=0)[:2]
    options = {"n_paths": 2, "n_reference": 20, "random_state": 0}
    manifold = LyapunovManifold(model=GaussianModel(), **options).fit(X)
    assert manifold.dimension_ == 2
    vectors = manifold.tangent_space(X[:3])
    np.testing.assert_allclose(projectors(vectors) @ X[:3, :, None], X[:3, :, None], atol=0.05)


# --- symmetries -------------------------------------------------------------------------------


def assert_same_geometry(moved, manifold, move, X, turn):
    """Exponents stay, tangent planes turn."""
    expected = manifold.lyapunov_exponents(X)
    np.testing.assert_allclose(moved.lyapunov_exponents(move(X)), expected, atol=1e-6)
    planes = turn @ projectors(manifold.tangent_space(X, 2)) @ turn.T
    np.testing.assert_allclose(projectors(moved.tangent_space(move(X), 2)), planes, atol=1e-5)
    assert moved.dimension_ == manifold.dimension_


TURN = ortho_group.rvs(D, random_state=0)
MOVES = {
    "rotation": (lambda X: X @ TURN.T, TURN),
    "translation": (lambda X: X + [5.0, -3.0, 100.0, 0.0], np.eye(D)),
    "reflection": (lambda X: -X, np.eye(D)),
    "tiny units": (lambda X: X * 1e-200, np.eye(D)),
    "huge units": (lambda X: X * 1e200, np.eye(D)),
    "everything": (lambda X: 7.3 * X @ TURN.T + 2.0, TURN),
}


@pytest.mark.parametrize("move, turn", MOVES.values(), ids=MOVES)
def test_geometry_moves_with_the_data(move, turn, X):
    manifold, moved = ode().fit(X), ode().fit(move(X))
    assert_same_geometry(moved, manifold, move, plane(6, seed=1), turn)


def test_order_of_the_training_rows_does_not_matter(X):
    manifold, shuffled = ode().fit(X), ode().fit(X[::-1])
    query = plane(6, seed=1)
    expected = manifold.lyapunov_exponents(query)
    np.testing.assert_allclose(shuffled.lyapunov_exponents(query), expected, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_row_alone_has_the_answer_of_the_row_in_the_batch(name, X):
    options = {"n_paths": 2, "n_steps": 4, "n_reference": 10, "random_state": 0}
    manifold = LyapunovManifold(model=MODELS[name](), **options).fit(X)
    batch = manifold.lyapunov_exponents(X[:5])
    alone = np.concatenate([manifold.lyapunov_exponents(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, batch, atol=1e-5 if name in SINGLE_PRECISION else 1e-9)


@pytest.mark.parametrize("n_reference", [1, 64, 70])
def test_spectrum_of_the_reference_rows_is_theirs(n_reference, X):
    """Those at which the window was chosen are not measured twice, and keep their places."""
    manifold = ode(n_reference=n_reference).fit(X)
    rates = manifold.lyapunov_exponents(X[manifold.reference_indices_])
    assert rates.shape == (n_reference, D)
    np.testing.assert_allclose(manifold.reference_exponents_, rates, atol=1e-9)


# --- span, noise and scale ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GaussianModel", "KernelDiffusion"])
def test_isometric_embedding_into_more_columns_adds_normal_directions_only(name, X):
    basis = ortho_group.rvs(9, random_state=0)[:D]
    flat, embedded = (ode(model=MODELS[name]()).fit(Z) for Z in (X, X @ basis))
    query = plane(6, seed=1)
    expected = np.pad(flat.lyapunov_exponents(query), ((0, 0), (0, 5)), constant_values=-1.0)
    np.testing.assert_allclose(embedded.lyapunov_exponents(query @ basis), expected, atol=1e-6)
    assert embedded.dimension_ == flat.dimension_
    assert (embedded.dimension(query @ basis) == flat.dimension(query)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_few_dimensions_of_many_features_are_all_measured(X):
    """Three of 150 features: the spectrum at fit has three columns, and a frame has the normals."""
    turned = X[:, :3] @ ortho_group.rvs(150, random_state=0)[:3]
    options = {"n_paths": 2, "n_steps": 4, "n_reference": 10, "random_state": 0}
    manifold = LyapunovManifold(model=MODELS["Diffusion"](), **options).fit(turned)
    assert manifold.reference_exponents_.shape == (10, 3)
    frame = manifold.lyapunov_frame(turned[:5], n_components=6)
    np.testing.assert_allclose(frame.exponents[:, 3:], -1.0, atol=1e-4)
    span = projectors(np.linalg.svd(turned - turned.mean(0), full_matrices=False)[2][:3].T)
    leading = projectors(frame.vectors[..., :3])
    np.testing.assert_allclose(leading, np.broadcast_to(span, leading.shape), atol=1e-4)


def test_linear_subspace_is_resolved_and_does_not_warn(recwarn):
    X = np.random.default_rng(0).standard_normal((200, 3)) @ ortho_group.rvs(8, random_state=0)[:3]
    manifold = LyapunovManifold(model=GaussianModel(), random_state=0).fit(X)
    assert manifold.dimension_ == 3 and manifold.dimension_estimate_.resolved
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]
    assert np.isnan(manifold.noise_level_)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
@pytest.mark.parametrize("noise", [0.05, 0.15])
def test_noise_level_of_a_noisy_plane_is_its_standard_deviation(noise, unit):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 6)) * [1, 1, noise, noise, noise, noise]
    manifold = LyapunovManifold(model=GaussianModel(), random_state=0).fit(unit * X)
    assert manifold.dimension_ == 2
    assert manifold.noise_level_ == pytest.approx(unit * noise, rel=0.05)


def test_scale_spectrum_of_gaussian_data_is_the_closed_form(gaussian, X):
    found = gaussian.scale_spectrum(X[:3], n_scales=4)
    unit = np.exp(gaussian.model_.scaling_.log_unit)
    c = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1] / X.var(0).mean()
    assert found.windows.shape == (4, 2) and found.exponents.shape == (3, 4, D)
    np.testing.assert_allclose(found.windows[1:, 0], found.windows[:-1, 1])
    assert found.windows[-1, 1] == pytest.approx(gaussian.model_.noise_range_[1] * unit)
    for i, window in enumerate(found.windows / unit):
        expected = gaussian_rates(c, *window)
        np.testing.assert_allclose(found.exponents[0, i], expected, atol=2e-3)
        assert found.dimension[0, i] == pytest.approx((1 + expected).sum(), abs=0.01)


@pytest.mark.parametrize("n_scales", [0, 1.5])
def test_scale_spectrum_wants_a_number_of_scales(n_scales, gaussian, X):
    with pytest.raises((ValueError, TypeError), match="n_scales"):
        gaussian.scale_spectrum(X, n_scales)


# --- how the work is cut ----------------------------------------------------------------------


def many_chunks():
    """A budget so small that every row is a chunk of its own."""
    return config_context(working_memory=1e-6)


def test_size_of_the_chunks_does_not_matter(gaussian):
    query = plane(3, seed=1)
    expected = gaussian.lyapunov_exponents(query), projectors(gaussian.tangent_space(query, 2))
    with many_chunks():
        actual = gaussian.lyapunov_exponents(query), projectors(gaussian.tangent_space(query, 2))
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("width", [D, 140])
def test_eight_threads_at_once_get_the_serial_answer(width):
    """Forward-mode AD is not thread-safe by itself; 140 features also pull back."""
    X = plane(40) @ ortho_group.rvs(width, random_state=0)[:D]
    options = {"n_paths": 2, "n_steps": 3, "n_reference": 10, "random_state": 0}
    manifold = LyapunovManifold(model=GaussianModel(), **options).fit(X)
    queries = [X[i : i + 2] for i in range(16)]
    expected = [manifold.lyapunov_exponents(query) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(manifold.lyapunov_exponents, queries))
    np.testing.assert_array_equal(answers, expected)


# --- randomness and state ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fit_is_reproducible_and_leaves_global_generators_alone(name, X):
    def states():
        numpy_state = np.random.mtrand._rand.get_state()[1].tolist()
        return numpy_state, torch.get_rng_state().tolist(), random.getstate()

    before = states()
    options = {"n_paths": 2, "n_steps": 3, "n_reference": 10, "random_state": 7}
    template = LyapunovManifold(model=MODELS[name]().set_params(random_state=None), **options)
    first, again = (clone(template).fit(X) for _ in range(2))
    for answer in ("lyapunov_exponents", "tangent_space", "score_samples"):
        np.testing.assert_array_equal(getattr(first, answer)(X[:9]), getattr(again, answer)(X[:9]))
    np.testing.assert_array_equal(first.sample(4), again.sample(4))
    assert states() == before


def test_questions_do_not_change_the_answers(gaussian, X):
    first = gaussian.tangent_space(X[:3])
    gaussian.sample(3)
    gaussian.lyapunov_exponents(X)
    np.testing.assert_array_equal(gaussian.tangent_space(X[:3]), first)


def test_pickled_manifold_answers_the_same(gaussian, X):
    twin = pickle.loads(pickle.dumps(gaussian))
    np.testing.assert_array_equal(twin.lyapunov_exponents(X), gaussian.lyapunov_exponents(X))


def test_fit_leaves_its_parameters_as_they_were(X):
    model, solver = GaussianModel(), ReverseDiffusion()
    manifold = LyapunovManifold(model=model, solver=solver, random_state=3).fit(X)
    assert manifold.model is model and manifold.solver is solver and manifold.random_state == 3
    assert not hasattr(model, "n_features_in_") and model.random_state is None


def test_manifold_is_a_step_of_a_pipeline(X):
    pipeline = make_pipeline(StandardScaler(), LyapunovManifold(model=GaussianModel()))
    assert pipeline.fit(X)[-1].n_features_in_ == D


def test_score_is_the_models(gaussian, X):
    expected = gaussian.model_.score_samples(X)
    np.testing.assert_array_equal(gaussian.score_samples(X), expected)
    assert gaussian.score(X) == pytest.approx(expected.mean())


# --- warnings ---------------------------------------------------------------------------------

FEW = {"n_paths": 2, "n_reference": 60, "random_state": 0}


def test_under_trained_model_warns_with_what_to_do():
    X = make_torus(100, random_state=0).points
    model, options = MODELS["Diffusion"](max_iter=1), {"n_steps": 3, "n_reference": 10}
    manifold = LyapunovManifold(model=model, random_state=0, **options)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        manifold.fit(X)


def test_full_dimensional_data_warn_and_have_full_dimension(rng):
    X = rng.standard_normal((300, 3))
    manifold = LyapunovManifold(model=GaussianModel(), **FEW)
    with pytest.warns(ConvergenceWarning, match="no direction contracts"):
        manifold.fit(X)
    assert manifold.dimension_ == 3


def test_full_subspace_without_a_clear_gap_is_the_manifold():
    """A simplex in a 3-plane: its edges make faint gaps, its neighbours fill the plane."""
    corners = ortho_group.rvs(6, random_state=1)[:4]
    X = np.random.default_rng(0).dirichlet(np.ones(4), 400) @ corners
    manifold = LyapunovManifold(model=KernelDiffusion(s_min=0.2), **FEW).fit(X)
    assert manifold.dimension_ == 3 and manifold.dimension_estimate_.resolved
    assert manifold.neighbor_dimension_ == 3
    assert (manifold.dimension(X[:9]) == 3).all()


def test_clear_gap_that_neighbours_refute_warns_and_gives_their_dimension(rng):
    """A thin closed curve that a Gaussian model takes for its plane."""
    t = rng.uniform(0, 2 * np.pi, 400)
    X = np.c_[np.cos(t), np.sin(t), 0.01 * np.sin(3 * t)]
    manifold = LyapunovManifold(model=GaussianModel(), **FEW)
    with pytest.warns(ConvergenceWarning, match="neighbours contradict"):
        manifold.fit(X)
    assert clarity(manifold.reference_exponents_) > CLEAR
    assert manifold.dimension_ == 1 and (manifold.dimension(X[:9]) == 1).all()
    assert manifold.neighbor_dimension_ == pytest.approx(1, abs=0.2)
    assert not manifold.dimension_estimate_.resolved and not manifold.dimension_estimate_.clear


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_noise_is_not_what_neighbours_refute(noise, rng, recwarn):
    """A line with noise: they see three dimensions near by, and the model is right."""
    X = rng.standard_normal((500, 3)) * [1, noise, noise]
    manifold = LyapunovManifold(model=GaussianModel(), **FEW).fit(X)
    assert manifold.dimension_ == 1
    assert not any("contradict" in str(warning.message) for warning in recwarn)
