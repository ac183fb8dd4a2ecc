"""Projection to the ridge of a Gaussian or of a circle, and valleys between clusters."""

import numpy as np
import pytest

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_affine_subspace, make_gaussian, make_sphere
from alignlearn.models import GaussianModel, KernelDiffusion
from alignlearn.projection import SHARES, density_valley

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def plane():
    return make_affine_subspace(2000, 2, 5, noise=0.05, random_state=0)


@pytest.fixture(scope="module")
def on_plane(plane):
    model = GaussianModel(s_min=0.02, window=(0.02, 0.2))
    return LyapunovManifold(model=model, random_state=0).fit(plane.points)


def off_plane(x, sample):
    """Distance from the true plane."""
    delta = x - sample.clean[0]
    Q = sample.tangents[0]
    return np.linalg.norm(delta - delta @ Q @ Q.T, axis=1)


def test_noise_across_a_plane_is_removed(on_plane, plane):
    """What is left is the error of the plane itself, 1 / sqrt(n) of the noise."""
    before = off_plane(plane.points, plane).mean()
    assert off_plane(on_plane.project(plane.points), plane).mean() < 0.1 * before


def test_points_move_across_the_plane_only(on_plane, plane):
    Q = on_plane.tangent_space(plane.points[:1])[0]
    moved = on_plane.project(plane.points) - plane.points
    assert np.abs(moved @ Q).max() < 0.02 * np.abs(moved).max()


def test_points_far_off_the_plane_land_on_it(on_plane, plane):
    normal = np.linalg.svd(plane.tangents[0].T)[2][2]
    far = plane.clean[:50] + 1.5 * normal
    assert off_plane(on_plane.project(far), plane).max() < 0.1


def test_projecting_twice_is_projecting_once(on_plane, plane):
    once = on_plane.project(plane.points[:50])
    np.testing.assert_allclose(on_plane.project(once), once, atol=1e-3)


@pytest.mark.parametrize("n_halvings", [0, 1, 2, 5])
def test_noise_is_halved_as_often_as_asked(n_halvings, on_plane, plane):
    halved = on_plane._projection(n_halvings)(plane.points)
    before, left = off_plane(plane.points, plane), off_plane(halved, plane)
    np.testing.assert_allclose(left, before / 2**n_halvings, atol=0.15 * before.mean())


@pytest.mark.parametrize("noise, n_halvings", [(0.0, 0), (0.1, 2)])
def test_tangent_spaces_are_read_at_a_quarter_of_the_noise_that_is_seen(noise, n_halvings):
    X = make_sphere(400, 1, noise=noise, random_state=0).points
    model = KernelDiffusion(s_min=max(0.02, noise), s_max=1.0)
    m = LyapunovManifold(model=model, n_reference=50, n_paths=4, random_state=0).fit(X)
    at = m._projection(n_halvings)(X[:50])
    vectors = m.tangent_space(X[:50])
    np.testing.assert_allclose(vectors, m.lyapunov_frame(at, 1).vectors, atol=1e-9)
    far = np.abs(vectors - m.lyapunov_frame(X[:50], 1).vectors).max()
    assert far > 1e-3 if noise else far == 0


def test_data_without_normal_directions_stay():
    X = make_gaussian(200, 2, random_state=0).points
    m = LyapunovManifold(model=GaussianModel(), random_state=0).fit(X)
    assert m.dimension_ == 2
    np.testing.assert_array_equal(m.project(X), X)


def test_noise_around_a_circle_is_removed():
    sample = make_sphere(800, 1, noise=0.1, random_state=0)
    model = KernelDiffusion(s_min=0.1, s_max=1.0)
    m = LyapunovManifold(model=model, n_reference=50, n_paths=4, random_state=0).fit(sample.points)
    assert m.dimension_ == 1
    rms = [
        np.sqrt(np.mean((np.linalg.norm(x, axis=1) - 1) ** 2))
        for x in (sample.points, m.project(sample.points))
    ]
    assert rms[1] < 0.5 * rms[0]


def test_coordinates_of_a_noisy_plane_are_its_own(on_plane, plane):
    from sklearn.linear_model import LinearRegression

    y = on_plane.embedding_
    truth = plane.parameters
    assert LinearRegression().fit(y, truth).score(y, truth) > 0.99
    np.testing.assert_allclose(y.std(axis=0), [1, 1], rtol=0.15)
    back = on_plane.inverse_transform(y)
    assert off_plane(back, plane).max() < 0.1
    with pytest.raises(ValueError, match="expected 2 columns"):
        on_plane.inverse_transform(y[:, :1])


def test_valley_is_seen_between_two_clusters_and_not_within_one():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + [12, 0]]
    model = KernelDiffusion(s_min=0.2).fit(X)
    within = density_valley(model, X[:50], X[50:100])
    between = density_valley(model, X[:50], X[100:150])
    assert between.max() < -0.04 < np.median(within)


def test_valley_is_that_of_the_density():
    """On a mixture of two normal laws in closed form, at the scale that is used."""

    class Pair(GaussianModel):
        def denoiser(self):
            import torch

            def denoise(y, s):
                m = torch.tensor([2.0, 0.0], dtype=y.dtype)
                shrink = 1 / (1 + s * s)
                logit = 2 * (y @ m)[:, None] * shrink
                return shrink * y + (1 - shrink) * m * torch.tanh(logit / 2)

            return denoise

    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2)) * np.sqrt(0.5)
    model = Pair().fit(np.r_[X, -X])  # scaled to unit variance: the closed form's own units
    unit = np.exp(model.scaling_.log_unit)
    a, b = np.array([[-2.0, 0.0]]), np.array([[2.0, 0.0]])

    def log_density(x, s):
        v = 1 + s * s
        return np.log(np.exp(-((x - 2) ** 2) / (2 * v)) + np.exp(-((x + 2) ** 2) / (2 * v)))

    expected = min(
        weight * (log_density(0, 4 * share) - log_density(2, 4 * share)) for share, weight in SHARES
    )
    found = density_valley(model, unit * a, unit * b)
    assert found[0] == pytest.approx(expected, abs=0.02)
