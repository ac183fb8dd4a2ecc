"""Laws of the linear response. Oracles: closed forms, finite differences, dense derivatives."""

import doctest
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import Mixture, dense_jacobian, gaussian_denoiser
from real_networks import N_FEATURES, image_network
from scipy.stats import ortho_group
from tables import ODE_SOLVERS, SCHEDULES, SOLVERS, cases
from torch.distributions import MultivariateNormal

from alignlearn.derivatives import ALL_COLUMNS, jacobian, volume_derivatives
from alignlearn.flow import Flow, Trajectory
from alignlearn.response import (
    alignment_diagnostics,
    density_response,
    field_error,
    frame_scores,
    map_error,
    observable_response,
    path_response,
    path_scores,
    score_error,
)
from alignlearn.solvers import (
    Euler,
    EulerMaruyama,
    Exponential,
    ReverseDiffusion,
    StochasticSolver,
)
from alignlearn.tangent import log_volume, lyapunov_frame, qr_frames

D, N_STEPS, S_MAX, S_MIN = 3, 3, 1.5, 0.5
VE = SCHEDULES["variance exploding"]
# One solver of each kind that a response can tell apart: velocity or denoiser, stages, noise.
KINDS = {
    name: SOLVERS[name] for name in ("Heun", "Exponential", "EulerMaruyama", "PredictorCorrector")
}
every_kind = pytest.mark.parametrize("make_solver", **cases(KINDS))
every_ode_kind = pytest.mark.parametrize("make_solver", [SOLVERS["Heun"], Exponential])
every_ode = pytest.mark.parametrize("make_solver", **cases(ODE_SOLVERS))
mixture = Mixture.example(D)


def bend(y, s):
    """A cheap denoiser of no data: its field is nonlinear and its Jacobian not symmetric."""
    return 0.8 * torch.tanh(y + 0.7 * y.roll(1, -1)) / (1 + s)


def wave(x, t):
    """An error that depends on everything and has a divergence."""
    return torch.sin(x.roll(1, -1) + t) + 0.3 * x**2


def score_of_noise(z):
    """Score of the source N(0, s_max^2 I)."""
    return -z / S_MAX**2


def make_flow(make_solver, denoise=bend, schedule=VE, n_steps=N_STEPS):
    options = {"n_steps": n_steps, "s_max": S_MAX, "s_min": S_MIN}
    return Flow.from_denoiser(denoise, schedule, make_solver(schedule), **options)


def make_orbit(flow, n=2, dim=D):
    """Paths from the source; every row has its own frozen noise."""
    rng = np.random.default_rng(0)
    z = S_MAX * torch.from_numpy(rng.normal(size=(n, dim)))
    if not isinstance(flow.solver, StochasticSolver):
        return flow.orbit(z)
    return flow.orbit(z, torch.from_numpy(rng.normal(size=(flow.n_steps, n, dim))))


def perturbed_end(flow, orbit, chi, eps):
    """End points of ``x_{t+1} = F_t(x_t) + noise_t + eps chi_t(x_t)``."""
    x = orbit.states[0]
    for i in range(flow.n_steps):
        noise = orbit.states[i + 1] - flow.step(i)(orbit.states[i])  # what is frozen
        x = flow.step(i)(x) + noise + eps * chi(i)(x)
    return x


def central(f, eps=1e-4):
    """Derivative at 0."""
    return (f(eps) - f(-eps)) / (2 * eps)


PERTURBATIONS = {
    "map": lambda flow: map_error(flow, wave),
    "field": lambda flow: field_error(flow, wave),
    "score": lambda flow: score_error(flow, wave, VE),
}
every_perturbation = pytest.mark.parametrize("perturb", **cases(PERTURBATIONS))


# --- what chi is ------------------------------------------------------------------------------


@every_kind
def test_field_error_is_the_derivative_of_the_step_with_a_wrong_field(make_solver):
    flow = make_flow(make_solver)
    x, chi = make_orbit(flow).states[1], field_error(flow, wave)

    def step(eps):
        return replace(flow, field=lambda x, t: flow.field(x, t) + eps * wave(x, t)).step(1)(x)

    torch.testing.assert_close(chi(1)(x), central(step), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("schedule", **cases(SCHEDULES))
@pytest.mark.parametrize("make_solver", [lambda schedule: Euler(), Exponential, EulerMaruyama])
def test_score_error_is_the_derivative_of_the_step_with_a_wrong_score(make_solver, schedule):
    """A denoiser that is off by ``sigma^2 / alpha error`` has a score that is off by the error."""
    x = make_orbit(make_flow(make_solver)).states[1]

    def step(eps):
        def denoise(y, s):
            t = schedule.time(s)
            return mixture.denoise(y, s) + eps * schedule.sigma(t) ** 2 / schedule.alpha(t) * wave(
                x, t
            )

        return make_flow(make_solver, denoise, schedule).step(1)(x)

    chi = score_error(make_flow(make_solver, schedule=schedule), wave, schedule)
    torch.testing.assert_close(chi(1)(x), central(step), rtol=1e-6, atol=1e-8)


def test_score_error_enters_the_papers_step_as_g2_h_times_it():
    """G.1 adds ``eps chi`` to ``2 s``: half of that error of the score, times ``2 beta dt``."""
    flow = make_flow(EulerMaruyama, schedule=SCHEDULES["paper's cosine"])
    x, (t, s) = make_orbit(flow).states[1], flow.times[1:3]
    expected = flow.solver.schedule.diffusion(t) * (t - s) * wave(x, t)
    actual = score_error(flow, wave, flow.solver.schedule)(1)(x)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


# --- along paths ------------------------------------------------------------------------------


@every_kind
@every_perturbation
def test_path_response_is_the_difference_of_perturbed_paths(make_solver, perturb):
    flow = make_flow(make_solver)
    orbit, chi = make_orbit(flow), perturb(flow)
    zeta = path_response(flow, orbit, chi)
    expected = central(lambda eps: perturbed_end(flow, orbit, chi, eps))
    torch.testing.assert_close(zeta[-1], expected, rtol=1e-5, atol=1e-5)
    assert (zeta[0] == 0).all() and zeta.shape == orbit.states.shape


@every_kind
def test_response_of_a_wrong_model_is_that_of_its_generating_process(make_solver):
    """The perturbed process need not be written down: it is the flow of the wrong field."""
    flow = make_flow(make_solver)
    orbit = make_orbit(flow)
    zeta = path_response(flow, orbit, field_error(flow, wave))

    def end(eps):
        wrong = replace(flow, field=lambda x, t: flow.field(x, t) + eps * wave(x, t))
        return wrong.push(orbit.states[0], orbit.noise)

    torch.testing.assert_close(zeta[-1], central(end), rtol=1e-5, atol=1e-5)


@every_kind
@every_perturbation
def test_adjoint_and_tangent_response_agree(make_solver, perturb):
    flow = make_flow(make_solver)
    orbit, chi = make_orbit(flow), perturb(flow)
    gradient = torch.cos(orbit.states[-1])
    expected = (gradient * path_response(flow, orbit, chi)[-1]).sum(-1)
    parts = observable_response(flow, orbit, chi, gradient)
    torch.testing.assert_close(parts.sum(0), expected, rtol=1e-10, atol=1e-12)
    assert parts.shape == (flow.n_steps, 2)


@every_ode_kind
def test_responses_of_a_network_as_users_bring_it_agree(make_solver):
    """Attention without forward rule and dropout: guarded, else they fail or differ by chance."""
    network = image_network()
    flow = make_flow(make_solver, network, n_steps=1)
    orbit, chi = make_orbit(flow, dim=N_FEATURES), map_error(flow, wave)
    gradient = torch.cos(orbit.states[-1])
    expected = (gradient * path_response(flow, orbit, chi)[-1]).sum(-1)
    parts = observable_response(flow, orbit, chi, gradient)
    torch.testing.assert_close(parts.sum(0), expected, rtol=1e-10, atol=1e-12)
    assert network.training


@every_kind
def test_response_of_one_step_is_its_part_of_the_whole(make_solver):
    flow = make_flow(make_solver)
    orbit, whole = make_orbit(flow), map_error(flow, wave)
    gradient = torch.cos(orbit.states[-1])
    parts = observable_response(flow, orbit, whole, gradient)

    def only(i):
        return lambda j: lambda x: whole(j)(x) * (i == j)

    for i in (0, flow.n_steps - 1):
        end = path_response(flow, orbit, only(i))[-1]
        torch.testing.assert_close(parts[i], (gradient * end).sum(-1), rtol=1e-9, atol=1e-12)


# --- scores -----------------------------------------------------------------------------------


def linear_case(make_solver):
    """Gaussian data: a flow of affine steps, its orbit, step matrices and offsets."""
    turn = ortho_group.rvs(D, random_state=0)
    flow = make_flow(make_solver, gaussian_denoiser(turn * [2.0, 0.5, 0.05] @ turn.T))
    orbit = make_orbit(flow, n=1)
    steps = []
    for i in range(flow.n_steps):
        x = orbit.states[i]
        L = dense_jacobian(flow.step(i), x)[0]
        steps.append((L, orbit.states[i + 1][0] - L @ x[0]))
    return flow, orbit, steps


def pushed_gaussian(steps, A, b, eps=0.0):
    """Mean and covariance at every step for maps ``(L + eps A) x + offset + eps b``."""
    mean, C = torch.zeros(D).double(), S_MAX**2 * torch.eye(D).double()
    moments = [(mean, C)]
    for L, offset in steps:
        M = L + eps * A
        mean, C = M @ mean + offset + eps * b, M @ C @ M.T
        moments.append((mean, C))
    return moments


@every_kind
def test_path_scores_of_a_gaussian_are_exact(make_solver):
    flow, orbit, steps = linear_case(make_solver)
    zero = torch.zeros(D, D).double()
    scores = path_scores(flow, orbit, score_of_noise(orbit.states[0]))
    moments = pushed_gaussian(steps, zero, zero[0])
    for x, s, (mean, C) in zip(orbit.states, scores, moments, strict=True):
        torch.testing.assert_close(s[0], -torch.linalg.solve(C, x[0] - mean), rtol=1e-8, atol=1e-8)


@every_ode_kind
def test_path_scores_are_the_gradient_of_the_density_of_the_discrete_flow(make_solver):
    """Nonlinear, exact for any step size: ``log rho_N(x) = log rho_0(z) - log |det dF(z)|``."""
    flow = make_flow(make_solver)
    orbit = make_orbit(flow)
    x, scores = orbit.states[-1], path_scores(flow, orbit, score_of_noise(orbit.states[0]))

    def log_p(x):
        trajectory = flow.trajectory(x)
        at_noise = -trajectory.states[0].square().sum(-1) / (2 * S_MAX**2)
        return at_noise - log_volume(flow, trajectory)

    shifts = torch.eye(D).double()
    expected = [central(lambda eps, e=e: log_p(x + eps * e)) for e in shifts]
    torch.testing.assert_close(scores[-1], torch.stack(expected, -1), rtol=1e-6, atol=1e-6)


@every_ode
def test_path_scores_tend_to_the_score_of_the_data_with_the_order_of_the_solver(make_solver):
    """From the exact score at the noise end to the exact score at the data end."""
    x = make_orbit(make_flow(make_solver)).states[-1]
    order = make_solver(VE).order
    n_steps, errors = [5, 10] if order > 2 else [12, 24], []

    def score(y, s):
        return (mixture.denoise(y, s) - y) / s**2

    for n in n_steps:
        flow = make_flow(make_solver, mixture.denoise, n_steps=n)
        trajectory = flow.trajectory(x)
        end = path_scores(flow, trajectory, score(trajectory.states[0], S_MAX))[-1]
        errors.append(float((end - score(x, S_MIN)).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@every_kind
def test_frame_scores_are_the_components_of_the_path_scores(make_solver):
    flow = make_flow(make_solver)
    orbit = make_orbit(flow)
    start = torch.from_numpy(ortho_group.rvs(D, random_state=1)[:, :2])
    score = score_of_noise(orbit.states[0])
    E, _ = qr_frames(flow, orbit, start)
    expected = torch.einsum("tni,tnij->tnj", path_scores(flow, orbit, score), E)
    actual = frame_scores(flow, orbit, score, start)
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-8)


# --- densities --------------------------------------------------------------------------------


def whole_response(flow, trajectory, chi):
    """Derivative of the log density at the end points; the source is N(0, s_max^2 I)."""
    scores = path_scores(flow, trajectory, score_of_noise(trajectory.states[0]))
    return density_response(flow, trajectory, scores, chi).sum(0)


def as_printed(flow, trajectory, chi):
    """Eq. (2) with the paper's indices: ``-sum_t (div chi_t + chi_t . s_t)(x_t)``."""
    scores = path_scores(flow, trajectory, score_of_noise(trajectory.states[0]))
    total = 0.0
    for i in range(flow.n_steps):
        x = trajectory.states[i]
        divergence = jacobian(chi(i), x).diagonal(dim1=-2, dim2=-1).sum(-1)
        total = total - divergence - (chi(i)(x) * scores[i]).sum(-1)
    return total


@every_kind
def test_density_response_of_a_gaussian_is_the_closed_form(make_solver):
    """Affine errors keep it Gaussian: the log density at a point, differentiated by eps."""
    flow, orbit, steps = linear_case(make_solver)
    A = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.4, 0.5], [-0.6, 0.1, 0.2]], dtype=torch.float64)
    b = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)

    def log_p(eps):
        mean, C = pushed_gaussian(steps, A, b, eps)[-1]
        return MultivariateNormal(mean, (C + C.T) / 2).log_prob(orbit.states[-1])

    response = whole_response(flow, orbit, map_error(flow, lambda x, t: x @ A.T + b))
    torch.testing.assert_close(response, central(log_p, 1e-5), rtol=1e-6, atol=1e-6)


@every_ode_kind
@pytest.mark.parametrize("perturb", [PERTURBATIONS["field"], PERTURBATIONS["score"]])
def test_density_response_is_the_difference_of_perturbed_densities(make_solver, perturb):
    """A nonlinear field in R^3: change of variables along the wrong flow, backwards from x."""
    flow = make_flow(make_solver)
    x = make_orbit(flow).states[-1]
    response = whole_response(flow, flow.trajectory(x), perturb(flow))

    def factor(t):
        if perturb is PERTURBATIONS["field"]:
            return 1.0
        takes_velocity = flow.solver.takes_velocity
        return -VE.diffusion(t) / 2 if takes_velocity else VE.sigma(t) ** 2 / VE.alpha(t)

    def log_p(eps):
        wrong = replace(flow, field=lambda x, t: flow.field(x, t) + eps * factor(t) * wave(x, t))
        trajectory = wrong.trajectory(x)
        at_noise = -trajectory.states[0].square().sum(-1) / (2 * S_MAX**2)
        return at_noise - log_volume(wrong, trajectory)

    torch.testing.assert_close(response, central(log_p), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=["ReverseDiffusion", "EulerMaruyama", "Exponential"])
def line(request):
    """A flow on the line, a fine grid of paths with one frozen noise, and the source there."""
    flow = make_flow(SOLVERS[request.param], n_steps=12)
    z = torch.linspace(-8 * S_MAX, 8 * S_MAX, 4001, dtype=torch.float64)[:, None]
    noise = None
    if isinstance(flow.solver, StochasticSolver):
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 1, 1)))
    orbit = flow.orbit(z, noise)
    rho_0 = torch.exp(-(z[:, 0] ** 2) / (2 * S_MAX**2)) / (S_MAX * math.sqrt(2 * math.pi))
    return flow, orbit, z[:, 0], rho_0


def test_density_response_on_the_line_is_that_of_a_numerical_pushforward(line):
    """``rho(F(z)) = rho_0(z) / F'(z)`` on a grid, with frozen noise; interpolated at the paths."""
    flow, orbit, z, rho_0 = line
    chi = map_error(flow, lambda x, t: 0.1 * torch.sin(2 * x + t))
    inner = slice(1000, 3001, 50)

    def log_p(eps):
        end = perturbed_end(flow, orbit, chi, eps)[:, 0].numpy()
        log_rho = np.log(rho_0.numpy() / np.gradient(end, z.numpy()))
        order = np.argsort(end)
        x = orbit.states[-1][inner, 0].numpy()
        return np.interp(x, end[order], log_rho[order])

    response = whole_response(flow, orbit, chi)[inner]
    np.testing.assert_allclose(response, central(log_p, 1e-2), rtol=0.02, atol=0.02)


def test_mass_is_kept_and_both_responses_give_the_same_expectations(line):
    """``int f d(rho_eps)/d eps = int rho_0 grad f . zeta``: integration by parts, by quadrature."""
    flow, orbit, z, rho_0 = line
    chi = map_error(flow, lambda x, t: 0.1 * torch.sin(2 * x + t))
    relative, x = whole_response(flow, orbit, chi), orbit.states[-1][:, 0]
    assert torch.trapezoid(rho_0 * relative, z) == pytest.approx(0, abs=1e-8)
    for f, gradient in ((torch.sin, torch.cos), (torch.square, lambda x: 2 * x)):
        by_density = torch.trapezoid(rho_0 * f(x) * relative, z)
        parts = observable_response(flow, orbit, chi, gradient(x)[:, None])
        by_paths = torch.trapezoid(rho_0 * parts.sum(0), z)
        assert float(by_density) == pytest.approx(float(by_paths), abs=1e-7)
        assert abs(float(by_paths)) > 1e-3


def test_printed_indices_of_the_response_are_wrong_by_the_step():
    """The error of the formula as printed falls like the step: right for a continuous flow only."""
    errors = []
    for n_steps in (8, 16):
        flow = make_flow(Exponential, n_steps=n_steps)
        orbit, chi = make_orbit(flow), map_error(flow, wave)
        right, printed = whole_response(flow, orbit, chi), as_printed(flow, orbit, chi)
        errors.append(float((printed - right).norm() / right.norm()))
    assert errors[0] > 0.05
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.25)


def test_printed_response_keeps_mass_and_yet_misses_expectations(line):
    flow, orbit, z, rho_0 = line
    chi = map_error(flow, lambda x, t: 0.1 * torch.sin(2 * x + t))
    relative, x = as_printed(flow, orbit, chi), orbit.states[-1]
    assert torch.trapezoid(rho_0 * relative, z) == pytest.approx(0, abs=1e-8)
    right = torch.trapezoid(rho_0 * observable_response(flow, orbit, chi, 2 * x).sum(0), z)
    printed = torch.trapezoid(rho_0 * x[:, 0] ** 2 * relative, z)
    assert abs(float(printed / right) - 1) > 0.05


# --- Theorem 4.3 ------------------------------------------------------------------------------


def dense_hessian(step, x):
    """Second derivatives ``d^2 F_a / dx_b dx_c`` at each row, (n, D, D, D)."""
    rows = [torch.func.hessian(lambda v: step(v[None])[0])(row) for row in x]
    return torch.stack(rows).detach()


@every_kind
def test_gradient_of_the_log_determinant_is_the_trace_of_second_derivatives(make_solver):
    """``w = tr(dF^-1 d^2 F)``, with dense first and second derivatives."""
    flow = make_flow(make_solver)
    x = make_orbit(flow).states[1]
    J, H = dense_jacobian(flow.step(1), x), dense_hessian(flow.step(1), x)
    expected = torch.einsum("nba,nabc->nc", torch.linalg.inv(J), H)
    found, w = volume_derivatives(flow.step(1), x)
    torch.testing.assert_close(w, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found, J, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(jacobian(flow.step(1), x), J, rtol=1e-12, atol=1e-12)


@every_kind
def test_frames_are_carried_by_the_dense_jacobians(make_solver):
    flow = make_flow(make_solver)
    orbit = make_orbit(flow)
    E, R = qr_frames(flow, orbit, torch.eye(D, 2).double())
    for i in range(flow.n_steps):
        J = dense_jacobian(flow.step(i), orbit.states[i])
        torch.testing.assert_close(J @ E[i], E[i + 1] @ R[i], rtol=1e-10, atol=1e-12)
    gram = E.mT @ E
    torch.testing.assert_close(gram, torch.eye(2).double().expand(gram.shape))
    torch.testing.assert_close(R, R.triu())
    assert (R.diagonal(dim1=-2, dim2=-1) > 0).all()


@every_kind
def test_diagnostics_are_those_of_dense_derivatives(make_solver):
    flow, d = make_flow(make_solver), 2
    orbit, start = make_orbit(flow), torch.eye(D, d).double()
    found = alignment_diagnostics(flow, orbit, d, start=start)
    frames, _ = qr_frames(flow, orbit, start)
    for i in (0, flow.n_steps - 1):
        x = orbit.states[i]
        J, H = dense_jacobian(flow.step(i), x), dense_hessian(flow.step(i), x)
        for row in range(len(x)):
            E = frames[i, row]
            N = torch.linalg.svd(E)[0][:, d:]  # columns that complete E
            JE = J[row] @ E
            B = E.T @ JE
            T = torch.einsum("ai,abc,bj,ck->ijk", E, H[row], E, E).reshape(d, d * d)
            w = torch.einsum("ba,abc->c", torch.linalg.inv(J[row]), H[row])
            stretch = torch.linalg.svdvals(JE)
            expected = (
                stretch[0],
                stretch[-1],
                torch.linalg.svdvals(J[row] @ N)[0],
                torch.linalg.svdvals(E.T @ J[row] @ N)[0],
                torch.linalg.svdvals(N.T @ JE)[0],
                (torch.linalg.inv(B) @ T).norm(),
                (w @ E).norm(),
            )
            actual = [values[i, row] for values in found]
            torch.testing.assert_close(actual, list(expected), rtol=1e-8, atol=1e-10)


def test_diagnostics_of_a_linear_flow_on_its_axes_have_no_cross_and_no_second_derivatives():
    flow = make_flow(ReverseDiffusion, gaussian_denoiser(np.diag([2.0, 0.5, 0.05])))
    orbit = make_orbit(flow)
    found = alignment_diagnostics(flow, orbit, 1, start=torch.eye(D, 1).double())
    for name in ("cross_tangent", "cross_normal", "second", "volume"):
        assert getattr(found, name).abs().max() < 1e-12
    total = found.alpha.log().sum(0) / flow.elapsed
    torch.testing.assert_close(total, lyapunov_frame(flow, orbit, 1).exponents[:, 0])
    assert (found.alpha > found.beta).all() and torch.equal(found.alpha, found.alpha_min)


def test_stretch_of_a_generating_process_is_below_one_where_the_theorem_wants_it_above(generator):
    """(i) asks for stretch of at least ``(1 + delta)^(tau - t)``; the text for ``alpha_t <= 1``."""
    flow = make_flow(ReverseDiffusion, gaussian_denoiser(np.diag([2.0, 0.5, 0.05])))
    found = alignment_diagnostics(flow, make_orbit(flow), 1, generator=generator)
    assert (found.alpha < 1).all() and (found.beta <= 1).all()


# --- conduct ----------------------------------------------------------------------------------


@every_kind
def test_row_alone_responds_as_in_the_batch(make_solver):
    flow = make_flow(make_solver)
    orbit = make_orbit(flow)
    alone = Trajectory(orbit.states[:, 1:2], None if orbit.noise is None else orbit.noise[:, 1:2])
    chi = field_error(flow, wave)
    batch, single = (whole_response(flow, t, chi) for t in (orbit, alone))
    torch.testing.assert_close(single, batch[1:2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("d", [0, D, D + 1])
def test_impossible_frame_is_refused(d):
    flow = make_flow(Exponential)
    with pytest.raises(ValueError, match="between 1 and D - 1 = 2"):
        alignment_diagnostics(flow, make_orbit(flow), d)


def test_determinant_of_many_features_is_refused():
    x = torch.zeros(1, ALL_COLUMNS + 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="at most 128 features, got 129"):
        volume_derivatives(lambda x: x, x)


def test_page_shows_what_comes_out():
    page = Path(__file__).resolve().parents[1] / "docs" / "response.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 10 and result.failed == 0
