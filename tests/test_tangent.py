"""Laws of the tangent map and its singular vectors."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from oracles import (
    Mixture,
    dense_frame,
    dense_jacobian,
    dense_tangent_map,
    gaussian_denoiser,
    gaussian_rates,
    projectors,
)
from scipy.stats import ortho_group
from tables import ODE_SOLVERS, REVERSALS, SCHEDULES, SOLVERS, cases

from alignlearn._linalg import cholesky_qr
from alignlearn.derivatives import ALL_COLUMNS, divergence, pull_back, push_forward
from alignlearn.flow import Flow, Trajectory
from alignlearn.models.denoisers import PreconditionedDenoiser, SpanDenoiser
from alignlearn.networks import GatedNetwork
from alignlearn.solvers import (
    Euler,
    EulerMaruyama,
    Heun,
    ReverseDiffusion,
    RungeKutta4,
    Solver,
    StochasticSolver,
)
from alignlearn.tangent import _qr, log_volume, lyapunov_frame, qr_sweep

D, N_STEPS, S_MAX, S_MIN = 4, 8, 3.0, 0.1
every_solver = pytest.mark.parametrize("make_solver", **cases(SOLVERS))
mixture = Mixture.example(D)


def make_flow(make_solver=SOLVERS["ReverseDiffusion"], denoise=mixture.denoise, **options):
    schedule = SCHEDULES["variance exploding"]
    options = {"n_steps": N_STEPS, "s_max": S_MAX, "s_min": S_MIN} | options
    return Flow.from_denoiser(denoise, schedule, make_solver(schedule), **options)


def make_trajectory(flow, x, seed=0):
    """Trajectory to x; all rows share the noise."""
    if not isinstance(flow.solver, StochasticSolver):
        return flow.trajectory(x)
    generator = torch.Generator().manual_seed(seed)
    shape = (flow.n_steps, 1, x.shape[1])
    return flow.trajectory(x, torch.randn(shape, dtype=torch.float64, generator=generator))


def network_denoiser():
    """A gated network with random weights everywhere: no zero initialisation hides a term."""
    generator = torch.Generator().manual_seed(1)
    network = GatedNetwork(D, width=16, n_blocks=2, generator=generator)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3, generator=generator)
    return PreconditionedDenoiser(network).double().requires_grad_(False)


FIELDS = {"mixture": mixture.denoise, "network": network_denoiser()}
every_field = pytest.mark.parametrize("denoise", **cases(FIELDS))


@pytest.fixture
def points(generator):
    return torch.randn(5, D, dtype=torch.float64, generator=generator)


# --- one step ---------------------------------------------------------------------------------


@every_solver
@every_field
@pytest.mark.parametrize("lift", [push_forward, pull_back])
def test_lifted_step_is_the_dense_jacobian(lift, make_solver, denoise, points):
    step = make_flow(make_solver, denoise).step(3)
    J = dense_jacobian(step, points)
    if lift is pull_back:
        J = J.mT
    identity = torch.eye(D, dtype=torch.float64)[:, None, :].expand(D, 5, D)
    lifted = lift(step, points, identity).permute(1, 2, 0)
    torch.testing.assert_close(lifted, J, rtol=1e-12, atol=1e-12)


@every_solver
def test_lifted_step_does_not_track_gradients(make_solver, points):
    step = make_flow(make_solver, FIELDS["network"].requires_grad_(True)).step(0)
    E = points[None]
    assert not push_forward(step, points, E).requires_grad
    assert not pull_back(step, points, E).requires_grad
    FIELDS["network"].requires_grad_(False)


@every_field
def test_divergence_is_the_trace_of_the_dense_jacobian(denoise, points):
    def field(y):
        return denoise(y, torch.tensor(0.5, dtype=torch.float64))

    trace = dense_jacobian(field, points).diagonal(dim1=-2, dim2=-1).sum(-1)
    probes = torch.from_numpy(ortho_group.rvs(D, random_state=0))
    torch.testing.assert_close(divergence(field, points, probes), trace)
    halves = [divergence(field, points, probes[:, half]) for half in ([0, 1], [2, 3])]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, trace)


# --- the whole flow ---------------------------------------------------------------------------


@every_solver
@every_field
def test_frame_is_the_svd_of_the_dense_tangent_map(make_solver, denoise, points):
    flow = make_flow(make_solver, denoise)
    trajectory = make_trajectory(flow, points)
    frame, (U, rates) = lyapunov_frame(flow, trajectory), dense_frame(flow, trajectory)
    torch.testing.assert_close(frame.exponents, rates, rtol=1e-10, atol=1e-10)
    for k in range(1, D):
        leading = projectors(frame.vectors[..., :k].numpy())
        np.testing.assert_allclose(leading, projectors(U[..., :k].numpy()), atol=1e-7)


@every_solver
def test_frame_is_orthonormal_descending_and_at_the_points(make_solver, points):
    flow = make_flow(make_solver)
    frame = lyapunov_frame(flow, make_trajectory(flow, points), 3)
    assert torch.equal(frame.points, points) and frame.vectors.shape == (5, D, 3)
    gram = frame.vectors.mT @ frame.vectors
    torch.testing.assert_close(gram, torch.eye(3).double().expand(5, 3, 3))
    assert (frame.exponents.diff() <= 0).all()


@pytest.mark.parametrize("make_solver", **cases(ODE_SOLVERS | REVERSALS))
def test_gaussian_frame_is_the_principal_axes_with_the_closed_form_rates(make_solver, points):
    variances = np.array([4.0, 1.0, 0.2, 0.01])
    turn = ortho_group.rvs(D, random_state=0)
    flow = make_flow(make_solver, gaussian_denoiser(turn * variances @ turn.T), n_steps=40)
    frame = lyapunov_frame(flow, make_trajectory(flow, points))
    # The posterior step is exact for Gaussian data; every other solver has its order's error.
    exact = isinstance(flow.solver, ReverseDiffusion)
    atol = 1e-9 if exact else {1: 0.1, 2: 3e-3, 4: 1e-5}[flow.solver.order]
    expected = np.broadcast_to(gaussian_rates(variances, S_MIN, S_MAX), (5, D))
    np.testing.assert_allclose(frame.exponents, expected, atol=atol)
    np.testing.assert_allclose(np.abs(turn.T @ frame.vectors.numpy())[0], np.eye(D), atol=1e-6)


@every_solver
def test_direction_normal_to_the_data_has_rate_minus_one(make_solver, points):
    """Data in one point: every direction is normal. (Euler's steps have their order's error.)"""
    flow = make_flow(make_solver, lambda y, s: 0 * y, n_steps=40)
    rates = lyapunov_frame(flow, make_trajectory(flow, points)).exponents
    exact = not isinstance(flow.solver, Euler | Heun | RungeKutta4 | EulerMaruyama)
    expected = -torch.ones(5, D, dtype=torch.float64)
    atol = 1e-10 if exact else 0.06 * flow.solver.contraction
    torch.testing.assert_close(rates, expected, rtol=0, atol=atol)


@every_solver
def test_sum_of_exponents_is_the_log_determinant(make_solver, points):
    flow = make_flow(make_solver)
    trajectory = make_trajectory(flow, points)
    expected = torch.linalg.slogdet(dense_tangent_map(flow, trajectory)).logabsdet
    total = lyapunov_frame(flow, trajectory).exponents.sum(-1) * flow.elapsed
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_volume(flow, trajectory), expected, rtol=1e-10, atol=1e-10)


def test_sum_of_exponents_is_the_change_of_log_density(points):
    flow = make_flow(lambda schedule: RungeKutta4(), n_steps=32)
    trajectory = flow.trajectory(points)
    at_noise = mixture.log_density(trajectory.states[0], S_MAX)
    at_data = mixture.log_density(points, S_MIN)
    total = lyapunov_frame(flow, trajectory).exponents.sum(-1) * flow.elapsed
    torch.testing.assert_close(total, at_noise - at_data, rtol=0, atol=1e-4)


def test_frozen_noise_doubles_the_stretch_of_the_ode_for_gaussian_data(points):
    denoise = gaussian_denoiser(np.diag([4.0, 1.0, 0.2, 0.01]))
    volumes = []
    for name in ("RungeKutta4", "ReverseDiffusion"):
        flow = make_flow(SOLVERS[name], denoise, n_steps=24)
        volumes.append(log_volume(flow, make_trajectory(flow, points)))
    torch.testing.assert_close(volumes[1], 2 * volumes[0], rtol=1e-5, atol=0)


def test_euler_maruyama_exponents_converge_to_those_of_the_frozen_noise_sde(points):
    """The error halves with the step, on every axis; `ReverseDiffusion` has none."""
    variances = np.array([4.0, 1.0, 0.2, 0.01])
    expected = torch.from_numpy(gaussian_rates(variances, S_MIN, S_MAX))
    errors = []
    for n_steps in (100, 200):
        denoise = gaussian_denoiser(np.diag(variances))
        flow = make_flow(SOLVERS["EulerMaruyama"], denoise, n_steps=n_steps)
        frame = lyapunov_frame(flow, make_trajectory(flow, points[:1]))
        errors.append((frame.exponents[0] - expected).abs().numpy())
    np.testing.assert_allclose(errors[0] / errors[1], 2.0, rtol=0.05)
    assert errors[1].max() < 0.02


def test_corrector_contracts_gaussian_data_as_its_closed_form_says(points):
    """Per step of length e at level s: ``exp(-e) + (1 - exp(-e)) c / (c + s^2)``."""
    variances = torch.tensor([4.0, 1.0, 0.2, 0.01], dtype=torch.float64)
    flow = make_flow(SOLVERS["PredictorCorrector"], gaussian_denoiser(variances.diag()))
    solver, (n, e) = flow.solver, (flow.solver.n_corrections, flow.solver.step)
    assert flow.n_steps == N_STEPS * (1 + n)
    s = solver.schedule.ratio(flow.times[1 + n :: 1 + n])[:, None]
    kept = math.exp(-e) + (1 - math.exp(-e)) * variances / (variances + s**2)
    predicted = torch.from_numpy(gaussian_rates(variances, S_MIN, S_MAX))
    predicted = 2 * math.log(S_MAX / S_MIN) * predicted
    expected = (predicted + n * kept.log().sum(0)) / flow.elapsed
    rates = lyapunov_frame(flow, make_trajectory(flow, points)).exponents
    torch.testing.assert_close(rates, expected.expand(5, D), rtol=1e-9, atol=1e-9)


@every_solver
def test_row_alone_has_the_frame_of_the_row_in_the_batch(make_solver, points):
    flow = make_flow(make_solver)
    batch = lyapunov_frame(flow, make_trajectory(flow, points))
    alone = lyapunov_frame(flow, make_trajectory(flow, points[2:3]))
    torch.testing.assert_close(alone.exponents, batch.exponents[2:3], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(alone.vectors, batch.vectors[2:3], rtol=0, atol=1e-8)


@pytest.mark.parametrize("make_solver", **cases(ODE_SOLVERS))
def test_frame_turns_and_moves_with_the_data(make_solver, points):
    turn = torch.from_numpy(ortho_group.rvs(D, random_state=0))
    shift = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    flow = make_flow(make_solver)
    moved = make_flow(make_solver, mixture.moved(turn, shift).denoise)
    frame = lyapunov_frame(flow, flow.trajectory(points), 2)
    frame_moved = lyapunov_frame(moved, moved.trajectory(points @ turn.T + shift), 2)
    # Velocity solvers see the same field in moved coordinates, so the laws hold step by step.
    torch.testing.assert_close(frame_moved.exponents, frame.exponents, rtol=1e-8, atol=1e-8)
    expected = projectors((turn @ frame.vectors).numpy())
    np.testing.assert_allclose(projectors(frame_moved.vectors.numpy()), expected, atol=1e-7)


def test_float32_keeps_four_digits_of_the_exponents(points):
    single = PreconditionedDenoiser(network_denoiser().network).float()
    exact = make_flow(denoise=network_denoiser())
    flow = make_flow(denoise=single)
    x = make_trajectory(exact, points)
    rates = lyapunov_frame(flow, Trajectory(x.states.float(), x.noise.float())).exponents
    torch.testing.assert_close(rates, lyapunov_frame(exact, x).exponents, rtol=0, atol=1e-4)


# --- many columns -----------------------------------------------------------------------------


WIDE = ALL_COLUMNS + 22


def wide_flow(log_gap, d=5):
    """Gaussian data in R^150 on a turned d-plane; the rest contracts by `log_gap` more."""
    rest = (S_MAX / math.exp(log_gap)) ** 2 - S_MIN**2
    variances = np.r_[np.linspace(60, 30, d), np.full(WIDE - d, rest)]
    turn = ortho_group.rvs(WIDE, random_state=0)
    return make_flow(denoise=gaussian_denoiser(turn * variances @ turn.T)), turn[:, :d], variances


def worst_angle(vectors, plane):
    cosines = np.linalg.svd(plane.T @ vectors[0].numpy(), compute_uv=False)
    return math.sqrt(max(1 - cosines.min() ** 2, 0.0))


def test_truncated_frame_is_the_gaussian_closed_form_where_there_is_a_gap(generator):
    flow, plane, variances = wide_flow(log_gap=2.5)
    trajectory = make_trajectory(flow, torch.zeros(2, WIDE, dtype=torch.float64))
    frame = lyapunov_frame(flow, trajectory, 5, generator=generator)
    expected = np.broadcast_to(gaussian_rates(variances[:5], S_MIN, S_MAX), (2, 5))
    np.testing.assert_allclose(frame.exponents, expected, atol=1e-6)
    assert worst_angle(frame.vectors, plane) < 1e-4


def test_each_iteration_gains_and_one_sweep_is_the_worst():
    """The error falls by ``(sigma_{k+1}/sigma_d)^2`` per pass (Halko, Martinsson & Tropp)."""
    flow, plane, variances = wide_flow(log_gap=0.75)
    trajectory = make_trajectory(flow, torch.zeros(1, WIDE, dtype=torch.float64))

    def seeded():
        return torch.Generator().manual_seed(0)

    sweep = qr_sweep(flow, trajectory, 5, generator=seeded())
    errors = [worst_angle(sweep.vectors, plane)]
    for n_iter in range(4):
        options = {"n_iter": n_iter, "n_oversamples": 0, "generator": seeded()}
        errors.append(worst_angle(lyapunov_frame(flow, trajectory, 5, **options).vectors, plane))
    assert errors[0] == pytest.approx(errors[1])  # without iteration it is the same sweep
    rates = gaussian_rates(variances, S_MIN, S_MAX)
    per_pass = math.exp(2 * flow.elapsed * (rates[5] - rates[4]))
    ratios = np.tan(np.arcsin(errors[2:])) / np.tan(np.arcsin(errors[1:-1]))
    assert (ratios < 1.2 * per_pass).all() and per_pass < 0.1


# --- data in a linear subspace ------------------------------------------------------------------


def spanned(denoise, n_features, make_solver=SOLVERS["ReverseDiffusion"]):
    """A flow in more features than its denoiser has, and the basis of those it has."""
    basis = torch.from_numpy(ortho_group.rvs(n_features, random_state=0)[:, :D].copy())
    return make_flow(make_solver, SpanDenoiser(denoise, basis)), basis


@every_solver
@every_field
@pytest.mark.parametrize("n_features", [D + 1, D + 3])
def test_columns_of_the_span_suffice(make_solver, denoise, n_features, generator):
    """Carrying D columns of more gives the whole spectrum, sorted, also where it is below -1."""
    flow, span = spanned(denoise, n_features, make_solver)
    x = torch.randn(5, n_features, dtype=torch.float64, generator=generator)
    trajectory = make_trajectory(flow, x)
    for k in (2, n_features):
        few, all_of_them = (lyapunov_frame(flow, trajectory, k, span=b) for b in (span, None))
        torch.testing.assert_close(few.exponents, all_of_them.exponents, rtol=1e-9, atol=1e-9)
        # Equal exponents leave vectors free: what they make together is not.
        a, b = ((f.vectors * f.exponents[:, None]) @ f.vectors.mT for f in (few, all_of_them))
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
        eye = torch.eye(k, dtype=torch.float64).expand(5, k, k)
        torch.testing.assert_close(few.vectors.mT @ few.vectors, eye)


def test_only_the_columns_of_the_span_are_carried(points):
    flow, span = spanned(mixture.denoise, 40)
    carried = []

    def pull(step, x, E):
        carried.append(len(E))
        return pull_back(step, x, E)

    flow = replace(flow, derivative=flow.derivative._replace(pull=pull))
    lyapunov_frame(flow, make_trajectory(flow, points @ span.T), 3, span=span)
    assert set(carried) == {D}


def test_oversampling_helps(generator):
    flow, plane, _ = wide_flow(log_gap=0.75)
    trajectory = make_trajectory(flow, torch.zeros(1, WIDE, dtype=torch.float64))
    few, many = (
        lyapunov_frame(
            flow, trajectory, 5, n_oversamples=p, n_iter=0, generator=generator.manual_seed(0)
        )
        for p in (0, 40)
    )
    assert worst_angle(many.vectors, plane) < 0.5 * worst_angle(few.vectors, plane)


def test_one_sweep_does_not_read_the_spectrum_of_a_small_system(points, generator):
    """Up to `ALL_COLUMNS` features the frame is exact, one sweep of two columns is not."""
    flow = make_flow(ODE_SOLVERS["ExponentialMidpoint"])
    trajectory = flow.trajectory(points)
    U, rates = dense_frame(flow, trajectory)
    frame = lyapunov_frame(flow, trajectory, 2, generator=generator)
    sweep = qr_sweep(flow, trajectory, 2, generator=generator)
    assert (frame.exponents - rates[:, :2]).abs().max() < 1e-9
    assert (sweep.exponents - rates[:, :2]).abs().max() > 0.05


# --- QR of columns ----------------------------------------------------------------------------


@pytest.mark.parametrize("log_condition", [0.0, 5.0, 14.0])
def test_columns_are_orthonormal_to_rounding_whatever_they_lost(log_condition, generator):
    """Columns are let contract by `_MAX_LOG_RANGE` e-folds, and a single step may do more.

    Neither Householder's QR minds, nor two passes of Cholesky's in float64, the fast way on a GPU;
    in float32 they would have no factor any more at 14 e-folds.
    """
    U = torch.linalg.qr(torch.randn(3, 300, 20, dtype=torch.float64, generator=generator)).Q
    V = torch.linalg.qr(torch.randn(3, 20, 20, dtype=torch.float64, generator=generator)).Q
    E = (U * torch.linspace(0, -log_condition, 20).double().exp() @ V.mT).float()
    for Q, R in (_qr(E.permute(2, 0, 1)), cholesky_qr(E)):
        torch.testing.assert_close(Q.mT @ Q, torch.eye(20).expand(3, 20, 20), rtol=0, atol=3e-6)
        torch.testing.assert_close(Q @ R, E, rtol=0, atol=3e-6)
        assert (R.diagonal(dim1=-2, dim2=-1) >= 0).all()
    failed = torch.linalg.cholesky_ex(E.mT @ E).info > 0
    assert bool(failed.any()) == (log_condition > 10)


# --- several noise paths ----------------------------------------------------------------------


@pytest.fixture
def paths(points):
    flow = make_flow()
    return flow, [make_trajectory(flow, points, seed) for seed in range(3)]


def test_mean_over_paths_is_log_euclidean(paths):
    """Oracle: ``mean_p log(dF_p dF_p^T) / 2 elapsed``, dense."""
    flow, trajectories = paths
    logs = []
    for trajectory in trajectories:
        U, rates = dense_frame(flow, trajectory)
        logs.append(U * rates[:, None, :] @ U.mT)
    rates, U = torch.linalg.eigh(torch.stack(logs).mean(0))
    frame = lyapunov_frame(flow, trajectories, 2)
    torch.testing.assert_close(frame.exponents, rates.flip(-1)[:, :2], rtol=0, atol=1e-9)
    expected = projectors(U.flip(-1)[..., :2].numpy())
    np.testing.assert_allclose(projectors(frame.vectors.numpy()), expected, atol=1e-6)


def test_mean_over_paths_keeps_the_sum_of_exponents(paths):
    flow, trajectories = paths
    expected = torch.stack([log_volume(flow, t) for t in trajectories]).mean(0)
    total = lyapunov_frame(flow, trajectories).exponents.sum(-1) * flow.elapsed
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-9)


def test_mean_of_one_path_and_its_copies_is_the_path(paths):
    flow, (first, *_) = paths
    one, mean = lyapunov_frame(flow, first), lyapunov_frame(flow, [first] * 3)
    torch.testing.assert_close(mean.exponents, one.exponents, rtol=0, atol=1e-9)
    spans = [projectors(frame.vectors[..., :2].numpy()) for frame in (one, mean)]
    np.testing.assert_allclose(*spans, atol=1e-6)


def test_mean_over_paths_of_truncated_frames_finds_the_common_plane(generator):
    flow, plane, variances = wide_flow(log_gap=2.5)
    zero = torch.zeros(2, WIDE, dtype=torch.float64)
    trajectories = [make_trajectory(flow, zero, seed) for seed in range(2)]
    frame = lyapunov_frame(flow, trajectories, 5, generator=generator)
    expected = np.broadcast_to(gaussian_rates(variances[:5], S_MIN, S_MAX), (2, 5))
    np.testing.assert_allclose(frame.exponents, expected, atol=1e-6)
    assert worst_angle(frame.vectors, plane) < 1e-4


# --- known dynamical systems ------------------------------------------------------------------


@dataclass(frozen=True)
class Iterate(Solver):
    """Discrete time: a step is the field itself."""

    order = 1

    def __call__(self, field, x, t, s):
        return field(x, t)


def iterated(field, start, n_steps):
    """Flow and orbit of a discrete map after `n_steps`; exponents are per step."""
    times = torch.arange(n_steps, -1, -1, dtype=torch.float64)
    flow = Flow(field, Iterate(), times, float(n_steps))
    return flow, flow.orbit(start)


def test_logistic_map_has_the_telescoped_exponent():
    """``x' = 4x(1 - x)``: ``f'(x)^2 = 16 g(x')/(4 g(x))``, ``g = x(1 - x)``; so log 2 + ends."""
    start = torch.linspace(0.11, 0.87, 7, dtype=torch.float64)[:, None]
    n = 200
    flow, orbit = iterated(lambda x, t: 4 * x * (1 - x), start, n)
    g_0, g_n = (x * (1 - x) for x in (orbit.states[0], orbit.states[-1]))
    expected = math.log(2) + 0.5 * torch.log(g_n / g_0) / n
    for rates in (
        lyapunov_frame(flow, orbit).exponents,
        qr_sweep(flow, orbit, 1).exponents,
        log_volume(flow, orbit)[:, None] / n,
    ):
        torch.testing.assert_close(rates, expected, rtol=0, atol=1e-6)


def henon(x, t):
    return torch.stack([1 - 1.4 * x[:, 0] ** 2 + x[:, 1], 0.3 * x[:, 0]], -1)


def test_henon_exponents_are_the_published_ones(generator):
    """Sprott (2003): 0.41922 and -1.62319; their sum is log 0.3 at every point and time."""
    start = 0.1 * torch.rand(64, 2, dtype=torch.float64, generator=generator)
    _, transient = iterated(henon, start, 100)
    flow, orbit = iterated(henon, transient.states[-1], 200)
    rates = qr_sweep(flow, orbit, 2, generator=generator).exponents
    assert rates.mean(0)[0] == pytest.approx(0.41922, abs=0.01)
    torch.testing.assert_close(rates.sum(1), torch.full((64,), math.log(0.3)).double())


def test_henon_frame_of_a_short_orbit_sums_to_log_of_the_jacobian():
    start = torch.tensor([[0.1, 0.1], [0.0, -0.1]], dtype=torch.float64)
    flow, orbit = iterated(henon, start, 10)
    total = lyapunov_frame(flow, orbit).exponents.sum(1)
    torch.testing.assert_close(total, torch.full((2,), math.log(0.3)).double(), rtol=1e-6, atol=0)


# --- bad input --------------------------------------------------------------------------------


@every_solver
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_field_that_is_not_finite_is_an_error(make_solver, bad, points):
    flow = make_flow(make_solver)
    trajectory = make_trajectory(flow, points)
    broken = replace(flow, field=lambda x, t: bad * x**3)
    with pytest.raises(FloatingPointError, match="larger s_min"):
        lyapunov_frame(broken, trajectory)
    with pytest.raises(FloatingPointError, match="larger s_min"):
        qr_sweep(broken, trajectory, 2)


@pytest.mark.parametrize("n_components", [0, D + 1, -1])
def test_impossible_number_of_vectors_is_refused(n_components, points):
    flow = make_flow()
    trajectory = make_trajectory(flow, points)
    for method in (lyapunov_frame, qr_sweep):
        with pytest.raises(ValueError, match=f"between 1 and D = {D}"):
            method(flow, trajectory, n_components)


def test_no_trajectory_is_refused():
    with pytest.raises(ValueError, match="at least one trajectory"):
        lyapunov_frame(make_flow(), [])
