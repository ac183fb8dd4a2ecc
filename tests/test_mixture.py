"""Data in several flat pieces: the closed form, when it is taken, and what it is good for."""

import numpy as np
import pytest
import torch
from oracles import Mixture, gaussian_denoiser
from scipy.stats import ortho_group

from alignlearn import LyapunovManifold, load, save
from alignlearn.datasets import make_random_manifold, make_torus
from alignlearn.denoising import HeldOutLoss
from alignlearn.mixture import MixtureDenoiser
from alignlearn.models import Diffusion
from alignlearn.models.denoisers import PiecewiseDenoiser
from alignlearn.models.pieces import find_pieces
from alignlearn.networks import GatedNetwork

D = 3
every_noise = pytest.mark.parametrize("s", [0.01, 0.3, 5.0])


def flat_pieces(n=900, dims=(1, 2, 4), n_features=6, seed=0):
    """Rows of linear pieces of several dimensions far from each other, and those dimensions."""
    rng = np.random.default_rng(seed)
    piece = rng.integers(len(dims), size=n)
    x = 6.0 * np.eye(n_features)[piece]
    for j, d in enumerate(dims):
        axes = ortho_group.rvs(n_features, random_state=seed + j)[:d]
        x[piece == j] += rng.normal(size=(np.sum(piece == j), d)) @ axes
    return x, np.asarray(dims)[piece]


def scaled(X):
    return torch.from_numpy((X - X.mean(0)) / X.std()).float()


def held_out(x):
    return HeldOutLoss(x, (0.01, 5.0), torch.Generator().manual_seed(0))


@every_noise
def test_denoiser_is_the_posterior_mean_of_isotropic_pieces(s, rng):
    mixture = Mixture.example(D)
    m = len(mixture.means)
    covariances = mixture.variances[:, None, None] * torch.eye(D, dtype=torch.float64)
    denoise = MixtureDenoiser(torch.full((m,), 1 / m).double(), mixture.means, covariances)
    y, s = torch.from_numpy(rng.normal(size=(7, D))), torch.tensor(s, dtype=torch.float64)
    torch.testing.assert_close(denoise(y, s), mixture.denoise(y, s))
    torch.testing.assert_close(denoise(y, s.expand(7, 1)), mixture.denoise(y, s))


@every_noise
def test_one_piece_is_a_gaussian(s, rng):
    A = rng.normal(size=(D, 2))
    covariance = A @ A.T  # singular: flat
    one, zero = torch.ones(1).double(), torch.zeros(1, D).double()
    denoise = MixtureDenoiser(one, zero, torch.from_numpy(covariance)[None])
    y = torch.from_numpy(rng.normal(size=(7, D)))
    expected = gaussian_denoiser(covariance)(y, s)
    torch.testing.assert_close(denoise(y, torch.tensor(s)), expected, rtol=1e-5, atol=1e-7)


def test_shares_weigh_pieces_that_overlap(rng):
    weights, means = torch.tensor([0.9, 0.1]).double(), torch.zeros(2, D).double()
    covariances = torch.stack([0.1 * torch.eye(D), torch.eye(D)]).double()
    denoise = MixtureDenoiser(weights, means, covariances)
    y, s2 = torch.from_numpy(rng.normal(size=(5, D))), 0.25
    variances = torch.tensor([0.1, 1.0]).double()
    density = weights * (variances + s2) ** (-D / 2)
    density = density * torch.exp(-0.5 * (y * y).sum(-1, keepdim=True) / (variances + s2))
    gain = (density * variances / (variances + s2)).sum(-1) / density.sum(-1)
    torch.testing.assert_close(denoise(y, torch.tensor(0.5).double()), gain[:, None] * y)


@pytest.mark.parametrize("seed", range(3))
def test_flat_pieces_are_found(seed):
    x = scaled(flat_pieces(seed=seed)[0])
    pieces = find_pieces(x[90:], held_out(x[:90]), 0.01, seed)
    assert len(pieces.denoiser.log_weights) == 3
    assert pieces.loss == held_out(x[:90])(pieces.denoiser)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_torus(900, random_state=0).points,
        lambda: make_random_manifold(600, 3, 6, random_state=0).points,
        lambda: np.random.default_rng(0).normal(size=(900, 5)),
        lambda: flat_pieces(40)[0],
        lambda: np.random.default_rng(0).normal(size=(40, 200)),
    ],
    ids=["torus", "curved", "gaussian", "few rows", "many features"],
)
def test_no_pieces_are_found_where_there_are_none(make):
    x = scaled(make())
    assert find_pieces(x[1:], held_out(x), 0.01, 0).denoiser is None


def test_finding_pieces_is_repeatable():
    x = scaled(flat_pieces()[0])
    first, second = (find_pieces(x[90:], held_out(x[:90]), 0.01, 0).denoiser for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


@pytest.fixture(scope="module")
def fitted():
    X, dimension = flat_pieces()
    model = Diffusion(max_iter=150, n_estimators=1)
    return LyapunovManifold(model=model, n_reference=50, random_state=0).fit(X), X, dimension


def test_pieces_of_several_dimensions_are_told_apart(fitted):
    manifold, X, dimension = fitted
    assert isinstance(manifold.model_.denoiser_, PiecewiseDenoiser)
    assert np.mean(manifold.dimension(X[:100]) == dimension[:100]) >= 0.95


def test_a_model_of_pieces_can_be_saved(fitted, tmp_path):
    manifold, X, _ = fitted
    save(manifold, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(
        again.lyapunov_frame(X[:5]).exponents, manifold.lyapunov_frame(X[:5]).exponents
    )


def test_a_network_of_the_users_is_left_alone():
    X = flat_pieces(300)[0]
    network = GatedNetwork(6, width=8, n_blocks=1, generator=torch.Generator())
    model = Diffusion(network=network, max_iter=5, n_estimators=1, random_state=0).fit(X)
    assert not isinstance(model.denoiser_, PiecewiseDenoiser)
