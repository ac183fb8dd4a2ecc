"""The neighbour graph of a manifold, without short cuts.

Which neighbours are true ones is asked of the tangent spaces, of the density and of the graph
itself: an edge that leaves the tangent space, crosses a valley of the density, or has ends that
share next to no neighbours, is a short cut and is cut. A single one left can fold all coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from alignlearn._arrays import row_chunks

# Sine of the angle between an edge and the tangent spaces at its ends from which it is a short cut.
STEEP = 0.7

# Neighbours that the ends of an edge share at least. On a surface near points share many of theirs;
# the ends of a bridge over a gap only what else crosses it.
SHARED = 3

# Share of the edges to nearest neighbours that each rule cuts at most, at first: where more of them
# look like short cuts, as in data without a clear manifold, only the worst are.
_CUT = 0.1

# Depth of a valley of the log density, below both ends of an edge, from which it is one.
VALLEY = 0.04

# Depth of the valley between the ends of edges: (points a, points b) -> (n_edges,), negative.
Valley = Callable[[np.ndarray, np.ndarray], np.ndarray]


def true_neighbors(x, Q, k, valley) -> tuple[np.ndarray, float, float]:
    """Each point and its k nearest neighbours along the manifold (m, k + 1), padded with itself.

    And the angle and the depth from which an edge was cut.
    """
    m = len(x)
    k = min(k, m - 1)
    distances, near = nearest(x, x, min(m, 2 * k + 1))
    sines, depth = np.empty(near.shape), np.empty(near.shape)
    for rows in displacement_chunks(near, x.shape[1]):
        delta = x[near[rows]] - x[rows, None]
        sines[rows] = np.maximum(
            steepness(tangent_coordinates(Q[rows, None], delta), distances[rows]),
            steepness(tangent_coordinates(Q[near[rows]], delta), distances[rows]),
        )
        depth[rows] = depths(valley, x[rows], x, near[rows])
    steep = max(STEEP, float(np.quantile(sines[:, 1 : k + 1], 1 - _CUT)))
    deep = max(VALLEY, -float(np.quantile(depth[:, 1 : k + 1], _CUT)))
    good = (sines <= steep) & (depth >= -deep) & (near != np.arange(m)[:, None])
    return _supported(near, good, k), steep, deep


def _supported(near, good, k) -> np.ndarray:
    """Edges to the k nearest good points whose ends share neighbours, as the `edges` above.

    Shared in the graph of the edges that are left, its truss (Cohen 2008), so that edges over the
    same gap do not hold each other up.
    """
    few = None
    while True:
        edges = _nearest_good(near, good, k)
        shared = _n_shared(edges, near)
        if few is None:
            few = min(SHARED, float(np.quantile(shared[:, 1 : k + 1], _CUT)))
        weak = good & (shared < few)
        if not weak.any():
            return edges
        good = good & ~weak


def _nearest_good(near, good, k) -> np.ndarray:
    """Each point and its k nearest good ones (m, k + 1), padded with itself."""
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    own = np.arange(len(near))[:, None]
    return np.hstack([own, np.take_along_axis(np.where(good, near, own), order, axis=1)])


def _n_shared(edges, near) -> np.ndarray:
    """Number of neighbours, either way, that each point shares with each of those near it."""
    m = len(edges)
    start, column = np.nonzero(without_padding(edges)[:, 1:])
    graph = sparse.csr_matrix((np.ones(len(start), int), (start, edges[start, column + 1])), (m, m))
    graph = (graph + graph.T > 0).astype(int)
    return np.asarray((graph @ graph)[np.arange(m)[:, None], near].todense())


def without_padding(edges: np.ndarray) -> np.ndarray:
    """Mask (m, k + 1) of the edges that are no repetition of the point itself."""
    real = edges != edges[:, :1]
    real[:, 0] = True
    return real


def components(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected component of every point and the sizes of all, the largest first."""
    m, k = edges.shape
    graph = sparse.csr_matrix((np.ones(m * k), (np.repeat(edges[:, 0], k), edges.ravel())), (m, m))
    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[labels], sizes[order]


def nearest(points, x, k) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n, k) of the nearest points."""
    from sklearn.neighbors import NearestNeighbors  # late: slow to import

    return NearestNeighbors(n_neighbors=min(k, len(points))).fit(points).kneighbors(x)


def displacement_chunks(near: np.ndarray, D: int) -> Iterator[slice]:
    """Rows whose displacements to the points near them, and their frames, fit in memory."""
    return row_chunks(len(near), 8 * near.shape[1] * D)


def depths(valley: Valley, x, points, near) -> np.ndarray:
    """Valleys (n, k) on the way from points x to those near them."""
    a = np.repeat(x, near.shape[1], axis=0)
    return valley(a, points[near.ravel()]).reshape(near.shape)


def tangent_coordinates(Q, delta) -> np.ndarray:
    """``Q^T delta`` for frames Q (n, 1 or k, D, d) and displacements (n, k, D): (n, k, d)."""
    return np.einsum("nkfd,nkf->nkd", np.broadcast_to(Q, (*delta.shape, Q.shape[-1])), delta)


def steepness(local, distances) -> np.ndarray:
    """Sine of the angle between displacements and the tangent space, smaller for tiny ones.

    Below a tenth of the farthest one a displacement has no direction that means anything.
    """
    normal = np.sqrt(np.maximum(distances**2 - (local**2).sum(axis=2), 0.0))
    reference = np.maximum(distances, 0.1 * distances.max(axis=1, keepdims=True))
    return np.divide(normal, reference, out=np.zeros_like(normal), where=reference > 0)


def stretched(local, distances) -> np.ndarray:
    """Tangent coordinates as long as the displacement: an arc is nearer to its chord than that."""
    length = np.linalg.norm(local, axis=2)
    factor = np.divide(distances, length, out=np.ones_like(length), where=length > 0)
    return local * np.minimum(factor, 1 / np.sqrt(1 - STEEP**2))[:, :, None]
