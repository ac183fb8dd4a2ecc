"""On a GPU: the answers of the CPU, in float32 products and without TF32. Skipped without one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from oracles import Mixture
from real_networks import N_FEATURES, image_network
from sklearn.base import clone
from tables import MODELS, cases

from alignlearn import LyapunovManifold, _arrays, frames, guards, training
from alignlearn._linalg import jacobi
from alignlearn.datasets import make_random_manifold, make_sphere
from alignlearn.derivatives import probe_derivative
from alignlearn.guards import guarded
from alignlearn.models import Diffusion
from alignlearn.models.shells import ShellDenoiser
from alignlearn.networks import GatedNetwork
from alignlearn.solvers import PredictorCorrector
from alignlearn.tangent import _qr

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("make_model", **cases(MODELS))
def test_frames_and_densities_are_those_of_the_cpu(make_model, tf32):
    """The same fitted model, moved: training on a GPU draws other numbers."""
    X = make_sphere(60, 2, random_state=0).points
    m = LyapunovManifold(model=make_model(device="cpu"), n_paths=2, n_reference=5, random_state=0)
    m.fit(X)
    frame, density = m.lyapunov_frame(X[:5]), m.score_samples(X[:5])
    model = m.model_
    for name, value in vars(model).items():
        if isinstance(value, torch.Tensor | torch.nn.Module):
            setattr(model, name, value.to("cuda"))
    model.gaussian_ = type(model.gaussian_)(*(part.to("cuda") for part in model.gaussian_))
    moved = m.lyapunov_frame(X[:5])
    np.testing.assert_allclose(moved.exponents, frame.exponents, rtol=0, atol=1e-4)
    leading = [(v[..., :2] @ v[..., :2].swapaxes(1, 2)) for v in (moved.vectors, frame.vectors)]
    np.testing.assert_allclose(*leading, rtol=0, atol=1e-2)
    np.testing.assert_allclose(m.score_samples(X[:5]), density, rtol=0, atol=1e-6)


def test_derivatives_of_a_network_are_those_of_the_cpu(tf32, generator):
    network, s = image_network().float(), torch.tensor(0.5)
    x = torch.randn(3, N_FEATURES, generator=generator)
    E = torch.randn(4, 3, N_FEATURES, generator=generator)
    results = []
    for device in ("cuda", "cpu"):
        network.to(device)
        rows, columns = x.to(device), E.to(device)
        derivative = probe_derivative(lambda y: network(y, s), rows)
        with guarded(network):
            found = [lift(lambda y: network(y, s), rows, columns) for lift in derivative]
        results.append([part.cpu() for part in found])
    for on_gpu, on_cpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)


def test_qr_of_columns_is_orthonormal_and_that_of_the_cpu(generator):
    E = torch.randn(20, 5, 300, generator=generator)
    (Q, R), (Q_cpu, R_cpu) = _qr(E.cuda()), _qr(E)
    torch.testing.assert_close(Q.cpu(), Q_cpu, rtol=0, atol=1e-5)
    torch.testing.assert_close(R.cpu(), R_cpu, rtol=0, atol=1e-4)


def test_frame_on_the_device_of_its_points(generator):
    """Nothing is left on the CPU by accident: a mixture whose numbers are all on the device."""
    mixture = Mixture(*(part.cuda() for part in Mixture.example(3)))
    y = torch.randn(4, 3, dtype=torch.float64, generator=generator).cuda()

    def step(y):
        return mixture.denoise(y, torch.tensor(0.5))

    derivative = probe_derivative(step, y)
    assert derivative.push(step, y, y[None]).device.type == "cuda"


@pytest.fixture
def deterministic():
    """Of some convolutions the fastest gradient adds up in another order every time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


@pytest.mark.parametrize("options", [{}, {"image_shape": (4, 5), "width": 8}])
def test_training_played_back_is_training(options, deterministic, monkeypatch, tmp_path):
    """To the bit: the generator goes on alike, and a checkpoint can hold its state."""
    X = make_random_manifold(200, 2, 20, noise=0.1, random_state=0).points
    model = Diffusion(max_iter=30, n_estimators=1, device="cuda", random_state=0, **options)
    played = clone(model).fit(X)
    kept = clone(model).set_params(checkpoint=tmp_path).fit(X)
    with monkeypatch.context() as patch:
        patch.setattr(training, "Replay", lambda work, *_: work)
        plain = clone(model).fit(X)
    for other in (kept, plain):
        assert played.loss_ == other.loss_
        for p, q in zip(played.denoiser_.parameters(), other.denoiser_.parameters(), strict=True):
            assert torch.equal(p, q)


def test_a_network_of_the_users_is_not_played_back(monkeypatch):
    """Python may decide in it."""

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(training, "Replay", refuse)
    monkeypatch.setattr(frames, "ReplayedLift", refuse)
    X = make_sphere(60, 2, random_state=0).points
    network = GatedNetwork(3, width=8, n_blocks=1, generator=torch.Generator())
    model = Diffusion(network=network, max_iter=5, device="cuda", random_state=0)
    LyapunovManifold(model=model, n_reference=5, n_paths=2).fit(X)
    with pytest.raises(AssertionError):
        Diffusion(max_iter=5, device="cuda", random_state=0).fit(X)


@pytest.mark.parametrize("n_features", [20, 150])  # all columns, and some with oversampling
@pytest.mark.parametrize("image", [False, True])
def test_frames_played_back_are_frames(n_features, image, monkeypatch):
    X = make_random_manifold(200, 2, n_features, noise=0.1, random_state=0).points
    options = {"image_shape": (5, n_features // 5), "width": 8} if image else {}
    model = Diffusion(max_iter=30, device="cuda", random_state=0, **options)
    m = LyapunovManifold(model=model, n_components=2, n_reference=5, n_paths=4, random_state=0)
    m.fit(X)
    played = m.lyapunov_frame(X[:50])
    monkeypatch.setattr(frames, "ReplayedLift", lambda lift: lift)
    plain = m.lyapunov_frame(X[:50])
    np.testing.assert_allclose(played.exponents, plain.exponents, rtol=0, atol=1e-4)
    leading = [v[..., :2] @ v[..., :2].swapaxes(1, 2) for v in (played.vectors, plain.vectors)]
    np.testing.assert_allclose(*leading, rtol=0, atol=1e-2)


def test_a_sphere_in_a_subspace_is_one_on_the_device(monkeypatch):
    """The columns of the span alone, moved to a shell: played back, plain, and on the CPU."""
    ball = make_sphere(300, 3, random_state=0).points
    X = ball @ np.linalg.qr(np.random.default_rng(0).standard_normal((30, 4)))[0].T
    model = Diffusion(max_iter=60, n_estimators=1, device="cuda", random_state=0)
    m = LyapunovManifold(model=model, n_reference=5, n_paths=4, random_state=0).fit(X)
    assert m.dimension_ == 3 and m.model_.known_span().shape == (30, 4)
    assert any(isinstance(part, ShellDenoiser) for part in m.model_.denoiser_.modules())
    played, planes = m.lyapunov_frame(X[:50]), m.tangent_space(X[:50])
    np.testing.assert_allclose(planes.swapaxes(1, 2) @ X[:50, :, None], 0, atol=1e-6)
    with monkeypatch.context() as patch:
        patch.setattr(frames, "ReplayedLift", lambda lift: lift)
        plain = m.lyapunov_frame(X[:50])
    for name, value in vars(m.model_).items():
        if isinstance(value, torch.nn.Module):
            setattr(m.model_, name, value.to("cpu"))
    m.model_.gaussian_ = type(m.model_.gaussian_)(*(part.cpu() for part in m.model_.gaussian_))
    for other in (plain, m.lyapunov_frame(X[:50])):
        np.testing.assert_allclose(played.exponents, other.exponents, rtol=0, atol=1e-4)


def test_a_solver_that_asks_for_times_is_not_played_back():
    X = make_sphere(60, 2, random_state=0).points
    solver = PredictorCorrector()
    model = Diffusion(max_iter=5, n_estimators=1, device="cuda", random_state=0)
    m = LyapunovManifold(model=model, solver=solver, n_reference=5, n_paths=4).fit(X)
    assert np.isfinite(m.lyapunov_frame(X).exponents).all()


@pytest.mark.parametrize("k", [40, 100])
def test_jacobi_on_the_device(k, generator):
    A = torch.randn(50, k, k, generator=generator, dtype=torch.float64)
    U, S = jacobi(A.cuda())
    torch.testing.assert_close(S.cpu(), torch.linalg.svdvals(A), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close((U * S[:, None] ** 2 @ U.mT).cpu(), A @ A.mT, rtol=0, atol=1e-9)


@pytest.mark.parametrize("played", [False, True])
def test_chunk_that_does_not_fit_the_device_is_halved(played, monkeypatch):
    """Real memory, of which most is withheld; while steps are recorded too."""
    X = make_random_manifold(3000, 5, 50, random_state=0).points
    model = Diffusion(max_iter=5, n_estimators=1, device="cuda", random_state=0)
    m = LyapunovManifold(model=model, n_reference=5, n_paths=2, n_steps=6, random_state=0).fit(X)
    if not played:
        monkeypatch.setattr(frames, "ReplayedLift", lambda lift: lift)
    whole = m.lyapunov_frame(X)
    refusals = []

    def is_out_of_memory(error):
        refusals.append(guards.is_out_of_memory(error))
        return refusals[-1]

    monkeypatch.setattr(_arrays, "is_out_of_memory", is_out_of_memory)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**29) / total)
    try:
        halved = m.lyapunov_frame(X)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert refusals and all(refusals)
    np.testing.assert_allclose(halved.exponents, whole.exponents, rtol=0, atol=1e-4)


def test_threads_that_record_at_the_same_time_do_not_disturb_each_other():
    """A recording begins by waiting for the device, which must not happen while another goes on."""
    X = make_random_manifold(100, 2, 6, noise=0.1, random_state=0).points
    options = {"n_reference": 5, "n_paths": 2, "n_steps": 6, "random_state": 0}

    def fit(seed):
        model = Diffusion(max_iter=20, n_estimators=1, device="cuda", random_state=seed)
        return LyapunovManifold(model=model, **options).fit(X)

    serial = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for m, expected in zip(pool.map(fit, range(4)), serial, strict=True):
            np.testing.assert_allclose(m.exponents_, expected.exponents_, rtol=0, atol=1e-4)
        asked = pool.map(serial[0].lyapunov_exponents, [X[i : i + 5] for i in range(8)])
        for i, found in enumerate(asked):
            alone = serial[0].lyapunov_exponents(X[i : i + 5])
            np.testing.assert_allclose(found, alone, rtol=0, atol=1e-4)
