"""Laws of the loss of denoising, of its draws and of the level where structure ends."""

import numpy as np
import pytest
import torch

from alignlearn.denoising import (
    COARSE,
    HeldOutLoss,
    denoising_loss,
    draw_noise_levels,
    structure_level,
)

RANGE = (0.01, 5.0)


def test_held_out_loss_has_the_same_draws_at_every_call(generator):
    x = torch.randn(40, 3, generator=generator)
    held_out = HeldOutLoss(x, RANGE, generator)

    def denoise(y, s):
        return y / (1 + s**2)

    first = held_out(denoise)
    torch.rand(5, generator=generator)
    assert held_out(denoise) == first


def test_held_out_loss_of_many_features_is_the_mean_over_all_rows_taken_in_parts(generator):
    held_out = HeldOutLoss(torch.randn(40, 300, generator=generator), RANGE, generator)
    sizes = []

    def denoise(y, s):
        sizes.append(len(y))
        return y / (1 + s)

    loss = held_out(denoise)
    assert len(sizes) > 1 and sum(sizes) == len(held_out.x) == 2000
    whole = denoising_loss(denoise, held_out.x, held_out.s, held_out.z)
    assert loss == pytest.approx(float(whole), rel=1e-5)


def test_loss_of_the_best_denoiser_of_white_data_is_one(generator):
    """``E |Den - x|^2 = s^2 / (1 + s^2)`` per coordinate: the weight makes it 1."""
    x = torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    z = torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    s = draw_noise_levels(20_000, RANGE, generator).double()
    loss = denoising_loss(lambda y, s: y / (1 + s**2), x, s, z)
    assert float(loss) == pytest.approx(1.0, abs=0.02)


def test_loss_of_a_perfect_denoiser_is_zero(generator):
    x = torch.ones(10, 3)
    s = draw_noise_levels(10, RANGE, generator)
    assert float(denoising_loss(lambda y, s: x, x, s, torch.ones(10, 3))) == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("n", [1, 10, 1000])
def test_noise_levels_are_stratified_over_the_log_range(n, share, generator):
    """One in each of n equal parts, of which a given share lies above `COARSE`."""
    s = draw_noise_levels(n, RANGE, generator, share)
    assert s.shape == (n, 1)
    log_s = np.log(s[:, 0].double().numpy())
    low, middle, high = np.log([RANGE[0], COARSE, RANGE[1]])
    parts = np.interp(log_s, [low, middle, high], [0, n * (1 - share), n])
    if share == 0:
        parts = (log_s - low) / (middle - low) * n
    assert (np.abs(parts - np.arange(n) - 0.5) < 0.5 + 1e-6 * n).all()


def flat(n, variances, generator):
    """Gaussian rows, and their denoiser."""
    x = torch.randn((n, len(variances)), generator=generator) * variances.sqrt()
    return x, lambda y, s: y * variances / (variances + s * s)


@pytest.mark.parametrize("sigma", [0.04, 0.1, 0.25])
def test_structure_begins_at_half_the_noise_of_a_flat_set(sigma, generator):
    x, denoise = flat(4000, torch.tensor([1.0, 1.0, sigma**2, sigma**2]), generator)
    held_out = HeldOutLoss(x, RANGE, generator, n_draws=40_000)
    level = structure_level(held_out, denoise, RANGE)
    assert level == pytest.approx(sigma / 2, rel=0.35)


@pytest.mark.parametrize("thin", [0.0, 0.01])
def test_a_thin_direction_is_structure_at_all_levels(thin, generator):
    x, denoise = flat(400, torch.tensor([1.0, 1.0, 0.3**2, thin**2]), generator)
    held_out = HeldOutLoss(x, RANGE, generator)
    assert structure_level(held_out, denoise, RANGE) == RANGE[0]


def test_a_denoiser_that_learned_nothing_has_no_structure_level(generator):
    x, _ = flat(400, torch.ones(3), generator)
    held_out = HeldOutLoss(x, RANGE, generator)
    for denoise in (lambda y, s: y / (1 + s * s), lambda y, s: torch.zeros_like(y)):
        assert structure_level(held_out, denoise, RANGE) == RANGE[0]
