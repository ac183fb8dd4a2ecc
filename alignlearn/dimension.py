"""From Lyapunov exponents to an intrinsic dimension. Pure functions on numpy arrays.

Exponents are rates: a direction normal to the data contracts at rate -1 (the *floor*), a tangent
one stays near 0. The intrinsic dimension is the number of rates above the largest gap, on a scale
that grows like the logarithm of the rate: that a direction contracts at all says more than how far.
Where no gap is clear, a prior guess decides between the small ones. docs/dimension.md says why.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Rates closer to 0 than this are about equally tangent: where the logarithmic scale begins.
TANGENT = 0.3

# A gap above the first needs no second opinion; one below the last is no gap at all, and all
# directions count as tangent unless some gap is above the middle one.
CLEAR, FULL, FAINT = 0.35, 0.12, 0.05

# Share of agreeing points that makes a gap clear although it is small.
AGREEMENT = 0.9

# Standard deviation of the logarithm of a prior guess.
PRIOR_WIDTH = 0.6


class DimensionEstimate(NamedTuple):
    """Dimension of a sample, with what speaks for it.

    Attributes
    ----------
    dimension : int
        The dimension.
    confidence : float
        Share of the points whose own dimension is that one.
    gap : float
        Mean over points of the gap behind that exponent, from 0 to 1.
    resolved : bool
        False if no direction contracts: the data are full-dimensional at the scales looked at, or
        the model has not learned them. The exponents alone cannot tell these two apart. False too
        if neighbours refute the exponents.
    clear : bool
        False if no gap stands out, neither by its size nor by the agreement of the points, so that
        a prior has a say.
    """

    dimension: int
    confidence: float
    gap: float
    resolved: bool
    clear: bool


def _check_exponents(exponents: np.ndarray) -> np.ndarray:
    exponents = np.asarray(exponents, dtype=np.float64)
    if exponents.ndim != 2 or 0 in exponents.shape:
        raise ValueError(f"expected exponents of shape (n, k), got {exponents.shape}.")
    if not np.isfinite(exponents).all():
        raise ValueError("expected finite exponents, got NaN or infinity.")
    return exponents


def _clamped(exponents: np.ndarray) -> np.ndarray:
    """Rates in [-1, 0]: below the floor and above 0 there is only the network's error."""
    return np.clip(_check_exponents(exponents), -1.0, 0.0)


def spectral_gaps(exponents: np.ndarray) -> np.ndarray:
    """Gap behind every exponent, (n, k), the last one to the floor at -1.

    Differences of ``log(1 + |rate| / r) / log(1 + 1 / r)``, r = 0.3, which runs from 0 at rate 0 to
    1 at the floor. Differently contracted normal directions thus make smaller gaps than the first
    one.

    Parameters
    ----------
    exponents : ndarray of shape (n, k)
        Rates in descending order.

    Returns
    -------
    gaps : ndarray of shape (n, k)
        Non-negative; they add up to at most 1.
    """
    depth = np.log1p(-_clamped(exponents) / TANGENT) / np.log1p(1 / TANGENT)
    return np.diff(depth, axis=1, append=1.0)


def prior_weights(n_exponents: int, prior: float | None) -> np.ndarray:
    """Weight of every dimension: log-normal around a guess, 1 without one.

    Parameters
    ----------
    n_exponents : int
        Number of dimensions that come into question, from 1.
    prior : float or None
        The guess.

    Returns
    -------
    weights : ndarray of shape (n_exponents,)
    """
    if prior is None:
        return np.ones(n_exponents)
    distance = np.log(np.arange(1, n_exponents + 1) / prior) / PRIOR_WIDTH
    return np.exp(-0.5 * distance**2)


def _scores(exponents: np.ndarray, prior: float | None, whole: bool) -> np.ndarray:
    """Weighted gap behind every exponent; behind the last of all, what makes up for no gap."""
    gaps = spectral_gaps(exponents)
    gaps[:, -1] = FULL if whole else 0.0
    return gaps * prior_weights(gaps.shape[1], prior if whole else None)


def pointwise_dimension(
    exponents: np.ndarray, prior: float | None = None, *, whole: bool = True
) -> np.ndarray:
    """Number of exponents above the largest gap, at each point; k where there is no gap.

    The floor itself is not appended as one more exponent: half-learned normal directions stay
    normal ones, so that codimension 1 comes out as D - 1, and full-dimensional data as D.

    Parameters
    ----------
    exponents : ndarray of shape (n, k)
        Rates in descending order, normal to the data -1.
    prior : float, optional
        Guess of the dimension that weighs the gaps.
    whole : bool, default=True
        Whether there are no more directions than exponents. Else these are the leading ones: that
        all of them are tangent is no answer, and the gaps speak for themselves.

    Returns
    -------
    dimension : ndarray of shape (n,), int
        Between 1 and k.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.dimension import pointwise_dimension
    >>> pointwise_dimension(np.array([[0.0, -0.1, -0.9], [0.0, -0.01, -0.02]]))
    array([2, 3])
    """
    return 1 + _scores(exponents, prior, whole).argmax(axis=1)


def clarity(exponents: np.ndarray) -> float:
    """Mean over points of the largest gap; see `spectral_gaps`.

    Parameters
    ----------
    exponents : ndarray of shape (n, k)

    Returns
    -------
    clarity : float
        From 0 to 1.
    """
    return float(spectral_gaps(exponents)[:, :-1].max(axis=1, initial=0.0).mean())


def estimate_dimension(
    exponents: np.ndarray,
    prior: float | None = None,
    *,
    refuted: bool = False,
    whole: bool = True,
) -> DimensionEstimate:
    """Dimension of the whole sample.

    Where gaps are clear, the most frequent pointwise dimension: a vote, so that outliers cannot
    move it; a tie goes to the larger mean gap. Where they are small, the largest mean gap weighted
    by the prior; where there are none, the prior.

    Parameters
    ----------
    exponents : ndarray of shape (n, k)
        Rates in descending order, normal to the data -1.
    prior : float, optional
        Guess of the dimension, for example from `alignlearn.neighbors`; not used where gaps are
        clear, and where `whole` is False only if there are none.
    refuted : bool, default=False
        Whether the exponents are known to be wrong: the prior is the answer, whatever they say.
    whole : bool, default=True
        As of `pointwise_dimension`.

    Returns
    -------
    DimensionEstimate
    """
    largest = 0.0 if refuted else clarity(exponents)
    scores = _scores(exponents, None, whole)
    k, votes = scores.shape[1], 1 + scores.argmax(axis=1)
    counts = np.bincount(votes, minlength=k + 1)[1:]
    dimension = 1 + int(np.lexsort((scores.mean(axis=0), counts))[-1])
    agreed = largest >= FULL and counts.max() >= AGREEMENT * len(votes)
    clear = largest >= CLEAR or agreed
    if not clear and prior is not None:
        if not refuted:
            scores = _scores(exponents, prior, whole)
            votes = 1 + scores.argmax(axis=1)
        best = scores.mean(axis=0).argmax() + 1 if largest >= FAINT else round(prior)
        dimension = int(np.clip(best, 1, k))
    return DimensionEstimate(
        dimension=dimension,
        confidence=float(np.mean(votes == dimension)),
        gap=float(spectral_gaps(exponents)[:, dimension - 1].mean()),
        resolved=bool(largest >= FULL),
        clear=bool(clear),
    )


def local_extent(exponents: np.ndarray, s_min: float, s_max: float) -> np.ndarray:
    """How far the data reach in each direction, in the units of s: a thickness or noise level.

    Inverts the closed form for Gaussian data, ``sigma^2 = (c + s_min^2) / (c + s_max^2)`` for the
    probability-flow ODE (its square for reverse diffusion, which the rates already divide out);
    ``sqrt(c)`` is returned. For other data a monotone re-labelling.

    Parameters
    ----------
    exponents : ndarray
        Rates over the window from `s_max` to `s_min`.
    s_min, s_max : float
        The window of noise levels.

    Returns
    -------
    extent : ndarray
        Same shape; 0 at or below the floor, infinity at rate 0 and above.
    """
    q = np.exp(2 * np.asarray(exponents, dtype=np.float64) * np.log(s_max / s_min))
    with np.errstate(divide="ignore"):
        c = (q * s_max**2 - s_min**2) / np.where(q < 1, 1 - q, 0.0)
    return np.sqrt(np.maximum(c, 0.0))
