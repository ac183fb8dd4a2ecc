"""Coordinates of one piece of a manifold from its tangent spaces: a sparse eigenproblem.

They are the functions that are as nearly affine as can be in the tangent spaces of all points at
once (Zhang & Zha 2004, local tangent space alignment; the penalty is a Hessian energy, Donoho &
Grimes 2003). There the tangent spaces come from local PCA; here they are given, so that few
neighbours suffice. With fewer coordinates than dimensions, and with more where that keeps the
lengths of the edges better, coordinates are those of `geodesics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, optimize, sparse
from scipy.sparse.linalg import LinearOperator, eigsh, splu

from alignlearn.geodesics import edge_stress, geodesic_coordinates
from alignlearn.tangent_graph import (
    displacement_chunks,
    stretched,
    tangent_coordinates,
    without_padding,
)

__all__ = ["align_component"]

# Up to this dimension a factorisation of the alignment matrix stays sparse.
_SPARSE_DIMENSION = 3

# Functions beyond the first d among which those that keep lengths are looked for, and as many of
# the principal components of the points: nothing keeps lengths better on a part that is flat, and a
# bent one is approached from both sides.
_SPARE = 4

# Steps of that search at most: data that lie near no surface have no minimum worth more.
_MAX_ITER = 500


@dataclass(frozen=True)
class _Neighborhoods:
    """What the points of one connected component see of their neighbours.

    Attributes
    ----------
    points : ndarray of shape (m, D)
    edges : ndarray of shape (m, k + 1), int
        A point and its neighbours; where there are fewer, itself again.
    local : ndarray of shape (m, k + 1, d)
        Coordinates of the neighbours in the tangent space of the point.
    size : ndarray of shape (m, 1, 1)
        Root mean square distance to them.
    weights : ndarray of shape (m,)
        Say of each point.
    """

    points: np.ndarray
    edges: np.ndarray
    local: np.ndarray
    size: np.ndarray
    weights: np.ndarray

    @property
    def dimension(self) -> int:
        """Dimension d of the tangent spaces."""
        return self.local.shape[2]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Lengths of the edges (m, k + 1)."""
        return np.linalg.norm(self.local, axis=2)

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Affine functions at the neighbours (m, k + 1, d + 1), and their pseudo-inverses."""
        ones, real = np.ones((*self.edges.shape, 1)), without_padding(self.edges)
        A = np.concatenate([ones, self.local / self.size], axis=2) * real[:, :, None]
        return A, np.linalg.pinv(A, rcond=1e-8)

    def gradients(self, y: np.ndarray) -> np.ndarray:
        """Derivatives (m, c, d) of functions y (m, c) along the tangent vectors."""
        return np.einsum("nak,nkc->nca", self._affine[1][:, 1:] / self.size, y[self.edges])

    def curvature(self) -> np.ndarray:
        """What of functions at the neighbours is not affine: weighted projections."""
        (A, inverse), real = self._affine, without_padding(self.edges)
        return (real[:, :, None] * np.eye(A.shape[1]) - A @ inverse) * self.weights[:, None, None]


def align_component(
    x: np.ndarray, Q: np.ndarray, edges: np.ndarray, weights: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the points of one connected component, and their gradients.

    Parameters
    ----------
    x : ndarray of shape (m, D)
        Points.
    Q : ndarray of shape (m, D, d)
        Their tangent spaces.
    edges : ndarray of shape (m, k + 1), int
        A point and its neighbours; where there are fewer, itself again.
    weights : ndarray of shape (m,)
        Say of each point.
    n_components : int
        Number c of coordinates.

    Returns
    -------
    coordinates : ndarray of shape (m, c)
        In the units of the points.
    gradients : ndarray of shape (m, c, d)
        Derivatives along the tangent vectors.
    """
    m, d = len(x), Q.shape[2]
    distances, local = np.empty(edges.shape), np.empty((*edges.shape, d))
    for rows in displacement_chunks(edges, x.shape[1]):
        delta = x[edges[rows]] - x[rows, None]
        distances[rows] = np.linalg.norm(delta, axis=2)
        local[rows] = tangent_coordinates(Q[rows, None], delta)
    if not distances.any():  # one point, many times
        return np.zeros((m, n_components)), np.zeros((m, n_components, d))
    n_real = without_padding(edges).sum(axis=1)
    size = np.sqrt((distances**2).sum(axis=1) / n_real)[:, None, None]
    size = np.where(size > 0, size, 1.0)  # others may know a point that knows nobody
    seen = _Neighborhoods(x, edges, stretched(local, distances), size, weights)
    if n_components < d:
        return _keeping_distances(seen, n_components)
    if n_components == d:
        return _nearly_affine(seen, n_components)
    found = _nearly_affine(seen, n_components), _keeping_distances(seen, n_components)
    return min(found, key=lambda yJ: edge_stress(yJ[0], edges, seen.lengths))


def _keeping_distances(seen: _Neighborhoods, n_components: int):
    """Coordinates that keep the distances along edges best, to scale, and their gradients."""
    y = geodesic_coordinates(seen.edges, seen.lengths, n_components)
    y = y * _sign(y)
    J = seen.gradients(y)
    # A path along edges is longer than the straight way, by the same share everywhere.
    stretch = np.average((J**2).sum(axis=(1, 2)), weights=seen.weights)
    stretch = stretch / min(n_components, seen.dimension)
    scale = 1 / np.sqrt(stretch) if stretch > 0 else 1.0
    return scale * y, scale * J


def _nearly_affine(seen: _Neighborhoods, n_components: int):
    """Coordinates and gradients of the functions that are the most affine in all tangent spaces.

    Of d coordinates those combinations of some more functions that keep lengths.
    """
    d = seen.dimension
    c = n_components if n_components > d else d + _SPARE
    n_functions = min(c, len(seen.points) - 1)
    y = _smallest_eigenvectors(seen.edges, seen.curvature(), n_functions, d)
    keep_lengths = n_components == d < y.shape[1]
    if keep_lengths:
        y = np.hstack([y, _principal_axes(seen.points, d + _SPARE)])
    J = seen.gradients(y)
    if keep_lengths and J.any():
        A = _most_isometric(J, seen.weights)
        y, J = y @ A, np.einsum("pc,npa->nca", A, J)
    return _in_data_units(y, J, seen.weights, n_components)


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
