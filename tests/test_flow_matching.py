"""Laws of flow matching. Oracle: the closed forms of Gaussian data and a Gaussian source."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import Mixture
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from tables import COUPLINGS, MODELS, PATHS, SOURCES, cases

from alignlearn import LyapunovManifold, load, save, training
from alignlearn._arrays import Scaling
from alignlearn.couplings import EntropicCoupling, IndependentCoupling, OptimalTransportCoupling
from alignlearn.flow import velocity_field
from alignlearn.gaussian import Gaussian
from alignlearn.matching import HeldOutMatchingLoss, MatchingLoss, SourceSampler, draw_times
from alignlearn.models import FlowMatching
from alignlearn.models.density import velocity_log_volume
from alignlearn.paths import LinearPath, SchroedingerBridgePath
from alignlearn.schedules import VarianceExploding
from alignlearn.scoring import denoising_score
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion, RungeKutta4, StochasticSolver
from alignlearn.sources import EightGaussians, StandardGaussian
from alignlearn.tangent import log_volume, lyapunov_frame

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
every_path = pytest.mark.parametrize("path", **cases(PATHS))
SPREADS = np.array([1.5, 0.4])
VARIANCES = 2 * SPREADS**2 / (SPREADS**2).sum()  # in the model's coordinates


def plane(n=80, D=2):
    """Gaussian rows off the origin."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, D)) * np.resize(SPREADS, D) + np.arange(D)


def uniform_source(n_samples, rng):
    """A source of the user's, without a density."""
    return rng.uniform(-2, 2, size=(n_samples, 2))


def small(**options):
    return MODELS["FlowMatching"](**options)


KINDS = {
    **{f"{name} path": {"path": path} for name, path in PATHS.items()},
    **{f"{name} coupling": {"coupling": coupling} for name, coupling in COUPLINGS.items()},
    **{f"{name} source": {"source": source} for name, source in SOURCES.items()},
    "own source": {"source": uniform_source},
    "everything": {
        "path": SchroedingerBridgePath(0.5),
        "coupling": OptimalTransportCoupling(),
        "source": EightGaussians(),
    },
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def fitted(request):
    """Every kind of flow matching on a plane, all but untrained."""
    return small(**request.param).fit(plane())


class Exact(FlowMatching):
    """Knows the velocity of `VARIANCES`; independent pairs and a standard Gaussian source."""

    def velocity(self):
        data = Gaussian(torch.eye(2).double(), torch.from_numpy(VARIANCES), torch.zeros(()))
        return velocity_field(data.denoise, self.path_.schedule)


def exact(path):
    model = Exact(path=path, width=8, n_blocks=1, max_iter=1, random_state=0).fit(plane())
    return model


def whole_covariance(path, t):
    """Variances of x_t on each axis of Gaussian data, independent pairs."""
    alpha, sigma = path.schedule.alpha(t), path.schedule.sigma(t)
    return alpha**2 * torch.from_numpy(VARIANCES) + sigma**2


# --- closed forms -----------------------------------------------------------------------------


@every_path
def test_exponents_of_the_exact_velocity_are_the_closed_form(path):
    """``x_t`` is Gaussian at every time: the flow stretches by the ratio of its deviations."""
    model, window = exact(path), (0.3, 3.0)
    flow = model.flow(n_steps=40, window=window)
    frame = lyapunov_frame(flow, flow.trajectory(torch.randn(3, 2).double()))
    ends = path.time(torch.tensor(window[::-1], dtype=torch.float64))
    first, last = (whole_covariance(path, t) for t in ends)
    sigma = path.schedule.sigma(ends)
    expected = 0.5 * torch.log(last / first) / torch.log(sigma[0] / sigma[1])
    expected = expected.sort(descending=True).values.expand(3, 2)
    torch.testing.assert_close(frame.exponents, expected, rtol=0, atol=1e-5)


@every_path
def test_direction_that_only_the_path_contracts_has_exponent_minus_one(path):
    """Data at the origin: everything is source and noise."""
    model = exact(path)
    flow = model.flow(n_steps=60, window=(1.5 * model.noise_range_[0], 3.0))
    flow = replace(flow, field=velocity_field(lambda y, s: 0 * y, path.schedule))
    frame = lyapunov_frame(flow, flow.trajectory(torch.randn(3, 2).double()))
    torch.testing.assert_close(frame.exponents, -torch.ones(3, 2).double(), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def mixture():
    """Two Gaussians in the plane, and rows of them."""
    means = torch.tensor([[1.0, 0.3], [-1.0, -0.3]], dtype=torch.float64)
    law = Mixture(means, torch.full((2,), 0.05, dtype=torch.float64))
    rng = np.random.default_rng(0)
    X = means.numpy()[rng.integers(2, size=2000)] + 0.05**0.5 * rng.standard_normal((2000, 2))
    return law, X


def test_independent_pairs_teach_the_velocity_of_the_posterior_mean(mixture):
    law, X = mixture
    model = small(width=32, max_iter=500, s_min=0.1).fit(X)
    unit, center = np.exp(model.scaling_.log_unit), model.decode(torch.zeros(1, 2))
    own = Mixture((law.means - torch.from_numpy(center)) / unit, law.variances / unit**2)
    exact = velocity_field(own.denoise, model.path_.schedule)
    linear = velocity_field(model.gaussian_.denoise, model.path_.schedule)
    generator = torch.Generator().manual_seed(0)
    x_0 = model.encode(X[:500])
    x_1 = torch.randn(500, 2, generator=generator)
    errors = []
    for t in torch.tensor([0.15, 0.3, 0.5, 0.8], dtype=torch.float64):
        x_t = model.path_.state(x_0, x_1, x_1, t.to(x_0))
        expected = exact(x_t.double(), t).to(x_t)
        errors.append(
            [float((v(x_t, t) - expected).square().mean()) for v in (model.velocity(), linear)]
        )
    learned, baseline = np.sqrt(np.mean(errors, axis=0))
    assert learned < 0.35 * baseline


def test_optimal_pairs_teach_the_straight_flow_of_the_monge_map():
    """Gaussian data: ``x_0 = C^(1/2) x_1``, ``v = (1 - c) / ((1 - t) c + t) x``, c deviations."""
    X = plane(2000)
    coupling = OptimalTransportCoupling()
    model = small(width=32, max_iter=300, batch_size=128, s_min=0.1, coupling=coupling).fit(X)
    c = torch.from_numpy(X.std(0) / np.exp(model.scaling_.log_unit))
    independent = velocity_field(model.gaussian_.denoise, model.path_.schedule)
    x_1 = torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for t in torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64):
        x_t = ((1 - t) * c + t) * x_1
        expected = (1 - c) * x_1
        errors.append(
            [
                float((v(x_t.float(), t) - expected).square().mean())
                for v in (model.velocity(), independent)
            ]
        )
    learned, other = np.sqrt(np.mean(errors, axis=0))
    assert learned < 0.35 * other


# --- algebra ----------------------------------------------------------------------------------


def test_denoiser_and_velocity_are_one_another(fitted):
    """The velocity made from the denoiser is the velocity; x is made of its two ends."""
    denoise, schedule = copy.deepcopy(fitted.denoiser()).double(), fitted.path_.schedule
    x = torch.randn(20, 2, dtype=torch.float64)
    low = schedule.time(torch.tensor(fitted.noise_range_[0], dtype=torch.float64))
    for t in (low, *torch.tensor([0.3, 0.6, 0.99], dtype=torch.float64)):
        expected = velocity_field(denoise, schedule)(x, t)
        torch.testing.assert_close(denoise.velocity(x, t), expected, rtol=1e-6, atol=1e-8)
        den, noise = denoise.split(x, schedule.alpha(t), schedule.sigma(t))
        torch.testing.assert_close(schedule.alpha(t) * den + schedule.sigma(t) * noise, x)


def test_velocity_is_finite_from_the_data_to_the_source(fitted):
    x = torch.randn(20, 2)
    for t in torch.tensor([0.0, 1e-12, 1e-3, 0.5, 1 - 1e-12, 1.0], dtype=torch.float64):
        assert torch.isfinite(fitted.velocity()(x, t)).all()


def test_flow_starts_at_the_source_and_ends_at_the_smallest_ratio(fitted):
    times = fitted.flow(n_steps=7).times
    assert times[0] == 1.0 and len(times) == 8 and (times.diff() < 0).all()
    assert fitted.path_.schedule.ratio(times[-1]) == pytest.approx(fitted.noise_range_[0])


def test_vectors_do_not_depend_on_the_coordinates(fitted):
    """The flow in x and the one in ``x / alpha`` stretch alike, but for the scalar alpha."""
    low, high = window = fitted.window_[0], fitted.window_[1] / 2
    precise = copy.copy(fitted)
    precise.denoiser_ = copy.deepcopy(fitted.denoiser_).double()
    x = fitted.encode(plane(6)).double()
    native, other = (
        precise.flow(solver=solver, n_steps=40, window=window)
        for solver in (RungeKutta4(), ExponentialMidpoint(VarianceExploding(low, high)))
    )
    alpha = fitted.path_.alpha(native.times[[0, -1]])
    frame = lyapunov_frame(native, native.trajectory(alpha[1] * x))
    expected = lyapunov_frame(other, other.trajectory(x))
    stretch = frame.exponents * native.elapsed + torch.log(alpha[0] / alpha[1])
    torch.testing.assert_close(stretch, expected.exponents * other.elapsed, rtol=0, atol=2e-3)
    cosines = (frame.vectors * expected.vectors).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones_like(cosines), rtol=0, atol=1e-4)


def test_tangents_of_a_manifold_do_not_depend_on_the_coordinates():
    options = {"n_steps": 12, "n_reference": 10, "random_state": 0}
    default, native = (
        LyapunovManifold(model=small(), solver=solver, **options).fit(plane())
        for solver in (None, RungeKutta4())
    )
    overlap = np.einsum("nij,nij->nj", *(m.tangent_space(plane(9), 2) for m in (default, native)))
    np.testing.assert_allclose(np.abs(overlap), 1, atol=2e-3)


# --- the process ------------------------------------------------------------------------------


def test_sample_is_finite_reproducible_and_seeded(fitted):
    first, again = (fitted.sample(5, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all() and first.shape == (5, 2)
    assert (first != fitted.sample(5, random_state=4)).all()


def test_refit_is_bitwise_the_same(fitted):
    twin = clone(fitted).fit(plane())
    for a, b in zip(fitted.denoiser_.parameters(), twin.denoiser_.parameters(), strict=True):
        assert torch.equal(a, b)


def test_manifold_takes_the_ode_by_default(fitted):
    solver = fitted.default_solver()
    assert not isinstance(solver, StochasticSolver)
    assert isinstance(MODELS["GaussianModel"]().fit(plane()).default_solver(), ReverseDiffusion)


def test_reverse_diffusion_and_denoising_score_need_a_score(fitted):
    solver, X = ReverseDiffusion(VarianceExploding(*fitted.noise_range_)), plane()
    if fitted.has_score:
        assert fitted.flow(solver=solver).n_steps == 24 and denoising_score(fitted, X) < 0
        return
    with pytest.raises(ValueError, match="needs the score"):
        fitted.flow(solver=solver)
    with pytest.raises(ValueError, match="denoising_score asks"):
        denoising_score(fitted, X)


def test_only_independent_pairs_of_a_standard_gaussian_have_a_score():
    scores = {
        name: small(max_iter=1, **kind).fit(plane()).has_score for name, kind in KINDS.items()
    }
    without = {name for name, has_score in scores.items() if not has_score}
    bridges = {name for name in KINDS if "bridge" in name}
    others = {f"{name} coupling" for name in COUPLINGS if name != "independent"}
    assert without == bridges | others | {"eight Gaussians source", "own source", "everything"}


DENSE = {
    "linear": {"path": LinearPath(0.2)},
    "bridge": {"path": SchroedingerBridgePath(0.5), "coupling": IndependentCoupling()},
    "eight Gaussians": {"source": EightGaussians(radius=1.5, scale=0.5)},
}


@pytest.mark.parametrize("kind", DENSE.values(), ids=DENSE)
def test_density_integrates_to_one(kind):
    X = plane()
    model = small(s_min=0.4, **kind).fit(X)
    axes = [
        np.linspace(m - 7 * s, m + 7 * s, 41) for m, s in zip(X.mean(0), 2 * X.std(0), strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(model.score_samples(grid)).sum() * cell == pytest.approx(1, abs=0.02)


def test_volume_in_many_dimensions_is_close_to_the_exact_one():
    """Beyond 128 features the divergence is estimated from random probes."""
    X = plane(300, 140)
    model = small(s_min=0.3).fit(X)
    flow = model.flow()
    with torch.no_grad():
        trajectory = flow.trajectory(model.encode(X[:2]))
    expected = log_volume(flow, trajectory)
    estimate = velocity_log_volume(flow, trajectory)
    torch.testing.assert_close(estimate, expected, rtol=0, atol=0.02 * 140)
    assert np.isfinite(model.score_samples(X[:2])).all()


def test_source_without_a_density_gives_no_log_density():
    model = small(source=uniform_source).fit(plane())
    with pytest.raises(ValueError, match="source with a density"):
        model.score_samples(plane())


def test_source_of_the_user_is_in_the_units_of_the_user():
    for unit in (1.0, 100.0):
        model = small(source=EightGaussians(), max_iter=1).fit(unit * plane())
        rows = model.decode(model._sampler()(500, np.random.default_rng(0)))
        assert np.linalg.norm(rows, axis=1).mean() == pytest.approx(5, abs=0.1)


def test_data_in_a_subspace_are_learned_there():
    """Nothing is generated across the span, and the velocity across it is that of the source."""
    X = np.c_[plane(), plane().sum(1)]
    model = small(coupling=OptimalTransportCoupling()).fit(X)
    assert model.scaling_.rank == 2
    sample = model.sample(20)
    np.testing.assert_allclose(sample[:, 2], sample[:, :2].sum(1), atol=1e-4)
    normal = torch.tensor([1.0, 1, -1]) / 3**0.5
    x, t = torch.randn(9, 3), torch.tensor(0.3)
    torch.testing.assert_close(
        model.velocity()(x, t) @ normal, x @ normal / t, rtol=1e-4, atol=1e-4
    )


def off_circle(X):
    """Mean distance to the unit circle."""
    return np.abs(np.linalg.norm(X, axis=1) - 1).mean()


@pytest.mark.parametrize("coupling", [IndependentCoupling(), OptimalTransportCoupling()])
def test_manifold_of_a_circle_is_found(coupling):
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 300)
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    model = small(coupling=coupling, width=32, max_iter=400, batch_size=128)
    m = LyapunovManifold(model=model, n_reference=30, random_state=0).fit(X)
    assert m.dimension_ == 1 and (m.dimension(X[:50]) == 1).mean() > 0.9
    cosines = np.abs((m.tangent_space(X[:50])[..., 0] * X[:50]).sum(1))
    assert np.degrees(np.arcsin(np.median(cosines))) < 5
    assert off_circle(m.sample(200)) < 0.1
    assert np.isfinite(m.score_samples(X[:9])).all()
    assert np.isfinite(m.transform(X[:9])).all() and np.isfinite(m.project(X[:9])).all()
    if m.model_.has_score:
        assert off_circle(m.project(1.05 * X[:20])) < 0.02


# --- state ------------------------------------------------------------------------------------


def test_every_kind_is_saved_and_pickled(fitted, tmp_path):
    twins = [pickle.loads(pickle.dumps(fitted))]
    if fitted.source is uniform_source:
        with pytest.raises(TypeError, match="source is a builtins.function"):
            save(fitted, tmp_path / "file")
    else:
        save(fitted, tmp_path / "file")
        twins.append(load(tmp_path / "file", device="cpu"))
    for twin in twins:
        np.testing.assert_array_equal(twin.sample(3), fitted.sample(3))
        assert twin.path_ == fitted.path_ and twin.coupling_ == fitted.coupling_


def test_interrupted_fit_goes_on_and_ends_bitwise_the_same(fitted, tmp_path, monkeypatch):
    one_cycle, calls = training.one_cycle, []

    def interrupting(progress):
        calls.append(progress)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return one_cycle(progress)

    model = clone(fitted).set_params(checkpoint=tmp_path)
    with monkeypatch.context() as patch, pytest.warns(ConvergenceWarning, match="interrupted"):
        patch.setattr(training, "one_cycle", interrupting)
        model.fit(plane())
    assert np.isfinite(model.sample(3)).all() and model.n_iter_ == 2
    model.fit(plane())
    assert model.histories_ == fitted.histories_
    np.testing.assert_array_equal(model.sample(3), fitted.sample(3))


def test_folder_of_another_source_is_refused(tmp_path):
    small(checkpoint=tmp_path, source=EightGaussians()).fit(plane())
    for source in (EightGaussians(radius=4.0), uniform_source):
        with pytest.raises(ValueError, match="another fit.* source"):
            small(checkpoint=tmp_path, source=source).fit(plane())


# --- the loss ---------------------------------------------------------------------------------


def make_loss(path, x, **options):
    """Loss of rows with independent pairs and a standard Gaussian source."""
    scaling = Scaling(0, np.zeros(2), 1.0, 2)
    sampler = SourceSampler(StandardGaussian(), scaling, 2)
    t_min = float(path.time(torch.tensor(0.15, dtype=torch.float64)))
    generator = torch.Generator().manual_seed(0)
    return MatchingLoss(x, sampler, IndependentCoupling(), path, t_min, 1.0, len(x), generator)


@pytest.mark.parametrize("path", [PATHS["linear"], PATHS["trigonometric"]])
def test_loss_of_the_best_velocity_of_white_data_is_one(path, generator):
    x = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    best = velocity_field(lambda y, s: y / (1 + s * s), path.schedule)
    assert float(make_loss(path, x)(best)) == pytest.approx(1, abs=0.02)


@every_path
def test_no_other_velocity_has_a_lower_loss_than_the_closed_form(path, generator):
    x = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    best = velocity_field(lambda y, s: y / (1 + s * s), path.schedule)
    loss = HeldOutMatchingLoss(make_loss(path, x))
    lowest = loss(best)
    assert 0.2 < lowest < 1.2
    for shift in (-0.2, 0.2):
        assert loss(lambda x, t, shift=shift: best(x, t) + shift) > lowest
    for factor in (0.8, 1.2):
        assert (
            loss(velocity_field(lambda y, s, f=factor: f * y / (1 + s * s), path.schedule)) > lowest
        )


def test_held_out_loss_has_the_same_draws_at_every_call(generator):
    loss = HeldOutMatchingLoss(make_loss(LinearPath(), torch.randn(40, 2, generator=generator)))
    assert loss(lambda x, t: -x) == loss(lambda x, t: -x)
    assert len(loss.batch.t) == 2000


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_a_quarter_of_the_times_is_uniform_and_the_rest_log_uniform(n, generator):
    t = draw_times(n, 0.01, generator)
    assert t.shape == (n, 1) and (t >= 0.01).all() and (t < 1).all()
    if n == 1000:
        expected = 0.25 * 0.9 / 0.99 + 0.75 * 0.5  # of (0.1, 1)
        assert float((t > 0.1).double().mean()) == pytest.approx(expected, abs=0.005)
        assert abs(np.corrcoef(np.arange(n), t[:, 0])[0, 1]) < 0.1


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (EightGaussians(), r"dimension of the data, shape \(2, 3\), got \(2, 2\)"),
        (lambda n, rng: rng.normal(size=(n, 4)), r"dimension of the data.*got \(2, 4\)"),
        (lambda n, rng: rng.normal(size=(n + 1, 3)), r"got \(3, 3\)"),
        (lambda n, rng: rng.normal(size=n), r"got \(2,\)"),
        (lambda n, rng: np.full((n, 3), np.nan), "infinite or NaN"),
        (lambda n, rng: np.full((n, 3), np.inf), "infinite or NaN"),
        (lambda n, rng: [["a", "b", "c"]] * n, "array of numbers"),
        (lambda n, rng: None, "shape"),
        (lambda n, rng: np.full((n, 3), 1e300), "source|X holds"),
    ],
)
def test_source_that_does_not_fit_the_data_is_refused(source, message, tmp_path):
    model = small(source=source, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=message):
        model.fit(plane(40, 3))
    assert not hasattr(model, "window_") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("path", "linear"),
        ("path", LinearPath),
        ("path", IndependentCoupling()),
        ("coupling", "ot"),
        ("coupling", OptimalTransportCoupling),
        ("coupling", StandardGaussian()),
        ("source", "gaussian"),
        ("source", EightGaussians),
        ("source", 3),
    ],
)
def test_object_of_another_type_is_refused_by_name(parameter, value):
    with pytest.raises(TypeError, match=f"{parameter} must be a"):
        small(**{parameter: value}).fit(plane())


@pytest.mark.parametrize("window", [(0.001, 0.1), (0.2, 0.1), (0.1, 1e9)])
def test_window_outside_the_range_is_refused(window):
    with pytest.raises(ValueError, match="window"):
        small(window=window).fit(plane())


def test_noise_that_a_path_keeps_bounds_the_range():
    model = small(path=LinearPath(0.1), max_iter=1).fit(plane())
    assert model.noise_range_[0] == pytest.approx(0.11)
    assert model.window_ == pytest.approx((0.22, 2.2))


def test_flow_of_no_steps_is_refused(fitted):
    with pytest.raises(ValueError, match="n_steps"):
        fitted.flow(n_steps=0)


def test_default_coupling_is_the_bridges_own():
    model = small(path=SchroedingerBridgePath(0.5), max_iter=1).fit(plane())
    assert model.coupling_ == EntropicCoupling(0.5)
