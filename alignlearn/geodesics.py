"""Coordinates that keep the distances along a graph, and how well the lengths of edges are kept."""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.csgraph import dijkstra

from alignlearn.tangent_graph import displacement_chunks

# Points from which distances to all are taken; the distances of one to all are a row of memory, and
# those of all a dense eigenproblem.
_SOURCES = 2000


def geodesic_coordinates(edges: np.ndarray, lengths: np.ndarray, n_components: int) -> np.ndarray:
    """The coordinates that keep distances along the edges of a connected graph best.

    Classical scaling of the distances between at most 2000 of the points (Tenenbaum, de Silva &
    Langford 2000, Isomap); the others have their places by their distances to these (de Silva &
    Tenenbaum 2003, landmark Isomap).

    Parameters
    ----------
    edges : ndarray of shape (m, k + 1), int
        Each point and its neighbours, padded with itself.
    lengths : ndarray of shape (m, k + 1)
        Of the edges.
    n_components : int
        Number c of coordinates.

    Returns
    -------
    coordinates : ndarray of shape (m, c)
        Around 0, on their principal axes; zero where distances have no more of these.
    """
    m, k = edges.shape
    real = edges != edges[:, :1]
    ends = np.repeat(np.arange(m), k).reshape(m, k)[real], edges[real]
    tiny = np.finfo(float).tiny  # no edge at all is a zero
    graph = sparse.csr_matrix((np.maximum(lengths[real], tiny), ends), (m, m))
    sources = np.sort(np.random.RandomState(0).permutation(m)[:_SOURCES])
    kernel = -0.5 * dijkstra(graph, directed=False, indices=sources) ** 2
    between = kernel[:, sources]
    between = between - between.mean(axis=0) - between.mean(axis=1)[:, None] + between.mean()
    n_sources = len(sources)
    first = max(n_sources - n_components, 0)
    values, vectors = linalg.eigh(between, subset_by_index=(first, n_sources - 1))
    real_axis = values > 1e-12 * values[-1]  # distances of paths need not be Euclidean
    y = kernel.T @ (vectors[:, real_axis] / np.sqrt(values[real_axis]))[:, ::-1]
    return np.pad(y - y.mean(axis=0), ((0, 0), (0, n_components - y.shape[1])))


def edge_stress(coordinates: np.ndarray, edges: np.ndarray, lengths: np.ndarray) -> float:
    """Share of the squared lengths of edges that coordinates, at their best scale, do not keep.

    Parameters
    ----------
    coordinates : ndarray of shape (m, c)
    edges, lengths
        As in `geodesic_coordinates`.

    Returns
    -------
    stress : float
        0 where all lengths are kept up to one factor; 1 where the coordinates say nothing of them.
    """
    found = np.empty(edges.shape)
    for rows in displacement_chunks(edges, coordinates.shape[1]):
        step = coordinates[edges[rows]] - coordinates[rows, None]
        found[rows] = np.linalg.norm(step, axis=2)
    real = edges != edges[:, :1]
    found, true = found[real], lengths[real]
    total = (found @ found) * (true @ true)
    return 1 - (found @ true) ** 2 / total if total > 0 else 1.0
