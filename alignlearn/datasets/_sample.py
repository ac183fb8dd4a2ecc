"""What all sets share: the sample they return, the options they take."""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state


class ManifoldSample(NamedTuple):
    """Points near a manifold, with the truth.

    Frames and parameters belong to the clean points.

    Attributes
    ----------
    points : ndarray of shape (n, D)
        The data, noise included.
    clean : ndarray of shape (n, D)
        The same points on the manifold.
    tangents : ndarray of shape (n, D, d)
        Orthonormal columns spanning the tangent space at each clean point.
    dimension : int
        The intrinsic dimension d.
    parameters : ndarray of shape (n, p)
        Intrinsic coordinates of the clean points.
    """

    points: np.ndarray
    clean: np.ndarray
    tangents: np.ndarray
    dimension: int
    parameters: np.ndarray


class Sampler:
    """The options all sets share: `shape` draws the manifold, `draw` the points, `sample` ends."""

    def __init__(self, n_samples, n_features, noise, random_state, sample_state):
        self.n = check_integer("n_samples", n_samples)
        self.n_features = None if n_features is None else check_integer("n_features", n_features)
        self.noise = check_positive("noise", noise, zero=True)
        self.shape = check_random_state(random_state)  # constants of the manifold
        seed = self.shape.randint(np.iinfo(np.int32).max)
        if sample_state is not None:  # a seed drawn from it: its stream may be the manifold's own
            seed = check_random_state(sample_state).randint(np.iinfo(np.int32).max)
        self.draw = np.random.RandomState(seed)  # points and noise

    def orthonormal_map(self, dim, n_features):
        """Haar-distributed orthonormal columns (n_features, dim)."""
        if n_features < dim:
            raise ValueError(f"expected n_features >= {dim} to hold this set, got {n_features}")
        return orthonormal(self.shape.standard_normal((n_features, dim)))

    def sample(self, u, x, J):
        """Points x (n, D) with parameters u: orthonormalise J (n, D, d), embed, add noise."""
        E = orthonormal(J)
        if self.n_features is not None:
            Q = self.orthonormal_map(x.shape[1], self.n_features)
            x, E = x @ Q.T, Q @ E
        noise = self.noise * self.draw.standard_normal(x.shape)
        return ManifoldSample(x + noise, np.array(x), E, E.shape[2], u)


def orthonormal(J):
    """Gram-Schmidt of the columns: Q of the QR with a positive diagonal of R."""
    Q, R = np.linalg.qr(J)
    return Q * np.where(np.diagonal(R, axis1=-2, axis2=-1) < 0, -1.0, 1.0)[..., None, :]


def columns(*parts):
    """Stack along a new last axis, constants repeated: coordinates of points, columns of frames."""
    return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(float)


def graph(gradient):
    """Jacobian (n, d + 1, d) of a graph (u, f(u)): the identity above the gradient (n, d)."""
    n, d = gradient.shape
    return np.hstack([np.broadcast_to(np.eye(d), (n, d, d)), gradient[:, None, :]])


def check_integer(name, value, least=1):
    """An int of at least `least`, or an error that names it."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"expected {name} to be an integer >= {least}, got {value!r}")
    return int(value)


def check_positive(name, value, zero=False):
    """A finite positive float, or 0 if `zero`; otherwise an error that names it."""
    if not isinstance(value, Real) or not 0 <= value < np.inf or (value == 0 and not zero):
        least = ">= 0" if zero else "> 0"
        raise ValueError(f"expected {name} to be a finite number {least}, got {value!r}")
    return float(value)
