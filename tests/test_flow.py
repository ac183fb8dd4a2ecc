"""Laws of the generating process as a map."""

import gc

import pytest
import torch
from oracles import Mixture
from tables import ODE_SOLVERS, SCHEDULES, SOLVERS, STOCHASTIC_SOLVERS, cases

from alignlearn import _replay
from alignlearn._replay import ReplayedLift
from alignlearn.flow import Flow, denoiser_field, velocity_field
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion, StochasticSolver

N_STEPS = 12
every_schedule = pytest.mark.parametrize("schedule", **cases(SCHEDULES))
every_ode = pytest.mark.parametrize("make_solver", **cases(ODE_SOLVERS))
every_sde = pytest.mark.parametrize("make_solver", **cases(STOCHASTIC_SOLVERS))
mixture = Mixture.example()


def make_flow(make_solver, schedule, n_steps=N_STEPS):
    return Flow.from_denoiser(
        mixture.denoise, schedule, make_solver(schedule), n_steps=n_steps, s_max=3.0, s_min=0.1
    )


@pytest.fixture
def points(generator):
    return torch.randn(5, 3, dtype=torch.float64, generator=generator)


@pytest.fixture
def normals(generator):
    """Standard normal draws for a stochastic flow, None for an ODE."""

    def draw(flow):
        if not isinstance(flow.solver, StochasticSolver):
            return None
        return torch.randn(flow.n_steps, 1, 3, dtype=torch.float64, generator=generator)

    return draw


@pytest.mark.parametrize("make_solver", **cases(SOLVERS))
def test_flow_over_two_halves_is_the_flow(make_solver, points, normals):
    flow = make_flow(make_solver, SCHEDULES["cosine"])
    noise = normals(flow)
    first = Flow(flow.field, flow.solver, flow.times[:6])
    second = Flow(flow.field, flow.solver, flow.times[5:])
    halves = (None, None) if noise is None else (noise[:5], noise[5:])
    middle = first.push(points, halves[0])
    assert torch.equal(second.push(middle, halves[1]), flow.push(points, noise))


@every_schedule
@every_ode
def test_push_after_pull_is_the_identity(make_solver, schedule, points):
    flow = make_flow(make_solver, schedule, n_steps=24)
    torch.testing.assert_close(flow.push(flow.pull(points)), points, rtol=0, atol=1e-11)


@every_ode
def test_states_of_an_ode_are_an_orbit_of_the_discrete_flow(make_solver, points):
    flow = make_flow(make_solver, SCHEDULES["variance exploding"], 24)
    states = flow.trajectory(points).states
    for i in range(flow.n_steps):
        torch.testing.assert_close(flow.step(i)(states[i]), states[i + 1], rtol=0, atol=1e-11)


@every_schedule
@pytest.mark.parametrize("make_solver", **cases(SOLVERS))
def test_trajectory_ends_at_the_data_exactly(make_solver, schedule, points, normals):
    flow = make_flow(make_solver, schedule)
    noising = normals(flow)
    states = flow.trajectory(points, noising).states
    assert states.shape == (flow.n_steps + 1, 5, 3)
    assert torch.equal(states[-1], points)


@every_schedule
@every_sde
def test_frozen_noise_replays_the_path(make_solver, schedule, points, normals):
    flow = make_flow(make_solver, schedule)
    path = flow.trajectory(points, normals(flow))
    replay = flow.orbit(path.states[0], path.noise)
    torch.testing.assert_close(replay.states, path.states, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["ReverseDiffusion", "PredictorCorrector"])
def test_frozen_noise_is_standard_normal_where_the_denoiser_is_exact(name, generator):
    """Data in the origin: noising and its reversal have one law, xi is normal and independent.

    Of solvers whose step is then exact, predictor and corrector.
    """
    make_solver = STOCHASTIC_SOLVERS[name]
    flow = Flow.from_denoiser(
        lambda y, s: 0 * y,
        SCHEDULES["variance exploding"],
        make_solver(SCHEDULES["variance exploding"]),
        n_steps=3,
        s_max=3.0,
        s_min=0.1,
    )
    x = 0.1 * torch.randn(20_000, 1, dtype=torch.float64, generator=generator)
    z = torch.randn(flow.n_steps, 20_000, 1, dtype=torch.float64, generator=generator)
    xi = flow.trajectory(x, z).noise.squeeze(-1)
    identity = torch.eye(flow.n_steps, dtype=torch.float64)
    torch.testing.assert_close(torch.cov(xi), identity, rtol=0, atol=0.05)
    torch.testing.assert_close(xi.mean(1), 0 * identity[0], rtol=0, atol=0.03)


@pytest.mark.parametrize("make_solver", **cases(SOLVERS))
def test_row_alone_moves_as_in_the_batch(make_solver, points, normals):
    flow = make_flow(make_solver, SCHEDULES["linear VP"])
    noising = normals(flow)
    batch = flow.trajectory(points, noising).states[:, 2:3]
    alone = flow.trajectory(points[2:3], noising).states
    torch.testing.assert_close(alone, batch, rtol=1e-12, atol=1e-12)


@every_schedule
def test_velocity_moves_with_the_posterior_mean(schedule, points):
    """``v = alpha' x_0 + sigma' z`` averaged over the posterior; oracle: one point of data."""
    center = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    t = torch.tensor(0.4, dtype=torch.float64)
    x = schedule.alpha(t) * center + schedule.sigma(t) * points
    expected = schedule.alpha_dot(t) * center + schedule.sigma_dot(t) * points
    velocity = velocity_field(lambda y, s: center.expand_as(y), schedule)
    torch.testing.assert_close(velocity(x, t), expected, rtol=1e-10, atol=1e-12)


@every_schedule
def test_denoiser_field_is_taken_in_variance_exploding_coordinates(schedule, points):
    t = torch.tensor(0.4, dtype=torch.float64)
    field = denoiser_field(mixture.denoise, schedule)
    expected = mixture.denoise(points, schedule.ratio(t))
    torch.testing.assert_close(field(schedule.alpha(t) * points, t), expected)


@every_ode
def test_deterministic_flow_refuses_noise(make_solver, points, normals):
    flow = make_flow(make_solver, SCHEDULES["cosine"])
    noise = normals(make_flow(STOCHASTIC_SOLVERS["ReverseDiffusion"], SCHEDULES["cosine"]))
    with pytest.raises(ValueError, match="takes no noise="):
        flow.push(points, noise)
    with pytest.raises(ValueError, match="takes no noising="):
        flow.trajectory(points, noise)


@every_sde
def test_stochastic_flow_refuses_missing_or_short_noise(make_solver, points, normals):
    flow = make_flow(make_solver, SCHEDULES["cosine"])
    for noise in (None, normals(flow)[:-1]):
        with pytest.raises(ValueError, match="pass noise="):
            flow.push(points, noise)
        with pytest.raises(ValueError, match="pass noising="):
            flow.trajectory(points, noise)
    with pytest.raises(ValueError, match="pass noising="):
        flow.pull(points)


@every_schedule
def test_a_replayed_lift_is_that_of_the_step_it_is_asked_for(schedule, points, monkeypatch):
    """What a recording has to do again for other times, without the recording."""
    monkeypatch.setattr(_replay, "Replay", lambda work, device: work)
    flow = make_flow(ReverseDiffusion, schedule)  # the solver that is played back
    replayed = ReplayedLift(flow.derivative.pull)
    for i in (0, 3, 1):
        found = replayed(flow.step(i), points, points[None])
        assert torch.equal(found, flow.derivative.pull(flow.step(i), points, points[None]))


@every_schedule
def test_states_are_those_of_the_trajectory(schedule, points, normals):
    for make_solver in (ReverseDiffusion, ExponentialMidpoint):
        flow = make_flow(make_solver, schedule)
        noising = normals(flow)
        states = flow.states_to(points, noising)
        assert torch.equal(states, flow.trajectory(points, noising).states)


def test_memory_that_ends_in_a_recording_is_told_from_the_error_that_follows(monkeypatch):
    """So that a chunk is halved: the broken recording raises an error of its own."""

    class Broken:
        def __enter__(self):
            pass

        def __exit__(self, *_):
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    def work():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: Broken())
    monkeypatch.setattr(_replay, "_WARM_UP", 0)
    replay = _replay.Replay(work, torch.device("cuda"))
    for _ in range(2):  # a recording that failed is none
        with pytest.raises(torch.cuda.OutOfMemoryError):
            replay()
    assert gc.isenabled()
