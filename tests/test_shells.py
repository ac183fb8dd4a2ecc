"""Rows near a sphere: finding it, and the denoiser that knows of it."""

import numpy as np
import pytest
import torch
from scipy.special import ive

from alignlearn import LyapunovManifold, load, save
from alignlearn._arrays import Scaling
from alignlearn._rows import DiskRows
from alignlearn.datasets import make_random_manifold, make_sphere, make_torus
from alignlearn.models import Diffusion
from alignlearn.models.denoisers import PreconditionedDenoiser
from alignlearn.models.shells import Shell, ShellDenoiser, find_shell

CENTER = torch.tensor([0.5, -0.2, 0.1, 0.3, 0.0])


def normalised(n, D, seed=0):
    x = torch.randn((n, D), generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True)


def test_finds_the_sphere_of_rows_of_one_norm():
    shell = find_shell(CENTER + 2 * normalised(300, 5))
    torch.testing.assert_close(shell.center, CENTER, atol=1e-5, rtol=0)
    assert shell.radius == pytest.approx(2, abs=1e-5) and shell.thickness < 1e-5


def test_finds_the_centre_of_a_cap():
    """Normalised embeddings often have a mean of their own."""
    x = normalised(3000, 5)
    x = x[x[:, 0] > 0.1]
    shell = find_shell(x - x.mean(0))
    torch.testing.assert_close(shell.center, -x.mean(0), atol=1e-4, rtol=0)
    assert shell.radius == pytest.approx(1, abs=1e-4)


def test_thickness_is_the_noise_of_the_radius():
    x = normalised(20_000, 12) * 3
    x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    shell = find_shell(x)
    assert shell.thickness == pytest.approx(0.1, rel=0.03)
    assert shell.radius == pytest.approx((9 + 12 * 0.01) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn((1000, 20), generator=torch.Generator().manual_seed(0)),
        torch.rand((1000, 10), generator=torch.Generator().manual_seed(0)),
        torch.from_numpy(make_torus(1000, random_state=0).points).float(),
        torch.from_numpy(make_random_manifold(1000, 3, 12, random_state=0).points).float(),
        normalised(1000, 6) * torch.tensor([1, 1, 1, 1, 1, 1e-3]),  # a plane is a large sphere
        torch.nn.functional.normalize(normalised(1000, 5) * 0.1 + torch.eye(5)[0]),  # nearly flat
        normalised(13, 5),  # any few rows lie on a sphere
        torch.zeros((300, 3)),
        normalised(100, 1),  # 1 and -1
    ],
    ids=["gaussian", "cube", "torus", "random", "plane", "small cap", "few", "constant", "line"],
)
def test_finds_none_elsewhere(x):
    assert find_shell(x - x.mean(0)) is None


def test_one_far_row_hides_the_sphere_and_breaks_nothing():
    x = normalised(300, 5)
    x[7] *= 100
    assert find_shell(x - x.mean(0)) is None


def test_blocks_and_files_give_the_same(monkeypatch, tmp_path):
    X = CENTER + 2 * normalised(500, 5)
    whole = find_shell(X)
    monkeypatch.setattr("alignlearn._blocks.BLOCK_VALUES", 300)
    np.save(tmp_path / "x.npy", X.numpy())
    scaling = Scaling(0, np.zeros(5), 1.0, 5)
    rows = DiskRows(np.load(tmp_path / "x.npy", mmap_mode="r"), scaling, X[:0])
    for x in (X, rows):
        shell = find_shell(x)
        torch.testing.assert_close(shell.center, whole.center, atol=1e-5, rtol=0)
        assert shell.radius == pytest.approx(whole.radius, abs=1e-5)


class NoNetwork(torch.nn.Module):
    def forward(self, x, log_s):
        return torch.zeros_like(x)


def uniform_law(y, s, radius):
    """Denoiser of the uniform law on a sphere around 0, by Bessel functions."""
    distance, D = y.norm(dim=1, keepdim=True), y.shape[1]
    kappa = (radius * distance / s**2).numpy()
    return torch.from_numpy(radius * ive(D / 2, kappa) / ive(D / 2 - 1, kappa)) * y / distance


@pytest.mark.parametrize("s", [0.02, 0.2, 1.0, 3.0])
@pytest.mark.parametrize("D", [11, 51])
def test_denoiser_is_that_of_the_uniform_law(s, D):
    """With nothing learned, up to the order of the bound on Bessel functions, 1 / D."""
    radius, z = D**0.5, torch.randn((200, D), generator=torch.Generator().manual_seed(1)).double()
    y = radius * normalised(200, D).double() + s * z
    denoiser = ShellDenoiser(
        PreconditionedDenoiser(NoNetwork()), Shell(torch.zeros(D).double(), radius, 0.0)
    )
    s = torch.tensor(s).double()
    error = denoiser(y, s) - uniform_law(y, float(s), radius)
    assert (error.norm(dim=1) / radius).max() < 1 / D


def test_noise_across_goes_and_along_stays():
    shell = Shell(torch.zeros(6).double(), 6**0.5, 0.0)
    y, s = 6**0.5 * normalised(1, 6).double(), torch.tensor(0.05).double()
    denoiser = ShellDenoiser(PreconditionedDenoiser(NoNetwork()), shell)
    J = torch.func.jacrev(lambda y: denoiser(y[None], s)[0])(y[0])
    found = torch.linalg.eigvalsh((J + J.T) / 2)
    assert abs(found[0]) < 0.01 and ((found[1:] - 1).abs() < 0.01).all()


@pytest.mark.parametrize("s", [0.01, 0.05, 0.2])
def test_distances_of_the_data_stay(s):
    """Of a shell of some thickness: the posterior mean of a distance with Gaussian noise."""
    t, radius = 0.05, 10.0
    shell = Shell(torch.zeros(3).double(), radius, t)
    far = torch.tensor([[radius + 0.1, 0.0, 0.0]]).double()

    class Identity(torch.nn.Module):
        def forward(self, y, s):
            return y

    moved = float(ShellDenoiser(Identity(), shell)(far, torch.tensor(s).double())[0, 0])
    usual = (radius**2 + 3 * s**2) ** 0.5
    assert moved - usual == pytest.approx((radius + 0.1 - usual) * t**2 / (t**2 + s**2), abs=2e-4)


def test_centre_of_the_sphere_is_no_singularity():
    shell = Shell(torch.zeros(3), 3**0.5, 0.0)
    denoiser = ShellDenoiser(PreconditionedDenoiser(NoNetwork()), shell)
    J = torch.func.jacrev(lambda y: denoiser(y[None], torch.tensor(0.01))[0])(torch.zeros(3))
    assert torch.isfinite(J).all()


@pytest.fixture(scope="module")
def fitted():
    X = 5 + 0.1 * make_sphere(1000, 20, n_features=25, random_state=0).points
    model = Diffusion(max_iter=60, n_estimators=1, random_state=0)
    return X, LyapunovManifold(model=model, n_reference=30, random_state=0).fit(X)


def test_dimension_of_a_sphere_that_no_network_learns(fitted):
    """1000 points and 60 steps do not tell a network S^20 from the ball; the radius does."""
    X, m = fitted
    assert m.dimension_ == 20 and np.all(m.dimension(X[:20]) == 20)
    normal = (X[:20] - 5) / 0.1
    leak = np.einsum("ni,nik->nk", normal, m.lyapunov_frame(X[:20]).vectors[:, :, :20])
    assert np.linalg.norm(leak, axis=1).max() < 0.1


def test_tangent_spaces_are_orthogonal_to_the_radius(fitted):
    X, m = fitted
    found = m.tangent_space(X[:20])
    assert np.abs(np.einsum("ni,nik->nk", X[:20] - 5, found)).max() < 1e-6
    np.testing.assert_allclose(
        found.swapaxes(1, 2) @ found, np.tile(np.eye(20), (20, 1, 1)), atol=1e-12
    )
    frame = m.lyapunov_frame(X[:20]).vectors[:, :, :20]
    assert np.einsum("nik,nik->nk", found, frame).min() > 0.99  # the same, in the same order


def test_all_directions_of_the_span_are_those_of_the_frame(fitted):
    """The radius among them: there is none to leave out."""
    X, m = fitted
    frame = m.lyapunov_frame(X[:3], 21).vectors
    np.testing.assert_array_equal(m.tangent_space(X[:3], 21), frame)


def test_saved_shell_is_the_same(fitted, tmp_path):
    X, m = fitted
    save(m, tmp_path / "m.safetensors")
    found = load(tmp_path / "m.safetensors").lyapunov_frame(X[:3])
    np.testing.assert_array_equal(found.vectors, m.lyapunov_frame(X[:3]).vectors)


def test_own_network_learns_without_the_shell():
    network = torch.nn.Linear(3, 3)

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x, log_s):
            return self.inner(x)

    X = make_sphere(100, 2, random_state=0).points
    model = Diffusion(network=Own(), n_estimators=1, max_iter=3, random_state=0).fit(X)
    assert not any(isinstance(m, ShellDenoiser) for m in model.denoiser_.modules())
