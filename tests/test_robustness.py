"""Laws of perturbed generation: no error moves nothing, errors of linear flows in closed form."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.exceptions import NotFittedError
from tables import MODELS, ODE_SOLVERS, SOLVERS, cases

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_sphere
from alignlearn.flow import Flow
from alignlearn.models import GaussianModel, KernelDiffusion
from alignlearn.perturbations import (
    ConstantError,
    FieldError,
    OnMap,
    OnScore,
    OnVelocity,
    RandomSignError,
    perturb,
)
from alignlearn.robustness import perturbed_generation
from alignlearn.schedules import Cosine, VarianceExploding
from alignlearn.solvers import Euler, ExponentialMidpoint, Heun, ReverseDiffusion, RungeKutta4
from alignlearn.support_shift import (
    energy_distance,
    learned_score,
    normal_cosine,
    split_displacement,
    support_shift,
)

CIRCLE = make_sphere(60, 1, random_state=0)
SCHEDULE = VarianceExploding(0.05, 5.0)
PLACES = {"score": OnScore(SCHEDULE), "velocity": OnVelocity(SCHEDULE), "map": OnMap()}
ERRORS = {
    "constant": ConstantError,
    "signs": RandomSignError,
    "signs at every step": lambda size: RandomSignError(size, per_step=True),
    "user's": lambda size: FieldError(lambda x, t: size * torch.sin(x)),
}


class ReadsField(ExponentialMidpoint):
    """Its step is the value of the field."""

    def __call__(self, field, x, t, s):
        return field(x, t)


@pytest.fixture(scope="module")
def model():
    return GaussianModel(s_min=0.05, s_max=5.0, window=(0.1, 1.0)).fit(CIRCLE.points)


@pytest.mark.parametrize("error", **cases(ERRORS))
@pytest.mark.parametrize("place", **cases(PLACES))
@pytest.mark.parametrize("make_solver", **cases(SOLVERS))
def test_zero_error_gives_bitwise_the_unperturbed_samples(make_solver, place, error, model):
    options = {"n_samples": 9, "n_steps": 4, "random_state": 1, "solver": make_solver(SCHEDULE)}
    found = perturbed_generation(model, error(0.0), place, **options)
    np.testing.assert_array_equal(found.perturbed, found.unperturbed)
    moved = perturbed_generation(model, error(0.01), place, **options)
    np.testing.assert_array_equal(moved.unperturbed, found.unperturbed)
    assert (moved.perturbed != found.unperturbed).any(axis=1).all()


@pytest.mark.parametrize("make_model", **cases(MODELS))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_model_and_its_manifold_give_the_same_samples(make_model):
    manifold = LyapunovManifold(model=make_model(), n_steps=2, n_paths=1, random_state=0)
    manifold.fit(CIRCLE.points)
    options = {"n_samples": 5, "n_steps": 3, "random_state": 0}
    a, b = (
        perturbed_generation(m, ConstantError(0.1), **options) for m in (manifold, manifold.model_)
    )
    np.testing.assert_array_equal(a.perturbed, b.perturbed)
    assert a.unperturbed.shape == (5, 2) and np.isfinite(a.perturbed).all()


def test_constant_error_of_the_velocity_of_a_linear_flow_moves_samples_by_the_closed_form():
    """``dx/dt = a x + c`` from t = 1 to 0: x moves by ``-c (1 - e^-a) / a``."""
    a, c, times = 0.7, 0.3, torch.linspace(1, 0, 41, dtype=torch.float64)
    flow = Flow(lambda x, t: a * x, RungeKutta4(), times)
    z = np.random.default_rng(0).standard_normal((7, 3))
    found = perturbed_generation(flow, ConstantError(c), OnVelocity(), source=z)
    np.testing.assert_allclose(found.unperturbed, z * np.exp(-a), rtol=1e-8)
    expected = -c * (1 - np.exp(-a)) / a
    np.testing.assert_allclose(found.perturbed - found.unperturbed, expected, rtol=1e-8)


@pytest.mark.parametrize("schedule", [VarianceExploding(0.05, 5.0), Cosine()])
@pytest.mark.parametrize("place", [OnScore, OnVelocity])
def test_error_means_the_same_to_velocity_and_denoiser_solvers(schedule, place, model):
    """Both converge to one flow, also where the schedule has another clock and length."""
    ends = []
    for solver in (RungeKutta4(), ExponentialMidpoint(schedule)):
        flow = Flow.from_denoiser(
            model.denoiser(), schedule, solver, n_steps=100, s_max=5.0, s_min=0.05
        )
        moved = perturb(flow, ConstantError(0.2), place(schedule), n_features=2)
        z = torch.ones(1, 2, dtype=torch.float64)
        ends.append(moved.push(z) - flow.push(z))
    assert ends[0].abs().min() > 1e-3
    torch.testing.assert_close(ends[0], ends[1], rtol=2e-2, atol=1e-5)


def test_error_of_the_score_is_that_of_the_denoiser_times_alpha_over_sigma_squared(model):
    schedule = Cosine()
    flow = model.flow(solver=ReadsField(schedule), n_steps=3)
    moved = perturb(flow, ConstantError(0.3), OnScore(), n_features=2)
    assert moved.place.schedule == schedule  # named in the result, whoever said it
    x, t = torch.ones(4, 2, dtype=torch.float64), flow.times[1]
    expected = 0.3 * schedule.sigma(t) ** 2 / schedule.alpha(t)
    difference = moved.step(1)(x) - flow.step(1)(x)
    torch.testing.assert_close(difference, expected.expand(4, 2), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("place", **cases(PLACES))
def test_signs_of_every_step_and_fixed_ones_agree_when_there_is_one_step(place, model):
    once, anew = (
        [
            perturbed_generation(
                model, RandomSignError(0.5, per_step), place, n_steps=k, n_samples=6, random_state=2
            ).perturbed
            for k in (1, 8)
        ]
        for per_step in (False, True)
    )
    np.testing.assert_array_equal(once[0], anew[0])
    assert (once[1] != anew[1]).any()


def test_error_of_the_map_is_added_once_a_step_and_signs_are_shared_by_all_points(model):
    flow = Flow(lambda x, t: 0 * x, Euler(), torch.linspace(1, 0, 6, dtype=torch.float64))
    z = np.zeros((8, 40))
    found = perturbed_generation(flow, RandomSignError(0.5), OnMap(), source=z)
    np.testing.assert_allclose(abs(found.perturbed), 2.5)
    assert (found.perturbed == found.perturbed[0]).all()
    assert 0 < (found.perturbed[0] > 0).mean() < 1


@pytest.mark.parametrize("make_solver", **cases(ODE_SOLVERS))
def test_samples_do_not_depend_on_the_seed_once_the_source_is_given(make_solver, model):
    z = np.random.default_rng(0).standard_normal((5, 2))
    runs = [
        perturbed_generation(
            model,
            ConstantError(0.1),
            OnVelocity(SCHEDULE),
            source=z,
            solver=make_solver(SCHEDULE),
            n_steps=4,
            random_state=seed,
        )
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(runs[0].perturbed, runs[1].perturbed)
    np.testing.assert_array_equal(runs[0].source, z)


def test_samples_of_another_schedule_come_back_in_the_units_of_the_data(model):
    def spread(solver):
        options = {"n_samples": 400, "n_steps": 60, "random_state": 0}
        return perturbed_generation(model, ConstantError(0.0), solver=solver, **options).unperturbed

    plain, cosine = spread(None), spread(ExponentialMidpoint(Cosine()))
    np.testing.assert_allclose(plain, cosine, atol=0.02)


def test_result_names_every_choice(model):
    found = perturbed_generation(
        model, RandomSignError(0.5, per_step=True), solver=ReverseDiffusion(SCHEDULE), n_samples=2
    )
    said = " ".join(str(v) for v in found.conditions.values())
    for word in ("RandomSignError", "0.5", "per_step=True", "OnScore", "VarianceExploding", "36"):
        assert word in said


# ----------------------------------------------------------------------------------- bad input

BAD = {
    "shape": (lambda x, t: x[:, :1], OnScore(), ValueError, "shape of its points"),
    "array": (lambda x, t: x.numpy(), OnScore(), ValueError, "as a tensor"),
    "not finite": (lambda x, t: x / 0, OnScore(), ValueError, "finite error field"),
    "no callable": (0.5, OnScore(), TypeError, r"RandomSignError\(0.1\)"),
    "place": (ConstantError(0.1), "score", TypeError, r"OnScore\(\), OnVelocity\(\) or OnMap"),
}


@pytest.mark.parametrize("error, place, kind, message", **cases(BAD))
def test_bad_error_is_refused_and_says_what_to_do(error, place, kind, message, model):
    with pytest.raises(kind, match=message):
        perturbed_generation(model, error, place, n_samples=3)


def test_bad_model_source_and_size_are_refused(model):
    error = ConstantError(0.1)
    with pytest.raises(NotFittedError, match="not fitted"):
        perturbed_generation(GaussianModel(), error)
    with pytest.raises(NotFittedError, match="not fitted"):
        perturbed_generation(LyapunovManifold(), error)
    with pytest.raises(TypeError, match="model must be"):
        perturbed_generation("model", error)
    with pytest.raises(ValueError, match="pass source="):
        perturbed_generation(model.flow(), error)
    with pytest.raises(ValueError, match=r"source of shape \(n_samples, 2\)"):
        perturbed_generation(model, error, source=np.zeros((3, 5)))
    with pytest.raises(ValueError, match="finite source"):
        perturbed_generation(model, error, source=np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="n_samples"):
        perturbed_generation(model, error, n_samples=0)
    with pytest.raises(ValueError, match="Heun does not know the schedule"):
        perturbed_generation(model, error, OnScore(), solver=Heun())
    for size in (-1.0, np.nan, np.inf, "large"):
        for kind in (ConstantError, RandomSignError):
            with pytest.raises(ValueError, match="size must be"):
                kind(size)
    with pytest.raises(FloatingPointError, match="carries them away"):
        perturbed_generation(model, ConstantError(1e308), OnMap(), n_samples=3)


# ------------------------------------------------------------------------------------ support shift


def test_tangential_and_normal_displacement_add_in_quadrature(rng):
    frames = np.linalg.qr(rng.standard_normal((30, 5, 2))).Q
    X = rng.standard_normal((30, 5))
    move = rng.standard_normal((30, 5))
    found = support_shift(X, X + move, X, frames=frames)
    total = np.linalg.norm(move, axis=1)
    np.testing.assert_allclose(np.hypot(found.tangential, found.normal), total)
    along, across = split_displacement(move, frames)
    np.testing.assert_allclose(along + across, move)
    np.testing.assert_allclose(frames.swapaxes(1, 2) @ across[..., None], 0, atol=1e-12)


@pytest.mark.parametrize("source", ["frames", "reference_frames", "manifold"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_turning_a_circle_is_tangential_and_blowing_it_up_is_normal(source):
    many = make_sphere(800, 1, random_state=1)
    X = CIRCLE.points
    manifold = LyapunovManifold(
        model=KernelDiffusion(), n_paths=2, n_reference=20, window=(0.05, 0.3), random_state=0
    )
    given = {
        "frames": lambda: CIRCLE.tangents,
        "reference_frames": lambda: many.tangents,
        "manifold": lambda: manifold.fit(many.points),
    }[source]()
    turn = np.array([[np.cos(0.05), np.sin(0.05)], [-np.sin(0.05), np.cos(0.05)]])
    options = {source: given, "threshold": 0.03}
    turned = support_shift(X, X @ turn, many.points, **options)
    blown = support_shift(X, 1.05 * X, many.points, **options)
    assert turned.tangential_share > 0.99 and turned.off_support == 0
    assert blown.tangential_share < 0.01 and blown.off_support == 1
    exact = support_shift(
        X, 1.05 * X, many.points, distance=lambda x: abs(np.hypot(*x.T) - 1), **options
    )
    np.testing.assert_allclose(exact.distance_after, 0.05)
    assert set(exact.to_dict()) <= set(dir(exact)) and "off_support=1" in repr(exact)


def test_energy_distance_is_its_double_sum_zero_for_equal_samples_and_scipys_on_a_line(rng):
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((25, 3)) + 1

    def mean(A, B):
        return np.mean([[np.linalg.norm(a - b) for b in B] for a in A])

    expected = 2 * mean(X, Y) - mean(X, X) - mean(Y, Y)
    assert energy_distance(X, Y) == pytest.approx(expected)
    assert energy_distance(X, X) == 0
    assert energy_distance(X, X[rng.permutation(40)]) == pytest.approx(0, abs=1e-12)
    on_line = stats.energy_distance(X[:, 0], Y[:, 0]) ** 2
    assert energy_distance(X[:, :1], Y[:, :1]) == pytest.approx(on_line)


def test_normal_cosine_is_zero_along_one_across_and_that_of_the_angle_between(rng):
    sample = make_sphere(20, 2, random_state=0)
    np.testing.assert_allclose(normal_cosine(sample.tangents, 7 * sample.points), 0, atol=1e-12)
    np.testing.assert_allclose(normal_cosine(sample.points, -sample.points), 1)
    tilted = np.cos(0.3) * sample.tangents[..., 0] + np.sin(0.3) * sample.points
    np.testing.assert_allclose(normal_cosine(tilted, sample.points), np.sin(0.3))
    with pytest.raises(ValueError, match="length above 0"):
        normal_cosine(sample.points, 0 * sample.points)
    with pytest.raises(ValueError, match="expected vectors"):
        normal_cosine(sample.tangents, sample.points[:3])


def test_learned_score_of_a_gaussian_is_the_closed_form(model):
    X = CIRCLE.points
    x = model.encode(X).numpy()
    covariance = x.T @ x / len(x) + 0.2**2 * np.eye(2)
    np.testing.assert_allclose(learned_score(model, X, 0.2), -x @ np.linalg.inv(covariance))


def test_shift_refuses_what_does_not_fit_together(rng):
    X, E = CIRCLE.points, CIRCLE.tangents
    with pytest.raises(ValueError, match="same samples"):
        support_shift(X, X[:5], X, frames=E)
    with pytest.raises(ValueError, match="exactly one of"):
        support_shift(X, X, X)
    with pytest.raises(ValueError, match="reference with 2 features"):
        support_shift(X, X, X[:, :1], frames=E)
    with pytest.raises(ValueError, match="frames of shape"):
        support_shift(X, X, X, frames=E[:3])
    with pytest.raises(ValueError, match="orthonormal"):
        support_shift(X, X, X, frames=2 * E)
    with pytest.raises(NotFittedError):
        support_shift(X, X, X, manifold=LyapunovManifold())
    with pytest.raises(ValueError, match="finite distances"):
        support_shift(X, X, X, frames=E, distance=lambda x: x)
    with pytest.raises(ValueError, match="NaN"):
        support_shift(X, np.full_like(X, np.nan), X, frames=E)
