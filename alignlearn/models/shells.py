"""Rows of nearly one norm, as of normalised embeddings, which a network learns late or never."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from alignlearn._blocks import row_blocks
from alignlearn._rows import DiskRows

# Share of a Gaussian's variance of the squared norm above which the norm says too little, and the
# distance of the centre from the mean, in root mean square distances of the rows from it, above
# which they are nearly flat.
_MAX_SHARE, _MAX_OFFSET = 0.1, 2.0


class Shell(NamedTuple):
    """The sphere near which rows lie.

    Attributes
    ----------
    center : Tensor of shape (D,)
        Its centre.
    radius : float
        Root mean square of the distances to the centre.
    thickness : float
        Standard deviation of the distances, 0 for normalised rows.
    """

    center: Tensor
    radius: float
    thickness: float


def find_shell(x: Tensor | DiskRows) -> Shell | None:
    """The shell of rows, if there is one: ``|x|^2`` is then a linear function of x, nearly.

    That function is found by least squares (the algebraic fit, Coope 1993). It must leave less than
    a tenth of the variance that ``|x|^2`` has for Gaussian rows of the same covariance, and the
    centre must lie no farther from the mean of the rows than twice as far as they do: nearly flat
    data lie near spheres too, large ones.

    Parameters
    ----------
    x : Tensor or DiskRows of shape (n, D)
        Rows, not all in one hyperplane.

    Returns
    -------
    Shell or None

    Examples
    --------
    >>> import torch
    >>> from alignlearn.models.shells import find_shell
    >>> x = torch.randn((500, 8), generator=torch.Generator().manual_seed(0))
    >>> find_shell(x) is None
    True
    >>> shell = find_shell(3 + 2 * x / x.norm(dim=1, keepdim=True))
    >>> bool((shell.center - 3).abs().max() < 1e-5), round(shell.radius, 4)
    (True, 2.0)
    """
    n, D = x.shape
    if D < 2 or n < 2 * (D + 2):
        return None
    moments = torch.zeros((D + 2, D + 2), dtype=torch.float64, device=x.device)
    for rows in row_blocks(n, D):
        block = x[rows].double()
        squares = (block * block).sum(1, keepdim=True)
        columns = torch.cat([torch.ones_like(squares), block, squares], 1)
        moments += columns.T @ columns
    means = moments[0] / n
    joint = (moments / n - torch.outer(means, means))[1:, 1:]  # covariance of (x, |x|^2)
    covariance, shared, mean = joint[:-1, :-1], joint[:-1, -1], means[1:-1]
    slopes = torch.linalg.solve_ex(covariance, shared).result
    residual = max(0.0, float(joint[-1, -1] - shared @ slopes)) * n / (n - D - 1)
    center = slopes / 2
    spread, offset = covariance.trace(), center - mean
    is_thin = residual < _MAX_SHARE * 2 * float((covariance**2).sum())
    is_round = float(offset @ offset) <= _MAX_OFFSET**2 * float(spread)  # not so if it is NaN
    if not (is_thin and is_round):
        return None
    radius = float(spread + offset @ offset) ** 0.5
    return Shell(center.to(x[:0]), radius, math.sqrt(residual) / (2 * radius))


class ShellDenoiser(nn.Module):
    """Denoiser of rows near a sphere: noise across the sphere goes before the network sees them.

    ``Den(y, s) = inner(c + (w + (1 - w) g) v, s)`` with ``v = y - c`` and
    ``g = 2 (R^2 + D s^2) / (D s^2 + sqrt(D^2 s^4 + 4 R^2 |v|^2))``, which moves y to the usual
    distance of noisy rows from the centre, ``R / |v|`` at small noise. Where the inner denoiser
    is that of Gaussian data and ``R^2 = D``, what comes out for ``w = 0`` is the denoiser of the
    uniform law on the sphere, ``R A(R |v| / s^2) v / |v|``, A the ratio of the Bessel functions
    I of orders D/2 and D/2 - 1 up to order 1/D (Amos 1974). ``w = t^2 / (t^2 + s^2)`` is how
    much of a distance is the data's own where that has the standard deviation t.
    """

    center: Tensor

    def __init__(self, denoiser: nn.Module, shell: Shell) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.radius, self.thickness = shell.radius, shell.thickness
        self.register_buffer("center", shell.center)

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        v, s2 = y - self.center, (s * s).to(y)
        spread, R2 = s2 * y.shape[1], self.radius**2
        distance2 = (v * v).sum(-1, keepdim=True)
        g = 2 * (R2 + spread) / (spread + torch.sqrt(spread * spread + 4 * R2 * distance2))
        w = self.thickness**2 / (self.thickness**2 + s2)
        return self.denoiser(self.center + (w + (1 - w) * g) * v, s)
