"""Global coordinates from tangent spaces, for all pieces and for new points, and back.

Every point sees its neighbours in coordinates of its own tangent space. Global coordinates are the
functions that are as nearly affine as can be in all of these at once, see `alignment`. Which
neighbours are true ones, `tangent_graph` says.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alignlearn.alignment import align_component
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
        found = align_component(points[rows], tangents[rows], inner, weights[rows], n_components)
        y[rows], J[rows] = found
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


def _weighted_mean(said, distances, trust) -> np.ndarray:
    """Mean (n, f) of predictions (n, k, f), weights falling to zero at the farthest one."""
    reach = distances.max(axis=1, keepdims=True)
    ratio = np.divide(distances, reach, out=np.zeros_like(distances), where=reach > 0)
    weights = trust * ((1 - ratio**2) ** 2 + 1e-12)
    return np.einsum("nk,nkf->nf", weights / weights.sum(axis=1, keepdims=True), said)
