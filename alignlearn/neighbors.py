"""Intrinsic dimension from distances between neighbours, calibrated by samples of a model.

What is left to say where a model tells no direction from another. Distances to neighbours are a
biased measure of dimension, by the edges and the density of the data and by the size of the sample;
a full-dimensional sample of the same size from the model has the same bias.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

N_NEIGHBORS = 10

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
