"""From Lyapunov exponents to an intrinsic dimension. Pure functions on numpy arrays.

Exponents are rates: a direction normal to the data contracts at rate -1 (the *floor*), a tangent
one stays near 0. The intrinsic dimension is the number of rates above the largest gap, on a scale
that grows like the logarithm of the rate: that a direction contracts at all says more than how far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# No step this large, and no rate this low: nothing has contracted, no direction is told apart.
MIN_STEP, MIN_CONTRACTION = 0.12, -0.25

# Rates closer to 0 than this are equally tangent: where the logarithmic scale begins.
TANGENT = 0.1


class DimensionEstimate(NamedTuple):
    """Dimension of a sample, with what speaks for it.

    Attributes
    ----------
    dimension : int
        The most frequent pointwise dimension.
    confidence : float
        Share of the points whose own dimension is that one.
    gap : float
        Mean over points of the gap behind that exponent, from 0 to 1.
    resolved : bool
        False if no direction contracts: the data are full-dimensional at the scales looked at, or
        the model has not learned them. The exponents alone cannot tell these two apart.
    """

    dimension: int
    confidence: float
    gap: float
    resolved: bool


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

    Differences of ``log(1 + |rate| / 0.1) / log 11``, which runs from 0 at rate 0 to 1 at the
    floor. Differently contracted normal directions thus make smaller gaps than the first one.

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


def is_resolved(exponents: np.ndarray) -> np.ndarray:
    """Whether any direction has contracted at each point, (n,) bool."""
    rates = _clamped(exponents)
    largest_step = -np.diff(rates, axis=1).min(axis=1, initial=0.0)
    return (largest_step >= MIN_STEP) | (rates[:, -1] <= MIN_CONTRACTION)


def pointwise_dimension(exponents: np.ndarray) -> np.ndarray:
    """Number of exponents above the largest gap, at each point; k where nothing has contracted.

    The floor itself is not appended as one more exponent: half-learned normal directions stay
    normal ones, so that codimension 1 comes out as D - 1, and full-dimensional data as D.

    Parameters
    ----------
    exponents : ndarray of shape (n, k)
        Rates in descending order, normal to the data -1.

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
    gaps = spectral_gaps(exponents)
    k = gaps.shape[1]
    if k == 1:
        return np.ones(len(gaps), dtype=int)
    return np.where(is_resolved(exponents), 1 + gaps[:, :-1].argmax(axis=1), k)


def estimate_dimension(exponents: np.ndarray) -> DimensionEstimate:
    """Dimension of the whole sample: the most frequent pointwise one.

    A vote, so that outliers cannot move it; a tie goes to the dimension with the larger gap.

    Parameters
    ----------
    exponents : ndarray of shape (n, k)
        Rates in descending order, normal to the data -1.

    Returns
    -------
    DimensionEstimate
    """
    exponents = _check_exponents(exponents)
    votes = pointwise_dimension(exponents)
    mean_gaps = spectral_gaps(exponents).mean(axis=0)
    counts = np.bincount(votes, minlength=exponents.shape[1] + 1)[1:]
    dimension = 1 + int(np.lexsort((mean_gaps, counts))[-1])
    return DimensionEstimate(
        dimension=dimension,
        confidence=float(np.mean(votes == dimension)),
        gap=float(mean_gaps[dimension - 1]),
        resolved=bool(np.mean(is_resolved(exponents)) >= 0.5),
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
