"""Intrinsic dimension from distances between neighbours, calibrated by samples of a model.

What is left to say where a model tells no direction from another, and what a model that tells them
apart must agree with. Distances to neighbours are a biased measure of dimension, by the edges and
the density of the data and by the size of the sample; a full-dimensional sample of the same size
from the model has the same bias. Noise raises it only.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincinv
from sklearn.utils import check_random_state

N_NEIGHBORS = 10

# Neighbours that must see what the model says of their scale: fewer, since only the closest do.
N_CLOSEST = 5

# Above this share of the full dimension the calibration cannot tell the two apart.
ABOUT_FULL = 0.85


def neighbor_dimension(X: np.ndarray, n_neighbors: int = N_NEIGHBORS) -> float:
    """Maximum likelihood estimate from the distances to the neighbours of every row.

    The inverse of the mean of ``log(T_k / T_j)`` over rows and neighbours j < k (Levina & Bickel
    2004, averaged as MacKay & Ghahramani 2005). Rows that coincide are counted once.

    Parameters
    ----------
    X : ndarray of shape (n, D)
    n_neighbors : int, default=10
        Number k, less where there are fewer rows.

    Returns
    -------
    dimension : float
        NaN with fewer than four different rows.
    """
    from sklearn.neighbors import NearestNeighbors  # late: half of what importing us would cost

    X = np.unique(X, axis=0)
    k = min(n_neighbors, len(X) - 1)
    if k < 3:
        return float("nan")
    distances = NearestNeighbors(n_neighbors=k).fit(X).kneighbors()[0]
    distances = np.maximum(distances, np.finfo(float).tiny)
    ratios = np.log(distances[:, -1:] / distances[:, :-1])
    return float((k - 1) / max(ratios.sum(axis=1).mean(), np.finfo(float).tiny))


def calibrated_dimension(X: np.ndarray, reference: np.ndarray, random_state=None) -> float:
    """Dimension m at which m-dimensional shadows of a reference look like X to its neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, D)
        The data.
    reference : ndarray of shape (n, r)
        A full-dimensional sample of the same size and shape, in coordinates of the span of X.
    random_state : int, RandomState instance or None
        Draws the subspaces onto which the reference is projected.

    Returns
    -------
    dimension : float
        Between 1 and r; r if X looks like at least `ABOUT_FULL` of it.
    """
    r = reference.shape[1]
    target = neighbor_dimension(X)
    rotation = np.linalg.qr(check_random_state(random_state).normal(size=(r, r))).Q
    shadows = reference @ rotation
    low, high = 1, r
    below, above = 0.0, neighbor_dimension(reference)
    while high - low > 1:
        middle = (low + high) // 2
        found = neighbor_dimension(shadows[:, :middle])
        if found < target:
            low, below = middle, found
        else:
            high, above = middle, found
    share = np.clip((target - below) / max(above - below, 1e-12), 0.0, 1.0)
    dimension = low + share * (high - low)
    return float(r if not dimension < ABOUT_FULL * r else dimension)


def contradiction(X: np.ndarray, queries: np.ndarray, extents: np.ndarray) -> float | None:
    """Dimension that the closest neighbours see, if directions of the model must be wrong.

    A direction in which the data reach farther than to the neighbours is one that these must see.
    Noise is no exception: at distances below its size it adds dimensions, and never takes any. So
    where the neighbours see clearly fewer, the model has not learned the data at that scale.

    The number of directions reaching farther than to the k-th neighbour is the *claim*; queries
    with the most frequent one are looked at, so that pieces do not mix. The sum of ``log(T_k /
    T_j)`` over neighbours j < k is Gamma distributed with shape k - 1 and scale 1 / d (Levina &
    Bickel 2004); its median is deaf to a few rows that are repeated almost exactly. Allowed for are
    a standard error and the edges, which are within the reach of a neighbourhood at about
    ``(k / n)^(1 / d)`` of the points.

    Parameters
    ----------
    X : ndarray of shape (n, D)
        The data.
    queries : ndarray of shape (m, D)
        Rows like those of X, or among them.
    extents : ndarray of shape (m, r)
        How far the data reach in each direction at each query, according to the model.

    Returns
    -------
    seen : float or None
        None if the neighbours see what they should up to half a dimension, or cannot tell.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.neighbors import contradiction
    >>> X = np.random.default_rng(0).uniform(size=(1000, 1)) * [1, 0, 0]  # a line
    >>> print(contradiction(X, X, np.tile([0.5, 0.0, 0.0], (1000, 1))))
    None
    >>> round(contradiction(X, X, np.tile([0.5, 0.1, 0.0], (1000, 1))), 1)
    1.0
    """
    from sklearn.neighbors import NearestNeighbors

    X, k = np.unique(X, axis=0), N_CLOSEST
    if len(X) <= k + 1:
        return None
    distances, nearest = NearestNeighbors(n_neighbors=k + 1).fit(X).kneighbors(queries)
    itself = (X[nearest[:, 0]] == queries).all(axis=1)  # its distance may be rounded away from 0
    distances = np.where(itself[:, None], distances[:, 1:], distances[:, :-1])
    distances = np.maximum(distances, np.finfo(float).tiny)
    thick = (extents > distances[:, -1:]).sum(axis=1)
    claim = int(np.bincount(thick).argmax())
    distances = distances[thick == claim]
    logs = np.median(np.log(distances[:, -1:] / distances[:, :-1]).sum(axis=1))
    expected = gammaincinv(k - 1, 0.5)
    seen = float(expected / max(logs, np.finfo(float).tiny))
    allowed = (1 + 1 / np.sqrt((k - 1) * len(distances))) / (1 - (k / len(X)) ** (1 / seen))
    return seen if seen * allowed < claim - 0.5 else None
