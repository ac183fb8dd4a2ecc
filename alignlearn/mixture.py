"""A mixture of Gaussians: the closed form of diffusion on data in several flat pieces."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MixtureDenoiser(nn.Module):
    """Posterior mean of data from a mixture of Gaussians, given noise.

    ``Den(y, s) = sum_k r_k(y, s) [m_k + C_k (C_k + s^2)^-1 (y - m_k)]`` with the posterior shares
    ``r_k(y, s)``, proportional to ``w_k N(y; m_k, C_k + s^2)``.

    Parameters
    ----------
    weights : Tensor of shape (K,)
        Shares w of the pieces.
    means : Tensor of shape (K, D)
        Their centres m.
    covariances : Tensor of shape (K, D, D)
        Their covariances C, semidefinite up to rounding.
    """

    log_weights: Tensor
    axes: Tensor
    variances: Tensor
    centers: Tensor

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        super().__init__()
        variances, axes = torch.linalg.eigh(covariances)
        self.register_buffer("log_weights", weights.log())
        self.register_buffer("variances", variances.clamp_min(0.0))  # (K, D)
        self.register_buffer("axes", axes.transpose(0, 1).flatten(1).contiguous())  # (D, K D)
        self.register_buffer("centers", (means[:, None] @ axes).squeeze(1))  # (K, D), on the axes
        self.n_hidden = means.numel()

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        n, (K, D) = len(y), self.centers.shape
        variances = self.variances + (s * s).to(y).reshape(-1, 1, 1)  # (n or 1, K, D)
        across = (y @ self.axes).reshape(n, K, D) - self.centers
        log_density = -0.5 * (across * across / variances + variances.log()).sum(-1)
        share = torch.softmax(self.log_weights + log_density, -1)  # (n, K)
        means = self.centers + across * (self.variances / variances)
        return (share[..., None] * means).reshape(n, K * D) @ self.axes.T
