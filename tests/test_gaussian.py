"""Closed forms of the low-rank Gaussian against dense linear algebra."""

import numpy as np
import pytest
import torch
from oracles import gaussian_denoiser
from scipy.stats import multivariate_normal, ortho_group

from alignlearn.gaussian import Gaussian

D = 6


def make(rank):
    """A Gaussian of the given rank + rest, and its dense covariance."""
    turn = ortho_group.rvs(D, random_state=0)
    variances = np.linspace(3.0, 0.5, rank)
    rest = 0.1
    covariance = turn * np.r_[variances, np.full(D - rank, rest)] @ turn.T
    tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in (turn[:, :rank], variances))
    return Gaussian(*tensors, torch.tensor(rest, dtype=torch.float64)), covariance


every_rank = pytest.mark.parametrize("rank", [1, 3, D])


@every_rank
@pytest.mark.parametrize("s", [0.01, 1.0, 30.0])
def test_denoiser_is_the_posterior_mean(rank, s, rng):
    gaussian, covariance = make(rank)
    y = torch.from_numpy(rng.normal(size=(5, D)))
    expected = gaussian_denoiser(covariance)(y, s)
    s_0 = torch.tensor(s, dtype=torch.float64)
    torch.testing.assert_close(gaussian.denoise(y, s_0), expected)
    torch.testing.assert_close(gaussian.denoise(y, s_0.expand(5, 1)), expected)


@every_rank
@pytest.mark.parametrize("s", [0.0, 0.5, 30.0])
def test_log_density_is_scipys(rank, s, rng):
    gaussian, covariance = make(rank)
    y = rng.normal(size=(5, D))
    expected = multivariate_normal(np.zeros(D), covariance + s**2 * np.eye(D)).logpdf(y)
    np.testing.assert_allclose(gaussian.log_density(torch.from_numpy(y), s), expected, rtol=1e-12)


@every_rank
def test_sample_has_the_smoothed_covariance(rank, generator):
    gaussian, covariance = make(rank)
    sample = gaussian.sample(40_000, 0.5, generator).numpy()
    np.testing.assert_allclose(sample.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(np.cov(sample.T), covariance + 0.25 * np.eye(D), atol=0.08)


@every_rank
def test_fit_keeps_leading_directions_and_the_total_variance(rank, rng):
    x = rng.normal(size=(50, D)) * [3, 2, 1.5, 1, 0.5, 0.2]
    gaussian = Gaussian.fit(torch.from_numpy(x), max_rank=rank)
    eigenvalues = np.linalg.eigvalsh(x.T @ x / 50)[::-1]
    np.testing.assert_allclose(gaussian.variances, eigenvalues[:rank])
    total = gaussian.variances.sum() + (D - rank) * gaussian.rest
    assert total.item() == pytest.approx(eigenvalues.sum())


def test_fit_of_fewer_rows_than_features_has_the_moments_of_the_rows(rng):
    x = rng.normal(size=(4, D))
    gaussian = Gaussian.fit(torch.from_numpy(x))
    covariance = x.T @ x / 4
    y = torch.from_numpy(rng.normal(size=(5, D)))
    s = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(gaussian.denoise(y, s), gaussian_denoiser(covariance)(y, s))
