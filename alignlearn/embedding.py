"""Global coordinates from tangent spaces: one sparse eigenproblem, and back.

Every point sees its neighbours in coordinates of its own tangent space. Global coordinates are the
functions that are as nearly affine as can be in all of these at once (Zhang & Zha 2004, local
tangent space alignment; the penalty is a Hessian energy, Donoho & Grimes 2003). There the tangent
spaces come from local PCA; here they are given, so that few neighbours suffice. Which neighbours
are true ones, `tangent_graph` says. With fewer coordinates than dimensions, and with more where
that keeps the lengths of its edges better, coordinates are those of `geodesics`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize, sparse
from scipy.sparse.linalg import LinearOperator, eigsh, splu

from alignlearn.geodesics import edge_stress, geodesic_coordinates
from alignlearn.tangent_graph import (
    Valley,
    components,
    depths,
    displacement_chunks,
    nearest,
    steepness,
    stretched,
    tangent_coordinates,
    true_neighbors,
    without_padding,
)

__all__ = ["Chart", "align_tangent_spaces", "default_n_neighbors"]

# One chart is computed at a time: threads that ask for the same one wait for it.
_CHART_LOCK = threading.RLock()

# Up to this dimension a factorisation of the alignment matrix stays sparse.
_SPARSE_DIMENSION = 3

# Functions beyond the first d among which those that keep lengths are looked for, and as many of
# the principal components of the points: nothing keeps lengths better on a part that is flat, and a
# bent one is approached from both sides.
_SPARE = 4

# Steps of that search at most: data that lie near no surface have no minimum worth more.
_MAX_ITER = 500

# Space between components, as a share of their mean extent.
_SPACING = 0.25


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
        where the way there becomes a short cut, so that nothing jumps within a piece. There the
        second term falls to zero as well.
        """
        k = self.neighbors.shape[1]
        distances, near = nearest(self.points, x, k)
        parts = [np.empty((0, self.coordinates.shape[1]))]
        for rows in displacement_chunks(near, x.shape[1]):
            parts.append(self._transform_rows(x[rows], distances[rows], near[rows], valley))
        return np.concatenate(parts)

    def _transform_rows(self, x, distances, near, valley) -> np.ndarray:
        local = tangent_coordinates(self.tangents[near], x[:, None] - self.points[near])
        depth = depths(valley, x, self.points, near)
        steep = np.minimum(steepness(local, distances) / self.steep, 1)
        trust = (1 - steep**2) * np.clip(1 + depth / self.deep, 0, 1)
        rows, first = np.arange(len(x)), (trust > 0).argmax(axis=1)
        trust[rows, first] = np.maximum(trust[rows, first], 1e-12)  # the nearest, if none is good
        trust *= self.component[near] == self.component[near[rows, first]][:, None]
        # Where the way leaves the tangent space, the derivative along it says little of the way.
        local = stretched(local, distances) * (1 - steep**3)[:, :, None]
        said = self.coordinates[near] + np.einsum("nkcd,nkd->nkc", self.gradients[near], local)
        return _weighted_mean(said, distances, trust)

    def inverse_transform(self, y: np.ndarray) -> np.ndarray:
        """Points (n, D) near the manifold with given coordinates, to second order in the spacing.

        A mean of what the nearest landmark and its neighbours say, ``x_j + Q_j J_j^+ (y - y_j)``:
        landmarks that are near in the coordinates alone have no say.
        """
        first = nearest(self.coordinates, y, 1)[1][:, 0]
        near = self.neighbors[first]
        inverse = np.linalg.pinv(self.gradients, rcond=1e-6)
        parts = [np.empty((0, self.points.shape[1]))]
        for rows in displacement_chunks(near, self.points.shape[1]):
            parts.append(self._invert_rows(y[rows], near[rows], inverse))
        return np.concatenate(parts)

    def _invert_rows(self, y, near, inverse) -> np.ndarray:
        step = y[:, None] - self.coordinates[near]
        local = np.einsum("nkdc,nkc->nkd", inverse[near], step)
        said = self.points[near] + np.einsum("nkfd,nkd->nkf", self.tangents[near], local)
        return _weighted_mean(said, np.linalg.norm(step, axis=2), without_padding(near))


class LazyChart:
    """Chart of the training points, computed when first asked for: not every user needs it.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        The training points.
    whole : bool
        Whether X is all of them; else just the landmarks, as the others did not fit into memory.
    chart : Chart or None
        Coordinates of landmarks among them, once computed.
    embedding : ndarray of shape (n_samples, n_components) or None
        Coordinates of all of them, once computed.
    """

    chart: Chart | None = None
    embedding: np.ndarray | None = None
    whole: bool = True  # also in files of older versions

    def __init__(self, X: np.ndarray, *, whole: bool = True) -> None:
        self.X, self.whole = X, whole

    def get(self, compute: Callable[[np.ndarray], Chart]) -> Chart:
        """The chart, computed from X by the first who asks."""
        with _CHART_LOCK:
            if self.chart is None:
                self.chart = compute(self.X)
            return self.chart


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
    turned to their principal axes. Fewer than d components are those that keep the distances along
    the edges best, which on a surface that can be laid flat are the leading ones of d. More, which
    closed surfaces such as a sphere need, are either those or the most nearly affine functions,
    whichever keep the lengths of the edges better.
    Components of the manifold that no edge connects are laid side by side along the first axis.

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

    Raises
    ------
    ValueError
        If there are too few neighbours to tell an affine function from any other.

    Warns
    -----
    UserWarning
        If the manifold falls into several components.
    """
    d = tangents.shape[2]
    if n_neighbors <= d <= n_components and n_neighbors < len(points) - 1:
        raise ValueError(
            f"n_neighbors={n_neighbors} is too few for a manifold of dimension {d}: every function "
            f"is affine in so few neighbours. Take at least {d + 2}, or None for the default, "
            f"{default_n_neighbors(d)}."
        )
    edges, steep, deep = true_neighbors(points, tangents, n_neighbors, valley)
    component, sizes = components(edges)
    least = max(d + 2, n_components + 2, len(points) // 100)
    sizes = sizes[sizes >= min(least, sizes[0])]
    if len(sizes) > 1:
        warnings.warn(
            f"the data fall into {len(sizes)} pieces that no edge between neighbours connects, of "
            f"{', '.join(map(str, sizes))} points: each has coordinates of "
            "its own, and they are laid side by side along the first axis. Distances between "
            "pieces mean nothing. A larger n_neighbors may connect them.",
            UserWarning,
            stacklevel=2,
        )
    kept = np.flatnonzero(component < len(sizes))  # the largest come first
    position = np.full(len(points), -1)
    position[kept] = np.arange(len(kept))
    edges, points, tangents = position[edges[kept]], points[kept], tangents[kept]
    component, weights = component[kept], weights[kept]
    y = np.zeros((len(kept), n_components))
    J = np.zeros((len(kept), n_components, d))
    for label in range(len(sizes)):
        rows = np.flatnonzero(component == label)
        inner = np.searchsorted(rows, edges[rows])
        y[rows], J[rows] = _align(points[rows], tangents[rows], inner, weights[rows], n_components)
    _lay_side_by_side(y[:, 0], component)
    return Chart(points, tangents, y, J, component, edges, steep, deep)


def _lay_side_by_side(first: np.ndarray, component: np.ndarray) -> None:
    """Shift the first coordinate (m,) of every component but the largest, in place."""
    parts = [component == label for label in range(component.max() + 1)]
    right = first[parts[0]].max()
    for part in parts[1:]:
        extent = np.ptp(first[part]) + np.ptp(first[parts[0]])
        first[part] += right + 0.5 * _SPACING * extent - first[part].min()
        right = first[part].max()


def _align(x, Q, edges, weights, n_components) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (m, c) and their gradients (m, c, d) of one connected component."""
    m, d = len(x), Q.shape[2]
    distances, local = np.empty(edges.shape), np.empty((*edges.shape, d))
    for rows in displacement_chunks(edges, x.shape[1]):
        delta = x[edges[rows]] - x[rows, None]
        distances[rows] = np.linalg.norm(delta, axis=2)
        local[rows] = tangent_coordinates(Q[rows, None], delta)
    if not distances.any():  # one point, many times
        return np.zeros((m, n_components)), np.zeros((m, n_components, d))
    local = stretched(local, distances)
    real = without_padding(edges)
    size = np.sqrt((distances**2).sum(axis=1) / real.sum(axis=1))[:, None, None]
    size = np.where(size > 0, size, 1.0)  # others may know a point that knows nobody
    A = np.concatenate([np.ones((*edges.shape, 1)), local / size], axis=2) * real[:, :, None]
    inverse = np.linalg.pinv(A, rcond=1e-8)

    def gradients(y: np.ndarray) -> np.ndarray:
        return np.einsum("nak,nkc->nca", inverse[:, 1:] / size, y[edges])

    lengths = np.linalg.norm(local, axis=2)
    if n_components < d:
        return _keeping_distances(edges, lengths, gradients, weights, n_components, d)
    blocks = (real[:, :, None] * np.eye(edges.shape[1]) - A @ inverse) * weights[:, None, None]
    affine = _nearly_affine(x, edges, blocks, gradients, weights, n_components, d)
    if n_components == d:
        return affine
    geodesic = _keeping_distances(edges, lengths, gradients, weights, n_components, d)
    return min(affine, geodesic, key=lambda found: edge_stress(found[0], edges, lengths))


def _keeping_distances(edges, lengths, gradients, weights, n_components, d):
    """Coordinates that keep the distances along edges best, to scale, and their gradients."""
    y = geodesic_coordinates(edges, lengths, n_components)
    y = y * _sign(y)
    J = gradients(y)
    # A path along edges is longer than the straight way, by the same share everywhere.
    stretch = np.average((J**2).sum(axis=(1, 2)), weights=weights) / min(n_components, d)
    scale = 1 / np.sqrt(stretch) if stretch > 0 else 1.0
    return scale * y, scale * J


def _nearly_affine(x, edges, blocks, gradients, weights, n_components, d):
    """Coordinates and gradients of the functions that are the most affine in all tangent spaces.

    Of d coordinates those combinations of some more functions that keep lengths.
    """
    c = n_components if n_components > d else d + _SPARE
    y = _smallest_eigenvectors(edges, blocks, min(c, len(x) - 1), d)
    keep_lengths = n_components == d < y.shape[1]
    if keep_lengths:
        y = np.hstack([y, _principal_axes(x, d + _SPARE)])
    J = gradients(y)
    if keep_lengths and J.any():
        A = _most_isometric(J, weights)
        y, J = y @ A, np.einsum("pc,npa->nca", A, J)
    return _in_data_units(y, J, weights, n_components)


def _smallest_eigenvectors(edges, blocks, c: int, d: int) -> np.ndarray:
    """The c eigenvectors (m, c) after the constant of the sum of blocks on the edges."""
    m, k = edges.shape
    rows, columns = np.repeat(edges, k, axis=1).ravel(), np.tile(edges, (1, k)).ravel()
    M = sparse.csc_matrix((blocks.ravel(), (rows, columns)), (m, m))
    if m <= 3 * (c + 1) or m <= 200:
        return linalg.eigh(M.toarray(), subset_by_index=(0, c))[1][:, 1:]
    shift = 1e-10 * M.diagonal().mean()
    shifted = M + shift * sparse.identity(m, format="csc")
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


def _principal_axes(x: np.ndarray, p: int) -> np.ndarray:
    """At most p leading principal components (m, c) of points, without those that are rounding."""
    from sklearn.decomposition import PCA  # late: slow to import

    pca = PCA(min(p, *x.shape), random_state=0).set_output(transform="default")
    z = pca.fit_transform(x)
    return z[:, z.std(axis=0) > 1e-6 * z[:, 0].std()]


def _most_isometric(J: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Combinations A (p, d) of p > d functions, gradients J (m, p, d), that keep lengths best.

    Where data are long, thin and noisy, the width may have more energy than a bend of the length.
    It is not found among the first d functions then, or only mixed with the bend; but it is the
    one that keeps lengths everywhere: ``mean |A^T J J^T A - I|^2`` is least (the loss of
    Riemannian relaxation, McQueen, Meila & Perrault-Joncas 2016, within few functions).
    """
    m, p, d = J.shape
    w = weights / weights.sum()
    J = J.swapaxes(1, 2).reshape(m * d, p)  # a product of matrices for all points at once
    rows = np.repeat(w, d)[:, None]
    scale = np.sqrt((rows * J**2).sum(axis=0) / d)
    scale = np.where(scale > 0, scale, 1.0)  # of a function without gradient
    J = J / scale
    mean = J.T @ (rows * J)  # of the dual metric (p, p)

    def distortion(a: np.ndarray) -> tuple[float, np.ndarray]:
        A = a.reshape(p, d)
        B = (J @ A).reshape(m, d, d)
        excess = B.swapaxes(1, 2) @ B - np.eye(d)
        gradient = 4 * J.T @ (w[:, None, None] * (B @ excess)).reshape(m * d, d)
        return float(w @ (excess**2).sum(axis=(1, 2))), gradient.ravel()

    def whitened(chosen: list[int]) -> np.ndarray:
        A = np.zeros((p, d))
        values, vectors = np.linalg.eigh(mean[np.ix_(chosen, chosen)])
        inverse_root = (vectors / np.sqrt(np.maximum(values, 1e-6 * values[-1]))) @ vectors.T
        A[chosen, : len(chosen)] = inverse_root
        return A.ravel()

    greedy = [0]
    while len(greedy) < d:  # the next is the one that keeps lengths best beside those chosen
        rest = [j for j in range(p) if j not in greedy]
        greedy.append(min(rest, key=lambda j: distortion(whitened([*greedy, j]))[0]))
    found = [
        optimize.minimize(
            distortion, whitened(start), jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITER}
        )
        for start in (list(range(d)), greedy)
    ]
    return min(found, key=lambda r: r.fun).x.reshape(p, d) / scale[:, None]


def _sign(y: np.ndarray) -> np.ndarray:
    """Signs (c,) with which the largest number of every column of y (m, c) is positive."""
    return np.where(y[np.abs(y).argmax(axis=0), np.arange(y.shape[1])] < 0, -1.0, 1.0)


def _in_data_units(y, J, weights, n_components) -> tuple[np.ndarray, np.ndarray]:
    """The linear map of the coordinates that keeps lengths in the mean, then principal axes.

    ``L`` with ``L <J J^T> L^T = min(1, d / c) I``; on a sphere, where each of three coordinates
    sees two thirds of a tangent plane, this is the embedding itself.
    """
    c, d = J.shape[1:]
    metric = np.einsum("n,nca,nea->ce", weights / weights.sum(), J, J)
    values, vectors = np.linalg.eigh(metric)
    # Where no neighbour lies in a tangent space, there are no lengths to keep.
    values = np.maximum(values, 1e-12 * values.max()) if values.max() > 0 else np.ones(c)
    L = np.sqrt(min(1.0, d / c)) * (vectors / np.sqrt(values)) @ vectors.T
    y = (y - y.mean(axis=0)) @ L.T
    axes = np.linalg.svd(y, full_matrices=False)[2][:n_components]
    y = y @ axes.T
    sign = _sign(y)
    y, turn = y * sign, sign[:, None] * axes @ L
    padding = n_components - y.shape[1]
    y = np.pad(y, ((0, 0), (0, padding)))
    return y, np.pad(np.einsum("ec,nca->nea", turn, J), ((0, 0), (0, padding), (0, 0)))


def _weighted_mean(said, distances, trust) -> np.ndarray:
    """Mean (n, f) of predictions (n, k, f), weights falling to zero at the farthest one."""
    reach = distances.max(axis=1, keepdims=True)
    ratio = np.divide(distances, reach, out=np.zeros_like(distances), where=reach > 0)
    weights = trust * ((1 - ratio**2) ** 2 + 1e-12)
    return np.einsum("nk,nkf->nf", weights / weights.sum(axis=1, keepdims=True), said)
