"""Data in several flat pieces, for which a mixture of Gaussians may know more than a network."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from alignlearn._rows import Subset
from alignlearn.denoising import HeldOutLoss
from alignlearn.mixture import MixtureDenoiser

# Numbers of pieces tried, and restarts of each. Every one must lower the loss by a share, or else
# the next, until two do not: a curved set is better described by more and more of them, without
# end, and by none; the network learns it.
_N_PIECES, _N_INIT = (1, 2, 3, 4, 6, 8), 3
_GAIN, _PATIENCE = 0.02, 2

# A gain of the log-likelihood of a row, in nats, below which EM ends.
_TOL = 0.05

# Held-out rows at least, fewer are chance; features of a full covariance, and rows from which it is
# estimated, at most: time.
_MIN_HELD_OUT, _MAX_FEATURES, _MAX_ROWS = 50, 128, 20_000


class Pieces(NamedTuple):
    """A mixture of Gaussians.

    Attributes
    ----------
    denoiser : MixtureDenoiser or None
        None where there are not several pieces.
    loss : float
        Its held-out denoising loss.
    """

    denoiser: MixtureDenoiser | None = None
    loss: float = math.inf


def find_pieces(x: Tensor | Subset, held_out: HeldOutLoss, noise: float, seed: int) -> Pieces:
    """The mixture of several pieces to which more pieces add nothing, if there is one.

    Parameters
    ----------
    x : Tensor or Subset of shape (n, D)
        Scaled rows, in random order.
    held_out : HeldOutLoss
        Of other rows.
    noise : float
        Smallest noise level: what is thinner counts as flat.
    seed : int
        Of the first guesses.

    Returns
    -------
    Pieces
    """
    from sklearn.mixture import GaussianMixture  # late: slow to import

    if held_out.n_rows < _MIN_HELD_OUT or held_out.x.shape[1] > _MAX_FEATURES:
        return Pieces()
    best, since_best = Pieces(), 0
    rows = x[torch.arange(min(len(x), _MAX_ROWS), device=held_out.x.device)].double().cpu().numpy()
    for n_pieces in _N_PIECES:
        if n_pieces > len(rows) // 2:
            return Pieces()
        mixture = GaussianMixture(
            n_pieces, tol=_TOL, reg_covar=max(noise**2, 1e-6), n_init=_N_INIT, random_state=seed
        )
        # One thread: the sums of several come in any order, and a fit must be repeatable; and
        # threads of BLAS wait for each other at products of this size.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(rows)
        covariances = torch.from_numpy(mixture.covariances_)
        covariances.diagonal(dim1=-2, dim2=-1).sub_(mixture.reg_covar)
        parts = map(torch.from_numpy, (mixture.weights_, mixture.means_))
        denoiser = MixtureDenoiser(*parts, covariances).to(held_out.x)
        loss, since_best = held_out.whole(denoiser), since_best + 1
        if loss < (1 - _GAIN) * best.loss:
            best, since_best = Pieces(denoiser if n_pieces > 1 else None, loss), 0
        if since_best == _PATIENCE:
            return best if best.denoiser is not None else Pieces()
    return Pieces()
