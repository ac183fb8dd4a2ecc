"""Laws of every generative model. Oracle: the Gaussian with the moments of the sample."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from oracles import gaussian_log_density, gaussian_rates, gaussian_sample
from sklearn.base import clone
from tables import LEARNED_MODELS, MODELS, SOLVERS, cases

from alignlearn.models import GaussianModel
from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion
from alignlearn.tangent import lyapunov_frame

every_model = pytest.mark.parametrize("make_model", **cases(MODELS))


@pytest.fixture(scope="module", params=LEARNED_MODELS)
def learned(request):
    """A model that has learned the Gaussian sample, and the sample."""
    X = gaussian_sample()
    return LEARNED_MODELS[request.param]().fit(X), X


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    """A small model fitted to few rows, which need not have learned them."""
    X = gaussian_sample(60)
    return MODELS[request.param]().fit(X), X


# --- the law of the data ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_solver", [SOLVERS["ExponentialMidpoint"], SOLVERS["ReverseDiffusion"]]
)
def test_model_recovers_the_gaussian_exponents(learned, make_solver):
    model, X = learned
    window = (model.noise_range_[0] * 1.5, 3.0)
    schedule = VarianceExploding(*model.noise_range_)
    flow = model.flow(solver=make_solver(schedule), n_steps=24, window=window)
    x = model.encode(X[:40])
    shape = (flow.n_steps, 1, 3)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    stochastic = isinstance(flow.solver, ReverseDiffusion)
    with torch.no_grad():
        trajectory = flow.trajectory(x, noise) if stochastic else flow.trajectory(x)
    rates = lyapunov_frame(flow, trajectory).exponents.numpy().mean(0)
    unit = np.exp(model.scaling_.log_unit)
    expected = gaussian_rates(X.var(0) / unit**2, *window)
    exact = type(model).__name__ == "GaussianModel"
    np.testing.assert_allclose(rates, expected, atol=2e-3 if exact else 0.1)


def test_sample_has_the_mean_and_covariance_of_the_data(learned):
    model, X = learned
    sample = model.sample(800, random_state=0)
    smoothing = (model.noise_range_[0] * np.exp(model.scaling_.log_unit)) ** 2
    np.testing.assert_allclose(sample.mean(0), X.mean(0), atol=0.15)
    # Flow matching learns the large scales too, and starts from no Gaussian fit of the data.
    atol = 0.4 if type(model).__name__ == "FlowMatching" else 0.25
    np.testing.assert_allclose(np.cov(sample.T), np.cov(X.T), atol=atol + smoothing)


def test_score_is_the_log_density_of_the_smoothed_data(learned):
    model, X = learned
    smoothing = model.noise_range_[0] * np.exp(model.scaling_.log_unit)
    expected = gaussian_log_density(X[:40], X, smoothing)
    difference = model.score_samples(X[:40]) - expected
    exact = type(model).__name__ == "GaussianModel"
    assert abs(difference.mean()) < (5e-3 if exact else 0.15)
    assert np.abs(difference).max() < (0.05 if exact else 1.5)


def test_score_in_many_dimensions_is_close_to_the_log_density(rng):
    """Beyond `ALL_COLUMNS` features the log determinant is estimated by random probes."""
    X = rng.standard_normal((300, 140)) * np.linspace(2.0, 0.5, 140)
    model = GaussianModel(s_min=0.3, window=(0.3, 1.0)).fit(X)
    smoothing = model.noise_range_[0] * np.exp(model.scaling_.log_unit)
    expected = gaussian_log_density(X[:5], X, smoothing)
    np.testing.assert_allclose(model.score_samples(X[:5]), expected, atol=0.1 * 140)


@pytest.mark.parametrize("D", [1, 2])
@every_model
def test_density_integrates_to_one(make_model, D):
    """Whatever was learned: the change of variables of a flow keeps mass."""
    model = make_model(s_min=0.2)
    if "window" in model.get_params():
        model.set_params(window=(0.2, 1.0))
    X = gaussian_sample(40, D)
    model.fit(X)
    axes = [np.linspace(m - 7 * s, m + 7 * s, 51) for m, s in zip(X.mean(0), X.std(0), strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, D)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(model.score_samples(grid)).sum() * cell == pytest.approx(1, abs=0.02)


# --- equivariance -----------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("power", [-900, 3, 900])
def test_change_of_units_changes_the_score_by_d_log_c(make_model, power):
    X, c = gaussian_sample(60), 2.0**power
    expected = make_model().fit(X).score_samples(X[:5]) - 3 * np.log(c)
    actual = make_model().fit(X * c).score_samples(X[:5] * c)
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-5)


@every_model
def test_sample_moves_with_scale_and_translation_of_the_data(make_model):
    X, shift = gaussian_sample(60), np.array([4.0, -8.0, 0.5])
    expected = make_model().fit(X).sample(5) * 8 + shift
    actual = make_model().fit(X * 8 + shift).sample(5)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


def test_decode_inverts_encode(fitted):
    model, X = fitted
    np.testing.assert_allclose(model.decode(model.encode(X)), X, rtol=0, atol=1e-6)


def test_row_alone_scores_as_in_the_batch(fitted):
    model, X = fitted
    single = model.encode(X).dtype == torch.float32
    alone = np.concatenate([model.score_samples(X[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(alone, model.score_samples(X)[:4], atol=1e-3 if single else 1e-9)


# --- randomness and state ---------------------------------------------------------------------


@every_model
def test_fit_is_reproducible_and_leaves_global_generators_alone(make_model):
    def states():
        numpy_state = np.random.mtrand._rand.get_state()[1].tolist()
        return numpy_state, torch.get_rng_state().tolist(), random.getstate()

    X, before = gaussian_sample(60), states()
    first, again = (make_model().fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.sample(4), again.sample(4))
    np.testing.assert_array_equal(first.score_samples(X), again.score_samples(X))
    assert states() == before


@every_model
def test_other_seed_gives_another_sample(make_model):
    model = make_model().fit(gaussian_sample(60))
    assert (model.sample(4, random_state=1) != model.sample(4, random_state=2)).all()


@pytest.mark.parametrize("duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
def test_copy_of_a_fitted_model_answers_the_same(fitted, duplicate):
    model, X = fitted
    twin = duplicate(model)
    np.testing.assert_array_equal(twin.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(twin.sample(3, random_state=0), model.sample(3, random_state=0))


def test_clone_is_not_fitted_and_fits_to_the_same(fitted):
    model, X = fitted
    twin = clone(model)
    assert not hasattr(twin, "n_features_in_")
    np.testing.assert_array_equal(twin.fit(X).score_samples(X), model.score_samples(X))


def test_score_is_the_mean_of_score_samples(fitted):
    model, X = fitted
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())


def test_flow_takes_the_schedule_of_its_solver(fitted):
    model, _ = fitted
    solver = ExponentialMidpoint()
    flow = model.flow(solver=solver, n_steps=3, window=(0.5, 2.0))
    ratios = solver.schedule.ratio(flow.times)
    assert ratios[[0, -1]].tolist() == pytest.approx([2.0, 0.5])


@pytest.mark.parametrize("n_samples", [0, -1])
def test_sample_of_nothing_is_refused(fitted, n_samples):
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        fitted[0].sample(n_samples)
