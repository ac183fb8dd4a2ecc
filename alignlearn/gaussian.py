"""A centred Gaussian with low-rank structure: the closed forms of diffusion on Gaussian data.

Used three ways: as the model `GaussianModel`, as the law at the noise end of every model, and as
the linear part of the trained denoiser.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from alignlearn._blocks import row_blocks


class Gaussian(NamedTuple):
    """``N(0, U diag(variances) U^T + rest (I - U U^T))`` on R^D.

    Attributes
    ----------
    basis : Tensor of shape (D, r)
        Orthonormal columns U.
    variances : Tensor of shape (r,)
        Variances along them.
    rest : Tensor, 0-dimensional
        Variance of every other direction; without effect when r = D.
    """

    basis: Tensor
    variances: Tensor
    rest: Tensor

    @classmethod
    def fit(cls, x: Tensor, max_rank: int = 128) -> Gaussian:
        """Second moments of the centred rows x (n, D): exact up to `max_rank` directions.

        x may be anything that gives tensors by slices of rows.
        """
        (n, D), like = x.shape, x[:0]
        rank = min(n, D, max_rank)
        _, singular, basis_t = torch.linalg.svd(triangle(x), full_matrices=False)
        variances = singular**2 / n
        rest = variances[rank:].sum() / max(D - rank, 1)
        return cls(basis_t[:rank].T.to(like), variances[:rank].to(like), rest.to(like))

    def denoise(self, y: Tensor, s: Tensor) -> Tensor:
        """Posterior mean ``E[x | x + s z = y]``, y (n, D), s 0-dimensional or (n, 1)."""
        s2 = (s * s).to(y)
        gain, gain_rest = self.variances / (self.variances + s2), self.rest / (self.rest + s2)
        return gain_rest * y + (y @ self.basis * (gain - gain_rest)) @ self.basis.T

    def sample(self, n_samples: int, s: float, generator: torch.Generator) -> Tensor:
        """Draw ``x + s z``, (n_samples, D)."""
        D = len(self.basis)
        options = {"generator": generator, "dtype": self.basis.dtype, "device": generator.device}
        z = torch.randn(n_samples, D, **options).to(self.basis.device)  # type: ignore[call-overload]
        along = z @ self.basis
        scale, scale_rest = torch.sqrt(self.variances + s**2), torch.sqrt(self.rest + s**2)
        return scale_rest * z + (along * (scale - scale_rest)) @ self.basis.T

    def log_density(self, y: Tensor, s: float) -> Tensor:
        """Log density of ``x + s z`` at the rows of y, (n,), float64."""
        D, r = self.basis.shape
        y, basis = y.double(), self.basis.double()
        variances, rest = self.variances.double() + s**2, self.rest.double() + s**2
        along = y @ basis
        across = (y * y).sum(-1) - (along * along).sum(-1)
        mahalanobis = (along**2 / variances).sum(-1) + across.clamp_min(0.0) / rest
        log_det = variances.log().sum() + (D - r) * rest.log()
        return -0.5 * (mahalanobis + log_det + D * math.log(2 * math.pi))


def triangle(x: Tensor) -> Tensor:
    """A matrix with the products ``x^T x`` of x (n, D), so its singular values and right vectors.

    In float64: x itself if it is one block, else the R of a QR, block by block, (min(n, D), D).
    """
    first, *others = row_blocks(*x.shape)
    R = x[first].double()
    for rows in others:
        R = torch.linalg.qr(torch.cat([R, x[rows].double()]), mode="r").R
    return R
