"""Global coordinates from tangent spaces: one sparse eigenproblem, and back.

Every point sees its neighbours in coordinates of its own tangent space. Global coordinates are the
functions that are as nearly affine as can be in all of these at once (Zhang & Zha 2004, local
tangent space alignment; the penalty is a Hessian energy, Donoho & Grimes 2003). There the tangent
spaces come from local PCA; here they are given, so that few neighbours suffice. Which neighbours
are true ones is asked of the tangent spaces and of the density: an edge that leaves the tangent
space, or crosses a valley of the density, is a short cut and is cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh, splu
from sklearn.neighbors import NearestNeighbors

# Sine of the angle between an edge and the tangent spaces at its ends from which it is a short cut.
STEEP = 0.7

# Share of the edges to nearest neighbours that either rule cuts at most: where more of them look
# like short cuts, as in data without a clear manifold, only the worst are.
_CUT = 0.1

# Depth of a valley of the log density, below both ends of an edge, from which it is one.
VALLEY = 0.04

# Up to this dimension a factorisation of the alignment matrix stays sparse.
_SPARSE_DIMENSION = 3

# Space between components, as a share of their mean extent.
_SPACING = 0.25

# Depth of the valley between the ends of edges: (points a, points b) -> (n_edges,), negative.
Valley = Callable[[np.ndarray, np.ndarray], np.ndarray]


def default_n_neighbors(dimension: int) -> int:
    """Neighbours of a point: enough for a gradient and for most of a Hessian.

    Parameters
    ----------
    dimension : int
        Dimension d of the manifold.

    Returns
    -------
    n_neighbors : int
        ``10 + 2 d``.
    """
    return 10 + 2 * dimension


@dataclass(frozen=True)
class Chart:
    """Coordinates of landmarks of a manifold, with what carries them to other points.

    Attributes
    ----------
    points : ndarray of shape (m, D)
        Landmarks.
    tangents : ndarray of shape (m, D, d)
        Orthonormal tangent vectors there.
    coordinates : ndarray of shape (m, c)
        Their global coordinates, in the units of the points.
    gradients : ndarray of shape (m, c, d)
        Derivative of the coordinates along the tangent vectors.
    component : ndarray of shape (m,), int
        Connected component of each landmark, the largest first.
    neighbors : ndarray of shape (m, k + 1), int
        A landmark and its neighbours in the graph; where there are fewer, itself again.
    steep, deep : float
        Sine of the angle, and depth of the valley, from which an edge is a short cut.
    """

    points: np.ndarray
    tangents: np.ndarray
    coordinates: np.ndarray
    gradients: np.ndarray
    component: np.ndarray
    neighbors: np.ndarray
    steep: float
    deep: float

    def transform(self, x: np.ndarray, valley: Valley) -> np.ndarray:
        """Coordinates (n, c) of points on the manifold: a mean of what near landmarks say.

        Each predicts ``y_j + J_j Q_j^T (x - x_j)``; weights fall to zero at the last neighbour, and
        where the way there becomes a short cut, so that nothing jumps within a piece.
        """
        k = self.neighbors.shape[1]
        distances, near = _nearest(self.points, x, k)
        parts = [np.empty((0, self.coordinates.shape[1]))]
        for rows in _slices(near, x.shape[1]):
            parts.append(self._transform_rows(x[rows], distances[rows], near[rows], valley))
        return np.concatenate(parts)

    def _transform_rows(self, x, distances, near, valley) -> np.ndarray:
        local = _tangent_coordinates(self.tangents[near], x[:, None] - self.points[near])
        depth = _depths(valley, x, self.points, near)
        trust = np.clip(1 - (_steepness(local, distances) / self.steep) ** 2, 0, 1)
        trust *= np.clip(1 + depth / self.deep, 0, 1)
        rows, first = np.arange(len(x)), (trust > 0).argmax(axis=1)
        trust[rows, first] = np.maximum(trust[rows, first], 1e-12)  # the nearest, if none is good
        trust *= self.component[near] == self.component[near[rows, first]][:, None]
        local = _stretched(local, distances)
        said = self.coordinates[near] + np.einsum("nkcd,nkd->nkc", self.gradients[near], local)
        return _weighted_mean(said, distances, trust)

    def inverse_transform(self, y: np.ndarray) -> np.ndarray:
        """Points (n, D) near the manifold with given coordinates, to second order in the spacing.

        A mean of what the nearest landmark and its neighbours say, ``x_j + Q_j J_j^+ (y - y_j)``:
        landmarks that are near in the coordinates alone have no say.
        """
        first = _nearest(self.coordinates, y, 1)[1][:, 0]
        near = self.neighbors[first]
        inverse = np.linalg.pinv(self.gradients, rcond=1e-6)
        parts = [np.empty((0, self.points.shape[1]))]
        for rows in _slices(near, self.points.shape[1]):
            parts.append(self._invert_rows(y[rows], near[rows], inverse))
        return np.concatenate(parts)

    def _invert_rows(self, y, near, inverse) -> np.ndarray:
        step = y[:, None] - self.coordinates[near]
        local = np.einsum("nkdc,nkc->nkd", inverse[near], step)
        said = self.points[near] + np.einsum("nkfd,nkd->nkf", self.tangents[near], local)
        trust = np.ones(near.shape)
        trust[:, 1:] = near[:, 1:] != near[:, :1]
        return _weighted_mean(said, np.linalg.norm(step, axis=2), trust)


def align_tangent_spaces(
    points: np.ndarray,
    tangents: np.ndarray,
    n_components: int,
    n_neighbors: int,
    valley: Valley,
    weights: np.ndarray,
) -> Chart:
    """Chart of a manifold from its points and tangent spaces.

    Coordinates are scaled so that lengths are kept in the mean over points and directions, and
    turned to their principal axes. With fewer than d components the leading ones are kept; with
    more, further nearly affine functions, which closed surfaces such as a sphere need. Components
    of the manifold that no edge connects are laid side by side along the first axis.

    Parameters
    ----------
    points : ndarray of shape (m, D)
    tangents : ndarray of shape (m, D, d)
    n_components : int
        Number c of coordinates.
    n_neighbors : int
        Neighbours of a point.
    valley : callable
        ``(a (e, D), b (e, D)) -> (e,)``: log density in the middle of edges minus that of the lower
        end.
    weights : ndarray of shape (m,)
        Say of each point.

    Returns
    -------
    Chart
        Without points in components too small to be placed.

    Warns
    -----
    UserWarning
        If the manifold falls into several components.
    """
    d = tangents.shape[2]
    edges, steep, deep = _true_neighbors(points, tangents, n_neighbors, valley)
    component, sizes = _components(edges)
    least = min(max(d + 2, n_components + 2, len(points) // 100), sizes[0])
    kept = np.flatnonzero(np.isin(component, np.flatnonzero(sizes >= least)))
    n_large = int(np.sum(sizes >= least))
    if n_large > 1:
        warnings.warn(
            f"the data fall into {n_large} pieces that no edge between neighbours connects, of "
            f"{', '.join(str(size) for size in sizes[:n_large])} points: each has coordinates of "
            "its own, and they are laid side by side along the first axis. Distances between "
            "pieces mean nothing. A larger n_neighbors may connect them.",
            UserWarning,
            stacklevel=2,
        )
    position = np.full(len(points), -1)
    position[kept] = np.arange(len(kept))
    edges, points, tangents = position[edges[kept]], points[kept], tangents[kept]
    component, weights = component[kept], weights[kept]
    y = np.zeros((len(kept), n_components))
    J = np.zeros((len(kept), n_components, d))
    right = 0.0
    for label in range(n_large):
        rows = np.flatnonzero(component == label)
        inner = np.searchsorted(rows, edges[rows])
        own, gradient = _align(points[rows], tangents[rows], inner, weights[rows], n_components)
        if label:
            extent = np.ptp(own[:, 0]) + np.ptp(y[component == 0][:, 0])
            own[:, 0] += right + 0.5 * _SPACING * extent - own[:, 0].min()
        right = own[:, 0].max()
        y[rows], J[rows] = own, gradient
    return Chart(points, tangents, y, J, component, edges, steep, deep)


def _true_neighbors(x, Q, k, valley) -> tuple[np.ndarray, float, float]:
    """Each point and its k nearest neighbours along the manifold (m, k + 1), padded with itself.

    And the angle and the depth from which an edge was cut.
    """
    m = len(x)
    k = min(k, m - 1)
    distances, near = _nearest(x, x, min(m, 2 * k + 1))
    steepness, depth = np.empty(near.shape), np.empty(near.shape)
    for rows in _slices(near, x.shape[1]):
        delta = x[near[rows]] - x[rows, None]
        steepness[rows] = np.maximum(
            _steepness(_tangent_coordinates(Q[rows, None], delta), distances[rows]),
            _steepness(_tangent_coordinates(Q[near[rows]], delta), distances[rows]),
        )
        depth[rows] = _depths(valley, x[rows], x, near[rows])
    steep = max(STEEP, float(np.quantile(steepness[:, 1 : k + 1], 1 - _CUT)))
    deep = max(VALLEY, -float(np.quantile(depth[:, 1 : k + 1], _CUT)))
    good = (steepness <= steep) & (depth >= -deep) & (near != np.arange(m)[:, None])
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    padded = np.where(good, near, np.arange(m)[:, None])
    edges = np.hstack([np.arange(m)[:, None], np.take_along_axis(padded, order, axis=1)])
    return edges, steep, deep


def _components(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected component of every point and the sizes of all, the largest first."""
    m, k = edges.shape
    graph = sparse.csr_matrix((np.ones(m * k), (np.repeat(edges[:, 0], k), edges.ravel())), (m, m))
    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[labels], sizes[order]


def _align(x, Q, edges, weights, n_components) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (m, c) and their gradients (m, c, d) of one connected component."""
    m, d = len(x), Q.shape[2]
    distances, local = np.empty(edges.shape), np.empty((*edges.shape, d))
    for rows in _slices(edges, x.shape[1]):
        delta = x[edges[rows]] - x[rows, None]
        distances[rows] = np.linalg.norm(delta, axis=2)
        local[rows] = _tangent_coordinates(Q[rows, None], delta)
    local = _stretched(local, distances)
    real = np.ones(edges.shape)
    real[:, 1:] = edges[:, 1:] != edges[:, :1]
    size = np.sqrt((distances**2).sum(axis=1) / real.sum(axis=1))[:, None, None]
    size = np.where(size > 0, size, 1.0)  # others may know a point that knows nobody
    A = np.concatenate([np.ones((*edges.shape, 1)), local / size], axis=2) * real[:, :, None]
    inverse = np.linalg.pinv(A, rcond=1e-8)
    residual = real[:, :, None] * np.eye(edges.shape[1]) - A @ inverse
    c = min(max(n_components, d), m - 1)
    y = _smallest_eigenvectors(edges, residual * weights[:, None, None], c, d)
    J = np.einsum("nak,nkc->nca", inverse[:, 1:] / size, y[edges])
    return _in_data_units(y, J, weights, n_components)


def _smallest_eigenvectors(edges, blocks, c: int, d: int) -> np.ndarray:
    """The c eigenvectors (m, c) after the constant of the sum of blocks on the edges."""
    m, k = edges.shape
    rows, columns = np.repeat(edges, k, axis=1).ravel(), np.tile(edges, (1, k)).ravel()
    M = sparse.csc_matrix((blocks.ravel(), (rows, columns)), (m, m))
    shift = 1e-10 * M.diagonal().mean()
    shifted = M + shift * sparse.identity(m, format="csc")
    if m <= 3 * (c + 1) or m <= 200:
        return linalg.eigh(M.toarray(), subset_by_index=(0, c))[1][:, 1:]
    if d <= _SPARSE_DIMENSION:
        solve = splu(shifted, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve
    else:
        factor = linalg.cho_factor(shifted.toarray(), lower=True, overwrite_a=True)

        def solve(b):
            return linalg.cho_solve(factor, b)

    inverse = LinearOperator((m, m), matvec=solve, dtype=np.float64)
    start = np.random.RandomState(0).normal(size=m)
    values, vectors = eigsh(M, c + 1, sigma=-shift, OPinv=inverse, v0=start)
    return vectors[:, np.argsort(values)[1:]]


def _in_data_units(y, J, weights, n_components) -> tuple[np.ndarray, np.ndarray]:
    """The linear map of the coordinates that keeps lengths in the mean, then principal axes.

    ``L`` with ``L <J J^T> L^T = min(1, d / c) I``; on a sphere, where each of three coordinates
    sees two thirds of a tangent plane, this is the embedding itself.
    """
    c, d = J.shape[1:]
    metric = np.einsum("n,nca,nea->ce", weights / weights.sum(), J, J)
    values, vectors = np.linalg.eigh(metric)
    values = np.maximum(values, 1e-12 * values.max())
    L = np.sqrt(min(1.0, d / c)) * (vectors / np.sqrt(values)) @ vectors.T
    y = (y - y.mean(axis=0)) @ L.T
    axes = np.linalg.svd(y, full_matrices=False)[2][:n_components]
    y = y @ axes.T
    sign = np.where(y[np.abs(y).argmax(axis=0), np.arange(y.shape[1])] < 0, -1.0, 1.0)
    y, turn = y * sign, sign[:, None] * axes @ L
    padding = n_components - y.shape[1]
    y = np.pad(y, ((0, 0), (0, padding)))
    return y, np.pad(np.einsum("ec,nca->nea", turn, J), ((0, 0), (0, padding), (0, 0)))


def _nearest(points, x, k) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n, k) of the nearest points."""
    return NearestNeighbors(n_neighbors=min(k, len(points))).fit(points).kneighbors(x)


def _slices(near: np.ndarray, D: int) -> Iterator[slice]:
    """Rows whose displacements to the points near them, and their frames, fit some 100 MB."""
    size = max(1, 2**20 // (near.shape[1] * D) * 4)
    for start in range(0, len(near), size):
        yield slice(start, start + size)


def _depths(valley: Valley, x, points, near) -> np.ndarray:
    """Valleys (n, k) on the way from points x to those near them."""
    a = np.repeat(x, near.shape[1], axis=0)
    return valley(a, points[near.ravel()]).reshape(near.shape)


def _tangent_coordinates(Q, delta) -> np.ndarray:
    """``Q^T delta`` for frames Q (n, 1 or k, D, d) and displacements (n, k, D): (n, k, d)."""
    return np.einsum("nkfd,nkf->nkd", np.broadcast_to(Q, (*delta.shape, Q.shape[-1])), delta)


def _steepness(local, distances) -> np.ndarray:
    """Sine of the angle between displacements and the tangent space, smaller for tiny ones.

    Below a tenth of the farthest one a displacement has no direction that means anything.
    """
    normal = np.sqrt(np.maximum(distances**2 - (local**2).sum(axis=2), 0.0))
    reference = np.maximum(distances, 0.1 * distances.max(axis=1, keepdims=True))
    return np.divide(normal, reference, out=np.zeros_like(normal), where=reference > 0)


def _stretched(local, distances) -> np.ndarray:
    """Tangent coordinates as long as the displacement: an arc is nearer to its chord than that."""
    length = np.linalg.norm(local, axis=2)
    factor = np.divide(distances, length, out=np.ones_like(length), where=length > 0)
    return local * np.minimum(factor, 1 / np.sqrt(1 - STEEP**2))[:, :, None]


def _weighted_mean(said, distances, trust) -> np.ndarray:
    """Mean (n, f) of predictions (n, k, f), weights falling to zero at the farthest one."""
    reach = distances.max(axis=1, keepdims=True)
    ratio = np.divide(distances, reach, out=np.zeros_like(distances), where=reach > 0)
    weights = trust * ((1 - ratio**2) ** 2 + 1e-12)
    return np.einsum("nk,nkf->nf", weights / weights.sum(axis=1, keepdims=True), said)
