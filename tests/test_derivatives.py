"""Laws of the lifts: each is the dense Jacobian, and the probe takes the first that is right."""

import warnings

import numpy as np
import pytest
import torch
from oracles import Largest, Mixture, dense_tangent_map
from real_networks import N_FEATURES, dense_jacobian, image_network, unet
from sklearn import config_context
from tables import MODELS, cases
from torch import nn
from torch.autograd.function import once_differentiable

from alignlearn import LyapunovManifold
from alignlearn.derivatives import (
    AUTOMATIC,
    CONVOLUTIONAL,
    CentralDifference,
    Derivative,
    DifferenceAdjoint,
    DoubleBackward,
    ForwardMode,
    ReverseMode,
    graph_bytes,
    probe_derivative,
)
from alignlearn.flow import Flow
from alignlearn.guards import guarded
from alignlearn.models import Diffusion, GaussianModel, KernelDiffusion
from alignlearn.perturbations import ConstantError
from alignlearn.robustness import perturbed_generation
from alignlearn.schedules import VarianceExploding
from alignlearn.scoring import denoising_score
from alignlearn.solvers import Heun, ReverseDiffusion
from alignlearn.support_shift import learned_score
from alignlearn.tangent import log_volume, lyapunov_frame, qr_sweep

S = torch.tensor(0.5, dtype=torch.float64)
PUSHES = {
    "forward": ForwardMode(),
    "forward by twos": ForwardMode(2),
    "forward one by one": ForwardMode(1),
    "double backward": DoubleBackward(),
    "differences": CentralDifference(),
}
PULLS = {
    "reverse": ReverseMode(),
    "reverse by twos": ReverseMode(2),
    "reverse one by one": ReverseMode(1),
    "differences": DifferenceAdjoint(),
}
FIELDS = {"mixture": Mixture.example(N_FEATURES).denoise, "image network": image_network()}
every_field = pytest.mark.parametrize("denoise", **cases(FIELDS))
no_manifold = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def x(generator):
    return torch.randn(3, N_FEATURES, dtype=torch.float64, generator=generator)


@pytest.fixture
def E(generator):
    return torch.randn(5, 3, N_FEATURES, dtype=torch.float64, generator=generator)


def assert_is_dense(lift, step, x, E, *, adjoint=False):
    with guarded(step):
        J = dense_jacobian(step, x)
        expected = torch.einsum("nij,kni->knj" if adjoint else "nij,knj->kni", J, E)
        found = lift(step, x, E)
    assert not found.requires_grad
    is_exact = not isinstance(lift, CentralDifference | DifferenceAdjoint)
    tolerance = 1e-12 if is_exact else 1e-7
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# --- lifts ------------------------------------------------------------------------------------


@every_field
@pytest.mark.parametrize("push", **cases(PUSHES))
def test_push_is_the_dense_jacobian(push, denoise, x, E):
    assert_is_dense(push, lambda y: denoise(y, S), x, E)


@every_field
@pytest.mark.parametrize("pull", **cases(PULLS))
def test_pull_is_the_transposed_dense_jacobian(pull, denoise, x, E):
    assert_is_dense(pull, lambda y: denoise(y, S), x, E, adjoint=True)


def test_difference_of_no_direction_is_zero(x):
    zero = torch.zeros(1, *x.shape, dtype=torch.float64)
    assert torch.equal(CentralDifference()(torch.sin, x, zero), zero)


# --- frames -----------------------------------------------------------------------------------


def make_flow(denoise, derivative):
    flow = Flow.from_denoiser(denoise, VarianceExploding(), Heun(), n_steps=2, s_max=2.0, s_min=0.5)
    return Flow(flow.field, flow.solver, flow.times, flow.elapsed, derivative)


def assert_frame_is_dense(denoise, x, derivative):
    flow = make_flow(denoise, derivative)
    with guarded(denoise), torch.no_grad():
        trajectory = flow.orbit(2 * x)
    with guarded(denoise):
        U, S, _ = torch.linalg.svd(dense_tangent_map(flow, trajectory, dense_jacobian))
    frame = lyapunov_frame(flow, trajectory)
    rates = S.log() / flow.elapsed
    torch.testing.assert_close(frame.exponents, rates, rtol=1e-6, atol=1e-6)
    aligned = (frame.vectors[..., 0] * U[..., 0]).sum(-1).abs()
    torch.testing.assert_close(aligned, torch.ones_like(aligned), rtol=0, atol=1e-6)
    total = log_volume(flow, trajectory)
    torch.testing.assert_close(total, S.log().sum(-1), rtol=1e-6, atol=1e-6)
    sweep = qr_sweep(flow, trajectory, x.shape[1]).exponents.sum(-1) * flow.elapsed
    torch.testing.assert_close(sweep, total, rtol=1e-6, atol=1e-6)


DERIVATIVES = {
    "automatic": AUTOMATIC,
    "convolutional": CONVOLUTIONAL,
    "backward only": Derivative(DoubleBackward(), ReverseMode(1)),
    "differences": Derivative(CentralDifference(), DifferenceAdjoint()),
}


@pytest.mark.parametrize("derivative", **cases(DERIVATIVES))
def test_frame_of_an_image_network_is_dense_whatever_the_derivative(derivative, x):
    assert_frame_is_dense(image_network(), x[:1], derivative)


def test_frame_of_a_unet_is_dense(generator):
    pytest.importorskip("diffusers")
    x = torch.randn(2, 16, dtype=torch.float64, generator=generator)
    denoise = unet()
    derivative = probe_derivative(lambda y: denoise(y, S), x)
    assert derivative == CONVOLUTIONAL
    assert_frame_is_dense(denoise, x[:1], derivative)


# --- the probe --------------------------------------------------------------------------------


class Opaque(torch.autograd.Function):
    """``sin`` without forward rule and rule for `vmap`."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


class OnceOnly(Opaque):
    """Nor with a second derivative."""

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


class Unbatched(torch.autograd.Function):
    """With a forward rule, and none for `vmap`."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()

    @staticmethod
    def jvp(ctx, e):
        return e * ctx.saved_tensors[0].cos()


def through_numpy(x):
    return torch.from_numpy(np.sin(x.detach().numpy()))


def half_detached(x):
    return x + x.detach().sin()


backward_only = ReverseMode(1)
# What is wrong, the map, what is left, and a word of the reason.
BROKEN = {
    "no vmap": (Unbatched.apply, Derivative(ForwardMode(1), ReverseMode()), "vmap"),
    "no forward rule": (Opaque.apply, Derivative(DoubleBackward(), backward_only), "jvp"),
    "one derivative": (OnceOnly.apply, Derivative(CentralDifference(), backward_only), "Double"),
    "none": (through_numpy, DERIVATIVES["differences"], "storage"),
    "a wrong one": (half_detached, DERIVATIVES["differences"], "as far from a central difference"),
}


@every_field
def test_probe_takes_the_first_where_it_is_right(denoise, x, recwarn):
    found = probe_derivative(lambda y: denoise(y, S), x)
    assert found == (CONVOLUTIONAL if isinstance(denoise, nn.Module) else AUTOMATIC)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("step", "expected", "reason"), **cases(BROKEN))
def test_probe_goes_down_to_what_is_right_and_says_why(step, expected, reason, dtype, x, E):
    with pytest.warns(RuntimeWarning, match=reason):
        found = probe_derivative(step, x.to(dtype))
    if isinstance(found.push, CentralDifference):  # of a length that suits the map
        assert found.push.length > 0
        expected = expected._replace(push=found.push)
    if isinstance(found.pull, DifferenceAdjoint):
        expected = expected._replace(pull=DifferenceAdjoint(found.push))
    assert found == expected
    if dtype == torch.float64:
        diagonal = x.cos() + (step is half_detached)
        for lift in found:
            torch.testing.assert_close(lift(step, x, E), diagonal * E, rtol=1e-7, atol=1e-7)


def test_probe_does_not_hide_that_memory_is_short(x):
    class Full(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def step(y):
        return Full.apply(y) if y.requires_grad else y

    first = Derivative(DoubleBackward(), ReverseMode(1))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        probe_derivative(step, x, first=first)


@pytest.mark.filterwarnings("error")
def test_probe_does_not_take_a_deprecation_for_a_failure(x):
    class Old(ForwardMode):
        def __call__(self, *arguments):
            warnings.warn("torch.something is deprecated", DeprecationWarning, stacklevel=1)
            return super().__call__(*arguments)

    first = Derivative(Old(1), ReverseMode(1))
    assert probe_derivative(torch.sin, x, first=first) == first


MIXING = {
    "batch norm": nn.BatchNorm1d(N_FEATURES).double(),
    "batch norm without running statistics": nn.BatchNorm1d(N_FEATURES, track_running_stats=False)
    .double()
    .eval(),
    "mean of the batch": lambda x: x - x.mean(0),
    "functional batch norm": lambda x: nn.functional.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("step", **cases(MIXING))
def test_network_that_mixes_rows_is_refused(step, x):
    with pytest.raises(ValueError, match="treats rows independently"):
        probe_derivative(step, x)


def test_batch_norm_in_evaluation_mode_is_fine(x):
    assert probe_derivative(nn.BatchNorm1d(N_FEATURES).double().eval(), x) == AUTOMATIC


@pytest.mark.parametrize(
    ("step", "problem"),
    [(lambda x: x[:, :2], "same shape"), (lambda x: x / 0, "finite")],
    ids=["shape", "infinite"],
)
def test_map_that_cannot_be_a_step_is_refused(step, problem, x):
    with pytest.raises(ValueError, match=problem):
        probe_derivative(step, x)


# --- models -----------------------------------------------------------------------------------


class Spy:
    """A lift that counts its calls."""

    def __init__(self, lift):
        self.lift, self.n_calls = lift, 0

    def __call__(self, step, x, E):
        self.n_calls += 1
        return self.lift(step, x, E)


@no_manifold
@pytest.mark.parametrize("n_features", [3, 130])
@pytest.mark.parametrize("name", ["GaussianModel", "FlowMatching"])
def test_every_answer_of_a_model_is_differentiated_by_its_derivative(name, n_features, rng):
    X = rng.normal(size=(150, n_features))
    model = MODELS[name]().fit(X)
    m = LyapunovManifold(n_components=2, n_paths=2, n_steps=2, random_state=0)
    m._read_model(model, X, np.random.RandomState(0))
    answers = {
        "frames": lambda: m.lyapunov_exponents(X[:2]),
        "density": lambda: model.score_samples(X[:2]),
    }
    expected = {question: ask() for question, ask in answers.items()}
    for question, ask in answers.items():
        push, pull = Spy(ForwardMode()), Spy(ReverseMode())
        model.derivative_ = Derivative(push, pull)
        np.testing.assert_allclose(ask(), expected[question], rtol=1e-5, atol=1e-5)
        assert push.n_calls + pull.n_calls > 0, question


@no_manifold
def test_network_of_the_user_is_probed_by_fit(rng):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x, log_s):
            return Opaque.apply(self.layer(x))

    X = rng.normal(size=(60, 3))
    with pytest.warns(RuntimeWarning, match="DoubleBackward"):
        model = Diffusion(network=Plain(), max_iter=2, random_state=0).fit(X)
    assert model.derivative == Derivative(DoubleBackward(), ReverseMode(1))
    model.set_params(network=None, width=8, n_blocks=1).fit(X)
    assert model.derivative == AUTOMATIC


# --- memory -----------------------------------------------------------------------------------


def test_graph_of_a_row_is_what_reverse_mode_keeps(x):
    """``sin`` keeps its input, ``exp`` its output."""
    assert graph_bytes(lambda y: y.sin().sin(), x) == 2 * 8 * N_FEATURES
    assert graph_bytes(lambda y: y.exp() @ torch.ones_like(x.T) @ x, x) == 8 * N_FEATURES


def test_rows_of_a_convolutional_network_fit_the_memory_allowed(rng):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = image_network(n_hidden=64)

        def forward(self, x, log_s):
            return self.inner(x, log_s.exp())

    model = GaussianModel().fit(rng.normal(size=(80, N_FEATURES)))
    network = Net()
    model.denoiser = lambda: network
    row = graph_bytes(lambda y: network(y, S), torch.zeros(1, N_FEATURES).double())
    assert model.derivative == CONVOLUTIONAL and row > 64 * N_FEATURES * 8
    with config_context(working_memory=64 * row / 2**20):
        sizes = [c.stop - c.start for c in model._row_chunks(100, N_FEATURES)]
    assert sum(sizes) == 100 and 4 <= max(sizes) <= 16  # a graph, and what is done with it
    with config_context(working_memory=100):
        sizes = [c.stop - c.start for c in model._row_chunks(9, 2, bytes_kept=50 * 2**20)]
    assert max(sizes) == 2


class Small(KernelDiffusion):
    """Out of memory beyond a few rows; notes whether a guard was there when it was asked."""

    rows, in_guard = 100, set()

    def denoiser(self):
        denoise = super().denoiser()

        def limited(y, s):
            self.in_guard.add(not torch.backends.mha.get_fastpath_enabled())
            if len(y) > self.rows:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            return denoise(y, s)

        return limited


@no_manifold
def test_chunk_that_does_not_fit_is_halved(rng):
    X = rng.normal(size=(60, 3))
    m = LyapunovManifold(model=Small(), n_paths=2, n_steps=3, n_reference=5, random_state=0).fit(X)
    frame, density = m.lyapunov_frame(X), m.score_samples(X)
    m.model_.rows = 7
    halved = m.lyapunov_frame(X)
    np.testing.assert_allclose(halved.exponents, frame.exponents, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.abs(halved.vectors), np.abs(frame.vectors), rtol=0, atol=1e-7)
    np.testing.assert_allclose(m.score_samples(X), density, rtol=1e-9)
    m.model_.rows = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        m.lyapunov_frame(X)


def generated(m, X):
    """With frozen noise, which must not depend on what is done at once."""
    solver = ReverseDiffusion(VarianceExploding(*m.model_.noise_range_))
    found = perturbed_generation(m, ConstantError(0.1), solver=solver, n_samples=40, random_state=0)
    return found.unperturbed, found.perturbed


# Whatever asks a model at many rows at once without taking a derivative.
LOOPS = {
    "sample": lambda m, X: m.sample(40, random_state=0),
    "project": lambda m, X: m.project(X),
    "transform": lambda m, X: m.transform(X),
    "perturbed generation": generated,
    "score": learned_score,
    "denoising score": denoising_score,
}


@no_manifold
@pytest.mark.parametrize("ask", **cases(LOOPS))
def test_every_loop_over_rows_is_guarded_and_halved_where_it_does_not_fit(ask, rng):
    X = rng.normal(size=(60, 3)) * [1, 1, 0]  # a plane: `project` moves points
    m = LyapunovManifold(model=Small(), n_paths=2, n_steps=3, n_reference=5, random_state=0).fit(X)
    model = m.model_
    model.rows = 10**6
    whole = ask(m, X)
    model.rows, model.in_guard = 7, set()
    np.testing.assert_allclose(ask(m, X), whole, rtol=0, atol=1e-7)
    assert model.in_guard == {True}
    model.rows = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        ask(m, X)


@no_manifold
def test_frame_of_an_image_makes_no_matrix_of_its_features(rng):
    """Colour images of 32 x 32 pixels, 30 vectors: nothing of D x D numbers."""
    D = 3072
    X = rng.normal(size=(40, 6)) @ rng.normal(size=(6, D)) + 0.1 * rng.normal(size=(40, D))
    model = GaussianModel().fit(X)
    m = LyapunovManifold(n_components=30, n_steps=2, n_paths=2, n_reference=1, random_state=0)
    m._read_model(model, X, np.random.RandomState(0))
    with Largest() as largest:
        vectors = m.tangent_space(X[:1], 30)
    assert vectors.shape == (1, D, 30) and 40 * D < largest.numbers < D**2 / 4
