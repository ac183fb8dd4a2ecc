"""The loss of denoising: noise levels, training and held-out draws, where structure ends."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from alignlearn._rows import Subset
from alignlearn._team import ALONE, Team

# Geometry is decided at small noise: above this level, in standard deviations, lie few draws.
COARSE, COARSE_SHARE = 2.0, 0.1


def draw_noise_levels(
    n: int,
    noise_range: tuple[float, float],
    generator: torch.Generator,
    coarse_share: float = COARSE_SHARE,
) -> Tensor:
    """Noise levels (n, 1), stratified, log-uniform on either side of `COARSE`.

    `coarse_share` of them lie above `COARSE`, where the denoiser is nearly linear.
    """
    low, high = math.log(noise_range[0]), math.log(noise_range[1])
    middle = min(max(math.log(COARSE), low), high)
    share = coarse_share if low < middle < high else float(middle == low)
    jitter = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float32)
    u = (torch.arange(n, device=generator.device) + jitter) / n
    fine = low + (middle - low) * u / max(1 - share, 1e-12)
    coarse = middle + (high - middle) * (u - 1 + share) / max(share, 1e-12)
    return torch.exp(torch.where(u < 1 - share, fine, coarse))[:, None]


def _weighted_errors(denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, s: Tensor, z: Tensor):
    """Entries ``(1 + s^2) / s^2 (Den(x + s z, s) - x)^2`` of rows, (n, D)."""
    error = denoise(x + s * z, s) - x
    return (1 + s * s) / (s * s) * error * error


def denoising_loss(denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, s: Tensor, z: Tensor):
    """Mean of ``(1 + s^2) / s^2 |Den(x + s z, s) - x|^2 / D`` over rows (Karras et al. 2022)."""
    return _weighted_errors(denoise, x, s, z).mean()


class DenoisingLoss:
    """Denoising loss of a batch drawn anew at every call.

    Parameters
    ----------
    x : Tensor or Subset of shape (n, D)
        Training rows, drawn with replacement.
    noise_range : (s_min, s_max)
        See `draw_noise_levels`.
    batch_size : int
        Rows of a batch.
    generator : torch.Generator
        On the device of x.
    team : Team, optional
        Processes that draw the same batches; each gives its part of the loss.
    """

    def __init__(
        self,
        x: Tensor | Subset,
        noise_range: tuple[float, float],
        batch_size: int,
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> None:
        self.x, self.noise_range, self.batch_size = x, noise_range, batch_size
        self.generator, self.team = generator, team

    def __call__(self, denoise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Loss of a denoiser, to be differentiated; of a team, this process' part in the sum."""
        n, own = self.batch_size, self.team.share(self.batch_size)
        options = {"generator": self.generator, "device": self.generator.device}
        rows = torch.randint(len(self.x), (n,), **options)  # type: ignore[call-overload]
        x_0 = self.x[rows[own]]
        z = torch.randn((n, x_0.shape[1]), dtype=x_0.dtype, **options)  # type: ignore[call-overload]
        s = draw_noise_levels(n, self.noise_range, self.generator)
        return denoising_loss(denoise, x_0, s[own], z[own]) * self.team.weight(n)


# Numbers in the rows that are evaluated at once: images are many features, and many more hidden.
_HELD_OUT_SIZE = 2**18


class HeldOutLoss:
    """Denoising loss of held-out rows, noise drawn once: comparable between steps and models.

    Over noise levels up to `COARSE`, the ones that decide the geometry.
    """

    def __init__(
        self,
        x: Tensor,
        noise_range: tuple[float, float],
        generator: torch.Generator,
        n_draws: int = 2000,
        team: Team = ALONE,
    ) -> None:
        self.team, self.n_rows = team, len(x)
        repeats = max(1, n_draws // len(x))
        self.x = x.repeat(repeats, 1)
        s = draw_noise_levels(len(self.x), noise_range, generator, coarse_share=0.0)
        order = torch.randperm(len(s), generator=generator, device=generator.device)
        self.s = s[order].to(x)
        self.z = torch.randn(self.x.shape, generator=generator, device=x.device, dtype=x.dtype)

    def __call__(self, denoise: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Loss of a denoiser; of a team, the part of this process in the sum."""
        return self._loss(denoise, self.team)

    def whole(self, denoise: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Loss of a denoiser, all of it in this process."""
        return self._loss(denoise, ALONE)

    @torch.no_grad()
    def gains(self, denoise: Callable[[Tensor, Tensor], Tensor], edges: Tensor) -> Tensor:
        """What a denoiser is better by than that of isotropic Gaussian data, (len(edges) - 1,).

        Mean difference of the losses on the same draws with noise between successive edges.
        """
        gains = torch.zeros(len(self.x), dtype=torch.float64)
        for rows in torch.arange(len(self.x)).split(max(1, _HELD_OUT_SIZE // self.x.shape[1])):
            draws = self.x[rows], self.s[rows], self.z[rows]
            plain = _weighted_errors(lambda y, s: y / (1 + s * s), *draws)
            gains[rows] = (plain - _weighted_errors(denoise, *draws)).mean(1).double().cpu()
        band = torch.bucketize(self.s[:, 0].double().cpu(), edges[1:-1].double())
        sums = torch.zeros(len(edges) - 1, dtype=torch.float64).index_add(0, band, gains)
        return sums / band.bincount(minlength=len(sums)).clamp(min=1)

    @torch.no_grad()
    def _loss(self, denoise: Callable[[Tensor, Tensor], Tensor], team: Team) -> float:
        n, own = len(self.x), team.share(len(self.x))
        n_rows = max(1, _HELD_OUT_SIZE // self.x.shape[1])
        parts = zip(*(p[own].split(n_rows) for p in (self.x, self.s, self.z)), strict=True)
        return float(sum(len(x) / n * denoising_loss(denoise, x, s, z) for x, s, z in parts))


# Bands of noise levels in which one looks for structure, and the share of the largest gain that is
# none: noise of size sigma makes the gain ``s^2 / (sigma^2 + s^2)`` of it, a fifth at sigma / 2.
# A denoiser whose largest gain is below the last number has learned nothing yet.
_BANDS, _NO_STRUCTURE, _LEARNED = 8, 0.2, 0.02


def structure_level(
    held_out: HeldOutLoss,
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise_range: tuple[float, float],
) -> float:
    """Noise level below which a denoiser has learned next to nothing, s_min if there is none.

    As under noise, which hides the scales below its size.

    Parameters
    ----------
    held_out : HeldOutLoss
        Of rows that it was not trained on.
    denoise : callable
        Of rows (n, D) and noise (n, 1).
    noise_range : (s_min, s_max)

    Returns
    -------
    level : float
        Where the gain over the denoiser of isotropic Gaussian data reaches a fifth of its largest
        value, interpolated between bands of log noise.

    Examples
    --------
    >>> import torch
    >>> from alignlearn.denoising import HeldOutLoss, structure_level
    >>> generator, levels = torch.Generator().manual_seed(0), (0.01, 5.0)
    >>> variances = torch.tensor([1.0, 0.2**2])  # a line with noise .2
    >>> x = torch.randn((2000, 2), generator=generator) * variances.sqrt()
    >>> held_out = HeldOutLoss(x, levels, generator, n_draws=20_000)
    >>> level = structure_level(held_out, lambda y, s: variances / (variances + s * s) * y, levels)
    >>> round(level, 1)
    0.1
    """
    s_min, s_max = noise_range
    edges = torch.logspace(
        math.log10(s_min), math.log10(max(min(COARSE, s_max), 2 * s_min)), _BANDS + 1
    )
    gains = held_out.gains(denoise, edges).tolist()
    enough = _NO_STRUCTURE * max(gains)
    nothing = [i for i, gain in enumerate(gains[: gains.index(max(gains))]) if gain < enough]
    if not nothing or max(gains) < _LEARNED:
        return s_min
    i = nothing[-1]
    centers = (edges[1:] * edges[:-1]).sqrt().tolist()
    share = (enough - gains[i]) / (gains[i + 1] - gains[i])
    return centers[i] * (centers[i + 1] / centers[i]) ** share
