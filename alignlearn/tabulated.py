"""Noise schedules that are known at finitely many levels, as those of discrete-time models."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from alignlearn.schedules import Schedule


@lru_cache(maxsize=64)
def _knots(alphas: tuple[float, ...], sigmas: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Log ratio and log norm ``log sqrt(alpha^2 + sigma^2)`` at each level, (n_levels,) each."""
    alpha, sigma = (torch.tensor(v, dtype=torch.float64) for v in (alphas, sigmas))
    return torch.log(sigma) - torch.log(alpha), torch.hypot(alpha, sigma).log()


@dataclass(frozen=True)
class Tabulated(Schedule):
    """A schedule given by its scales at levels 0, ..., n - 1, at the times ``i / (n - 1)``.

    Between levels, and beyond the ends with the slope there, ``log(sigma / alpha)`` and the log of
    ``sqrt(alpha^2 + sigma^2)`` are linear in t, as in Lu et al. (2022, "DPM-Solver", appendix D.4):
    monotone, exactly inverted, and variance preserving if the table is. The velocity jumps at the
    levels, so that solvers that take one are of first order; those of a denoiser keep theirs.

    Parameters
    ----------
    alphas, sigmas : sequence of float
        Scales of data and noise, the level with the least noise first; their ratio increases.

    Raises
    ------
    ValueError
        If there are fewer than two levels, a scale is not positive and finite or the ratio does
        not increase.

    Examples
    --------
    >>> import torch
    >>> from alignlearn.tabulated import Tabulated
    >>> betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # Ho et al. (2020)
    >>> schedule = Tabulated.from_alphas_cumprod(torch.cumprod(1 - betas, 0))
    >>> schedule.time(torch.tensor(1.0)) * 999  # the step with as much noise as data
    tensor(258.0930, dtype=torch.float64)
    """

    alphas: tuple[float, ...] = field(repr=False)
    sigmas: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("alphas", "sigmas"):  # tuples, so that schedules compare and can be keys
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        scales = self.alphas + self.sigmas
        if len(self.alphas) != len(self.sigmas) or len(self.alphas) < 2:
            raise ValueError(
                f"expected as many alphas as sigmas, at least two, got {len(self.alphas)} and "
                f"{len(self.sigmas)}."
            )
        if not all(0 < v < math.inf for v in scales):
            raise ValueError("expected positive, finite scales in alphas and sigmas.")
        if not (_knots(self.alphas, self.sigmas)[0].diff() > 0).all():
            raise ValueError("expected sigma / alpha to increase from level to level, data first.")

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Iterable[float]) -> Tabulated:
        """Variance-preserving table of a DDPM: ``alpha^2`` at each step (Ho et al. 2020).

        A last step with ``alpha = 0``, pure noise, has no ratio and is left out.

        Parameters
        ----------
        alphas_cumprod : sequence of float
            ``prod_{j <= i} (1 - beta_j)``, decreasing from nearly 1.
        """
        squares = [float(a) for a in alphas_cumprod]
        if squares and squares[-1] == 0:
            squares.pop()
        if not all(0 < a < 1 for a in squares):
            raise ValueError("expected alphas_cumprod between 0 and 1, decreasing.")
        return cls(tuple(math.sqrt(a) for a in squares), tuple(math.sqrt(1 - a) for a in squares))

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.alphas)

    def _logs(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log ratio, log norm and the time derivatives of both."""
        n = self.n_levels - 1
        knots = [k.to(t.device) for k in _knots(self.alphas, self.sigmas)]
        i = torch.floor(t.detach() * n).clamp(0, n - 1).long()
        weight = t * n - i
        (r, r_dot), (m, m_dot) = ((k[i], k[i + 1] - k[i]) for k in knots)
        return r + weight * r_dot, m + weight * m_dot, n * r_dot, n * m_dot

    def alpha(self, t: Tensor) -> Tensor:
        """``norm / sqrt(1 + ratio^2)``."""
        log_ratio, log_norm, _, _ = self._logs(t)
        return torch.exp(log_norm - torch.logaddexp(2 * log_ratio, torch.zeros_like(t)) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        """``norm / sqrt(1 + ratio^-2)``."""
        log_ratio, log_norm, _, _ = self._logs(t)
        return torch.exp(log_norm - torch.logaddexp(-2 * log_ratio, torch.zeros_like(t)) / 2)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """``alpha (log norm' - (log ratio)' / (1 + ratio^-2))``."""
        log_ratio, _, r_dot, m_dot = self._logs(t)
        return self.alpha(t) * (m_dot - torch.sigmoid(2 * log_ratio) * r_dot)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """``sigma (log norm' + (log ratio)' / (1 + ratio^2))``."""
        log_ratio, _, r_dot, m_dot = self._logs(t)
        return self.sigma(t) * (m_dot + torch.sigmoid(-2 * log_ratio) * r_dot)

    def ratio(self, t: Tensor) -> Tensor:
        """``exp`` of the interpolated log ratio."""
        return torch.exp(self._logs(t)[0])

    def time(self, ratio: Tensor) -> Tensor:
        """Inverse of the interpolation, exactly."""
        log_ratio = torch.log(ratio)
        knots, n = _knots(self.alphas, self.sigmas)[0].to(ratio.device), self.n_levels - 1
        i = (torch.searchsorted(knots, log_ratio.detach().to(knots)) - 1).clamp(0, n - 1)
        return (i + (log_ratio - knots[i]) / (knots[i + 1] - knots[i])) / n
