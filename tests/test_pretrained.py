"""Laws of pretrained models. Oracle: a network that knows independent Gaussian features exactly."""

import functools
import math
import pickle
from itertools import product

import numpy as np
import pytest
import torch
from oracles import Mixture, gaussian_loss, gaussian_rates, gaussian_sample
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from tables import PREDICTIONS, SCHEDULES, GaussianNetwork, cases, pretrained

from alignlearn import LyapunovManifold, save
from alignlearn.clocks import LinearClock, LogNoiseClock, NoiseClock
from alignlearn.denoising import COARSE
from alignlearn.flow import velocity_field
from alignlearn.models import GaussianModel, PretrainedModel
from alignlearn.predictions import NoisePrediction
from alignlearn.schedules import Cosine, VarianceExploding
from alignlearn.solvers import ReverseDiffusion
from alignlearn.tabulated import Tabulated
from alignlearn.tangent import lyapunov_frame

every_prediction = pytest.mark.parametrize("prediction", **cases(PREDICTIONS))
every_schedule = pytest.mark.parametrize("schedule", **cases(SCHEDULES))
CLOCKS = {
    "t from 0 to 1": LinearClock(),
    "steps 0 to 999": LinearClock(999),
    "t from 1 to 0": LinearClock(-1.0, 1.0),
}
mixture = Mixture.example()


def moments(X):
    return {"mean": X.mean(0), "deviation": X.std(0)}


# --- predictions and clocks -------------------------------------------------------------------


def noisy(schedule, n=5):
    """Rows x_t of the mixture at n times, t (n, 1) and the denoiser there."""
    t = torch.linspace(0.1, 0.9, n, dtype=torch.float64)[:, None]
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3))) * schedule.alpha(t)
    x = x + schedule.sigma(t) * 0.5
    s = schedule.ratio(t)
    rows = [mixture.denoise(x[i : i + 1] / schedule.alpha(t[i]), s[i]) for i in range(n)]
    return x, t, torch.cat(rows)


@every_prediction
@every_schedule
def test_prediction_gives_back_the_denoiser_it_was_made_from(prediction, schedule):
    x, t, denoised = noisy(schedule)
    output = prediction.output(denoised, x, schedule, t)
    actual = prediction.denoised(output, x, schedule, t)
    torch.testing.assert_close(actual, denoised, rtol=1e-8, atol=1e-8)


@every_schedule
def test_score_prediction_is_the_gradient_of_the_log_density(schedule):
    x, t, denoised = noisy(schedule)
    x.requires_grad_(True)
    alpha, s = schedule.alpha(t), schedule.ratio(t)
    log_p = [mixture.log_density(x[i : i + 1] / alpha[i], s[i]) for i in range(len(x))]
    expected = torch.autograd.grad(torch.cat(log_p).sum(), x)[0]
    actual = PREDICTIONS["score"].output(denoised, x.detach(), schedule, t)
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9)


@every_schedule
def test_velocity_prediction_is_the_velocity_of_the_flow(schedule):
    x, t, denoised = noisy(schedule)
    actual = PREDICTIONS["velocity"].output(denoised, x, schedule, t)
    for i in range(len(x)):
        expected = velocity_field(mixture.denoise, schedule)(x[i : i + 1], t[i, 0])
        torch.testing.assert_close(actual[i : i + 1], expected, rtol=1e-7, atol=1e-9)
    reverse = PREDICTIONS["velocity of reversed time"].output(denoised, x, schedule, t)
    torch.testing.assert_close(reverse, -actual)


@every_schedule
def test_noise_and_v_are_what_their_formulas_say(schedule):
    x, t, denoised = noisy(schedule)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    noise = (x - alpha * denoised) / sigma
    torch.testing.assert_close(PREDICTIONS["noise"].output(denoised, x, schedule, t), noise)
    v = PREDICTIONS["v"].output(denoised, x, schedule, t)
    torch.testing.assert_close(v, alpha * noise - sigma * denoised)


@every_schedule
def test_clocks_tell_time_step_and_noise(schedule):
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    s = schedule.ratio(t)
    torch.testing.assert_close(LinearClock(999)(schedule, t), 999 * t)
    torch.testing.assert_close(LinearClock(-1, 1)(schedule, t), 1 - t)
    torch.testing.assert_close(NoiseClock()(schedule, t), s)
    torch.testing.assert_close(LogNoiseClock(0.25)(schedule, t), s.log() / 4)


# --- tabulated schedules ----------------------------------------------------------------------


@every_schedule
def test_table_has_the_scales_of_its_schedule_at_the_levels_and_nearly_between(schedule):
    t = torch.linspace(0.01, 0.99, 1000, dtype=torch.float64)
    table = Tabulated(schedule.alpha(t).tolist(), schedule.sigma(t).tolist())
    own = torch.linspace(0, 1, 1000, dtype=torch.float64)
    middle = (own[1:] + own[:-1]) / 2
    for name in ("alpha", "sigma"):
        of_table, of_schedule = getattr(table, name), getattr(schedule, name)
        torch.testing.assert_close(of_table(own), of_schedule(t), rtol=1e-10, atol=0)
        between = of_schedule((t[1:] + t[:-1]) / 2)
        torch.testing.assert_close(of_table(middle), between, rtol=2e-3, atol=1e-5)


def test_table_of_a_ddpm_has_its_steps_and_leaves_out_pure_noise():
    squares = [0.99, 0.5, 0.1, 0.0]
    table = Tabulated.from_alphas_cumprod(squares)
    assert table.n_levels == 3
    steps = torch.arange(3, dtype=torch.float64) / 2
    torch.testing.assert_close(table.alpha(steps) ** 2, torch.tensor(squares[:3]).double())
    assert table == Tabulated.from_alphas_cumprod(squares) and hash(table)


@pytest.mark.parametrize(
    "alphas, sigmas, word",
    [
        ([1.0], [0.1], "at least two"),
        ([1.0, 0.5], [0.1], "as many"),
        ([1.0, 0.0], [0.1, 1.0], "positive"),
        ([1.0, math.nan], [0.1, 1.0], "positive"),
        ([0.5, 1.0], [0.9, 0.1], "increase"),
    ],
)
def test_impossible_table_is_refused(alphas, sigmas, word):
    with pytest.raises(ValueError, match=word):
        Tabulated(alphas, sigmas)


@pytest.mark.parametrize("squares", [[], [0.5, 0.0, 0.0], [1.5, 0.1], [math.nan, 0.1]])
def test_impossible_table_of_a_ddpm_is_refused(squares):
    with pytest.raises(ValueError, match="alphas_cumprod|at least two"):
        Tabulated.from_alphas_cumprod(squares)


# --- the model --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "schedule"),
    [  # the laws above hold at every pair; here every one of both is met
        pytest.param(PREDICTIONS[p], SCHEDULES[s], id=f"{p}-{s}")
        for p, s in product(PREDICTIONS, SCHEDULES)
        if p == "v" or s == "cosine"
    ],
)
def test_every_prediction_and_path_has_the_gaussian_exponents(prediction, schedule):
    X = gaussian_sample(60)
    model = pretrained(prediction, schedule, LinearClock(999), **moments(X)).fit(X)
    unit = np.exp(model.scaling_.log_unit)
    window = (0.1, 1.0)
    flow = model.flow(n_steps=10, window=window)
    x = model.encode(X[:2])
    with torch.no_grad():
        trajectory = flow.trajectory(x)
    rates = lyapunov_frame(flow, trajectory).exponents
    expected = np.tile(gaussian_rates(X.var(0) / unit**2, *window), (2, 1))
    np.testing.assert_allclose(rates, expected, atol=5e-3)


@pytest.mark.parametrize("clock", **cases(CLOCKS))
@every_prediction
def test_every_clock_and_prediction_has_the_same_denoiser(clock, prediction):
    X = gaussian_sample(60)
    expected = GaussianModel().fit(X)
    options = {"mean": X.mean(0), "deviation": X.std(0)}
    model = pretrained(prediction, Cosine(), clock, **options).fit(X)
    y = model.encode(X[:4]) + 0.3
    unit = np.exp(expected.scaling_.log_unit)
    c = torch.from_numpy(X.var(0) / unit**2)
    for s in (0.05, 1.0):
        level = torch.tensor(s, dtype=torch.float64)
        torch.testing.assert_close(model.denoiser()(y, level), c / (c + s**2) * y)


@pytest.mark.parametrize("schedule", [Cosine(), SCHEDULES["DDPM's table"]], ids=["smooth", "table"])
def test_sample_and_density_are_those_of_the_gaussian(schedule):
    X = gaussian_sample(200)
    options = moments(X) | {"random_state": 0}
    model = pretrained(NoisePrediction(), schedule, LinearClock(999), **options).fit(X)
    sample = model.sample(2000)
    smoothing = model.noise_range_[0] * np.exp(model.scaling_.log_unit)
    np.testing.assert_allclose(sample.mean(0), X.mean(0), atol=0.1)
    np.testing.assert_allclose(sample.std(0), X.std(0), rtol=0.05)
    diagonal = np.diag(X.var(0) + smoothing**2)
    z = X[:10] - X.mean(0)
    expected = -0.5 * ((z**2 / np.diag(diagonal)).sum(1) + np.log(np.diag(diagonal)).sum())
    expected -= 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(model.score_samples(X[:10]), expected, atol=0.05)
    c = X.var(0) / np.exp(2 * model.scaling_.log_unit)
    expected = gaussian_loss(c, model.noise_range_[0], COARSE)
    assert model.loss_ == pytest.approx(expected, rel=0.05)  # 2000 draws of the noise


@pytest.mark.parametrize("scale, shift", [(127.5, 127.5), (0.5, [1.0, -2.0, 3.0])])
def test_shift_and_scale_are_the_units_of_the_network(scale, shift):
    """The same network and rows in other units: the same spectrum, the rows in those units."""
    X = gaussian_sample(60)
    options = moments(X) | {"random_state": 0}
    plain = pretrained(NoisePrediction(), Cosine(), **options).fit(X)
    moved = pretrained(NoisePrediction(), Cosine(), **options, scale=scale, shift=shift)
    moved.fit(X * scale + shift)
    assert moved.noise_range_ == pytest.approx(plain.noise_range_)
    assert moved.loss_ == pytest.approx(plain.loss_)
    expected = plain.sample(4) * scale + shift
    np.testing.assert_allclose(moved.sample(4), expected, rtol=1e-7, atol=1e-7)
    expected = plain.score_samples(X[:2]) - 3 * np.log(scale)
    np.testing.assert_allclose(moved.score_samples(X[:2] * scale + shift), expected, atol=1e-6)


def test_noise_level_per_row_is_that_of_each_row():
    X = gaussian_sample(60)
    for prediction in PREDICTIONS.values():
        denoise = pretrained(prediction, Cosine(), **moments(X)).fit(X).denoiser()
        y = torch.from_numpy(X[:4])
        s = torch.tensor([[0.05], [0.2], [1.0], [3.0]], dtype=torch.float64)
        alone = torch.cat([denoise(y[i : i + 1], s[i, 0]) for i in range(4)])
        torch.testing.assert_close(denoise(y, s), alone)


def test_rows_reach_the_network_in_its_shape_and_type():
    seen = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
            self.eval()

        def forward(self, x, t):
            seen.append((x.shape[1:], t.shape == x.shape[:1], x.dtype, t.dtype))
            return x + self.weight

    X = np.random.default_rng(0).normal(size=(20, 12))
    model = PretrainedModel(Network(), NoisePrediction(), Cosine(), shape=(3, 2, 2)).fit(X)
    assert set(seen) == {((3, 2, 2), True, torch.bfloat16, torch.bfloat16)}
    assert model.sample(2, random_state=0).shape == (2, 12)
    assert model.encode(X).dtype == torch.float32  # what is not the network is as elsewhere


def test_coupled_model_follows_the_ode_and_refuses_the_score():
    X = gaussian_sample(60)
    model = pretrained(NoisePrediction(), Cosine(), **moments(X), coupled=True).fit(X)
    assert not model.has_score
    assert not isinstance(model.default_solver(), ReverseDiffusion)
    with pytest.raises(ValueError, match="needs the score"):
        model.flow(solver=ReverseDiffusion())


def condition_network(x, t, *, mean):
    return GaussianNetwork(NoisePrediction(), Cosine(), mean=mean)(x, t)


@pytest.mark.parametrize("mean", [0.0, 5.0])
def test_condition_is_fixed_by_a_partial(mean, rng):
    network = functools.partial(condition_network, mean=mean)
    X = rng.normal(size=(200, 2)) + mean
    model = PretrainedModel(network, NoisePrediction(), Cosine()).fit(X)
    assert abs(model.sample(500, random_state=0).mean() - mean) < 0.2


# --- state ------------------------------------------------------------------------------------


def test_clone_and_manifold_share_the_network_and_leave_it_as_it_was():
    X = gaussian_sample(60)
    model = pretrained(NoisePrediction(), Cosine(), **moments(X))
    before = pickle.dumps(model.network)
    assert clone(model).network is model.network
    assert clone(model).prediction is not None
    m = LyapunovManifold(model=model, n_steps=2, n_paths=1, n_reference=5, random_state=0).fit(X)
    assert m.model_.network is model.network and m.model_ is not model
    assert pickle.dumps(model.network) == before


def test_foreign_network_is_not_saved_but_pickled(tmp_path):
    """Own ones are saved: see the tests of persistence."""
    X, path = gaussian_sample(60), tmp_path / "model.safetensors"
    model = pretrained(NoisePrediction(), Cosine(), **moments(X)).fit(X)
    with pytest.raises(TypeError, match="network is a tables.GaussianNetwork.*pickle"):
        save(model, path)
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.sample(3, random_state=0), model.sample(3, random_state=0))


# --- what is refused --------------------------------------------------------------------------


def wrong_conventions():
    X = gaussian_sample(60)
    true = {"prediction": NoisePrediction(), "schedule": Cosine(), "clock": LinearClock(999)}
    network = GaussianNetwork(**true, **moments(X))
    return X, network, true


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction": PREDICTIONS["velocity"]},
        {"prediction": PREDICTIONS["score"]},
        {"clock": LinearClock(-999, 999)},
        {"shift": 30.0},
        {"scale": 20.0},
    ],
    ids=str,
)
def test_fit_warns_of_other_conventions_than_the_networks(wrong):
    X, network, true = wrong_conventions()
    with pytest.warns(ConvergenceWarning, match="no better"):
        assert PretrainedModel(network, **(true | wrong)).fit(X).loss_ > 1.1


def shaped(output):
    return lambda x, t: output(x)


def fails(x, t):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


REFUSED = {
    "no network": ({"network": None}, TypeError, "network must be a callable"),
    "a class": ({"network": torch.nn.Linear}, TypeError, "network must be a callable"),
    "training": ({"network": torch.nn.Linear(3, 3)}, ValueError, "training mode.*eval"),
    "training inside a partial": (
        {"network": functools.partial(torch.nn.Linear(3, 3))},
        ValueError,
        "training mode",
    ),
    "no prediction": ({"prediction": None}, TypeError, "prediction must be a Prediction"),
    "a name": ({"prediction": "epsilon"}, TypeError, "alignlearn.predictions, got 'epsilon'"),
    "no schedule": ({"schedule": None}, TypeError, "schedule must be a Schedule"),
    "wider output": (
        {"network": shaped(lambda x: torch.cat([x, x], 1))},
        ValueError,
        r"shape of its input, \(2, 3\), got \(2, 6\)",
    ),
    "no tensor": ({"network": shaped(lambda x: (x,))}, ValueError, "got tuple"),
    "failing": ({"network": fails}, ValueError, r"rows of shape \(2, 3\).*cannot be multiplied"),
    "NaN": ({"network": shaped(lambda x: x * math.nan)}, FloatingPointError, "infinity or NaN"),
    "other shape": ({"shape": (2, 2)}, ValueError, "4 numbers, but X has 3 features"),
    "shift of other length": ({"shift": [0.0, 1.0]}, ValueError, r"of shape \(3,\), got shape"),
    "tiny scale": ({"scale": 1e-200}, ValueError, "far from what the network"),
    "below the schedule": (
        {"schedule": VarianceExploding(0.5, 50.0), "s_min": 0.01},
        ValueError,
        "noise levels from",
    ),
    "beyond the schedule": (
        {"scale": 1e4, "schedule": VarianceExploding(1, 2)},
        ValueError,
        "scale",
    ),
    "window outside": ({"window": (1e-5, 0.2)}, ValueError, "window"),
}


@pytest.mark.parametrize("options, error, words", **cases(REFUSED))
def test_unusable_model_is_refused_in_words(options, error, words):
    X, network, true = wrong_conventions()
    model = PretrainedModel(network, true["prediction"], true["schedule"])
    with pytest.raises(error, match=words):
        model.set_params(**options).fit(X)
    assert not model.__sklearn_is_fitted__()


def test_device_of_a_network_that_is_elsewhere_is_refused():
    X, network, true = wrong_conventions()
    with pytest.raises(ValueError, match="device='meta', but the network is on cpu"):
        PretrainedModel(network, **true, device="meta").fit(X)
