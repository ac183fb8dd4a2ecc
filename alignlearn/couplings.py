"""Couplings of flow matching: which row of the source belongs to which row of the data.

A coupling is a callable ``(x_0 (n, D), x_1 (m, D), rng) -> (i, j)``, two index arrays of one length
that pair ``x_0[i]`` with ``x_1[j]``; every row of x_0 occurs equally often, up to one. It sees a
minibatch at a time (Tong et al. 2024; Pooladian et al. 2023).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

Pairs = tuple[np.ndarray, np.ndarray]

# Iterations of Sinkhorn on scalings between two on log potentials.
_ABSORBED = 10


@dataclass(frozen=True)
class Coupling(ABC):
    """A rule that pairs rows of the data with rows of the source."""

    @abstractmethod
    def __call__(self, x_0: np.ndarray, x_1: np.ndarray, rng: np.random.Generator) -> Pairs:
        """Indices (i, j) of equal length that pair ``x_0[i]`` with ``x_1[j]``."""


@dataclass(frozen=True)
class IndependentCoupling(Coupling):
    """Pairs at random: what a diffusion model does, and rectified flow in its first round."""

    def __call__(self, x_0: np.ndarray, x_1: np.ndarray, rng: np.random.Generator) -> Pairs:
        """Every row of the larger side once, of the smaller equally often."""
        n = max(len(x_0), len(x_1))
        return _repeated(len(x_0), n, rng), _repeated(len(x_1), n, rng)


@dataclass(frozen=True)
class OptimalTransportCoupling(Coupling):
    """Pairs of least total squared distance within the batch, "OT-CFM".

    Every row of the larger side occurs once, of the smaller equally often up to one. The time of
    the assignment grows like the third power of the rows: larger batches are cut at random.

    Parameters
    ----------
    block_size : int, default=1000
        Rows that are assigned at once, at most.

    Raises
    ------
    ValueError
        If `block_size` is no integer from 1 on.
    """

    block_size: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.block_size, Integral) or self.block_size < 1:
            raise ValueError(f"block_size must be an integer from 1 on, got {self.block_size!r}.")

    def __call__(self, x_0: np.ndarray, x_1: np.ndarray, rng: np.random.Generator) -> Pairs:
        """The assignment, block by block."""
        i, j = IndependentCoupling()(x_0, x_1, rng)
        for block in np.array_split(np.arange(len(i)), -(-len(i) // self.block_size)):
            rows, columns = i[block], j[block]
            cost = cdist(x_0[rows], x_1[columns], "sqeuclidean")
            j[block] = columns[linear_sum_assignment(cost)[1]]
        return i, j


@dataclass(frozen=True)
class EntropicCoupling(Coupling):
    """Pairs drawn from the entropic transport plan of the batch, which Sinkhorn's iteration finds.

    ``argmin_P <P, C> + regularization KL(P | independent)`` with squared distances C. Every row of
    x_0 gets one partner, drawn from its row of the plan. For a Schroedinger bridge of diffusion
    sigma the regularization is ``2 sigma^2`` (Tong et al. 2024, proposition 4.5).

    Parameters
    ----------
    regularization : float, default=2
        In units of squared distances, where the data have unit variance.
    max_iter : int, default=1000
        Iterations at most.
    tol : float, default=0.01
        Total deviation of the marginals at which they end.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    regularization: float = 2.0
    max_iter: int = 1000
    tol: float = 0.01

    def __post_init__(self) -> None:
        for name in ("regularization", "tol"):
            value = getattr(self, name)
            if not isinstance(value, Real):
                raise TypeError(f"{name} must be a number, got {value!r}.")
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}.")
        if not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"max_iter must be an integer from 1 on, got {self.max_iter!r}.")

    def log_plan(self, x_0: np.ndarray, x_1: np.ndarray) -> np.ndarray:
        """Log of the plan (n, m), whose rows sum to 1 / n, its columns to about 1 / m.

        Sinkhorn's iteration (Cuturi 2013) on log potentials f and g, which neither over- nor
        underflows; in between on scalings u and v around them, which is many times faster
        (Schmitzer 2019).
        """
        log_k = -cdist(x_0, x_1, "sqeuclidean") / self.regularization
        n, m = log_k.shape
        g, tiny = np.zeros(m), np.finfo(float).tiny
        for _ in range(-(-self.max_iter // _ABSORBED)):
            f = -math.log(n) - logsumexp(log_k + g, axis=1)
            g = -math.log(m) - logsumexp(log_k + f[:, None], axis=0)
            K = np.exp(log_k + f[:, None] + g)
            if np.abs(K.sum(1) - 1 / n).sum() < self.tol:
                break
            v = np.ones(m)
            for _ in range(_ABSORBED):
                u = 1 / (n * np.maximum(K @ v, tiny))
                v = 1 / (m * np.maximum(u @ K, tiny))
            g = g + np.log(v)
        log_p = log_k + g
        log_p = log_p - log_p.max(axis=1, keepdims=True)  # f, but exact where it is huge
        return log_p - (math.log(n) + logsumexp(log_p, axis=1, keepdims=True))

    def __call__(self, x_0: np.ndarray, x_1: np.ndarray, rng: np.random.Generator) -> Pairs:
        """A partner for every row of x_0."""
        cumulative = np.cumsum(np.exp(self.log_plan(x_0, x_1)), axis=1)
        level = rng.random((len(x_0), 1)) * cumulative[:, -1:]
        return np.arange(len(x_0)), (cumulative < level).sum(axis=1)


def _repeated(n_rows: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of rows in random order, n of them, each equally often up to one."""
    rounds = [rng.permutation(n_rows) for _ in range(-(-n // n_rows))]
    return np.concatenate(rounds)[:n]
