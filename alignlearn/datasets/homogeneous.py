"""Homogeneous spaces, which look the same from each of their points."""

import numpy as np

from alignlearn.datasets._sample import Sampler, check_integer, graph


def make_sphere(
    n_samples=1000, dim=2, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Uniform sample of the unit sphere ``|x| = 1`` in ``R^(dim + 1)``.

    In stereographic coordinates u from the pole ``e_last``, ``x = (2 u, |u|^2 - 1) / (|u|^2 + 1)``;
    the chart is conformal, so its frame is well conditioned everywhere.

    Parameters
    ----------
    n_samples, dim : int, default=1000, 2
        Number of points, dimension d of the sphere.
    n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

    Returns
    -------
    sample : ManifoldSample
        Parameters u of shape (n, dim).

    References
    ----------
    Muller, "A note on a method for generating points uniformly on n-dimensional spheres", CACM 2
    (1959).

    Examples
    --------
    >>> from alignlearn.datasets import make_sphere
    >>> sample = make_sphere(500, dim=2, n_features=10, noise=0.05, random_state=0)
    >>> sample.points.shape, sample.tangents.shape, sample.dimension
    ((500, 10), (500, 10, 2), 2)
    """
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = check_integer("dim", dim)
    z = s.draw.standard_normal((s.n, dim + 1))
    z, height = z[:, :-1], z[:, -1:]
    length = np.linalg.norm(z, axis=1, keepdims=True)
    u = z / length / np.tan(np.arctan2(length, height) / 2)  # |u| = cot(polar angle / 2)
    q = 1 + np.sum(u**2, axis=1, keepdims=True)  # (n, 1)
    x = np.hstack([2 * u, q - 2]) / q
    J = 2 / q[:, :, None] * (graph(u) - x[:, :, None] * u[:, None, :])
    return s.sample(u, x, J)


def make_flat_torus(
    n_samples=1000, dim=2, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Flat torus: a product of `dim` unit circles in ``R^(2 dim)``.

    ``x = (cos u_1, .., cos u_d, sin u_1, .., sin u_d)``, u uniform on ``[0, 2 pi)^dim``; an
    isometry of the angles.

    Parameters
    ----------
    n_samples, dim : int, default=1000, 2
        Number of points, dimension d.
    n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

    Returns
    -------
    sample : ManifoldSample
        Parameters u of shape (n, dim).

    References
    ----------
    do Carmo, "Riemannian Geometry" (1992), chapter 6 (Clifford torus).

    Examples
    --------
    >>> from alignlearn.datasets import make_flat_torus
    >>> make_flat_torus(100, dim=3, random_state=0).tangents.shape
    (100, 6, 3)
    """
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = check_integer("dim", dim)
    u = s.draw.uniform(0, 2 * np.pi, (s.n, dim))
    x = np.hstack([np.cos(u), np.sin(u)])
    sin, cos = np.sin(u)[:, :, None], np.cos(u)[:, :, None]
    return s.sample(u, x, np.hstack([-sin * np.eye(dim), cos * np.eye(dim)]))


def make_rotations(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Rotation group SO(3), uniform (Haar), as flattened 3 x 3 matrices in ``R^9``.

    Rodrigues' formula for the rotation vector w, ``theta = |w|``, ``W = [w]_x``:
    ``X = I + sinc(theta) W + sinc(theta / 2)^2 W^2 / 2``. The tangent space at X is ``X so(3)``,
    spanned by ``X [e_i]_x``, i = 1, 2, 3.

    Parameters
    ----------
    n_samples, n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

    Returns
    -------
    sample : ManifoldSample
        Parameters w of shape (n, 3), the rotation vector: axis times angle in ``[0, pi]``.

    References
    ----------
    Shoemake, "Uniform random rotations", Graphics Gems III (1992).

    Examples
    --------
    >>> from alignlearn.datasets import make_rotations
    >>> sample = make_rotations(100, random_state=0)
    >>> sample.points.shape, sample.dimension
    ((100, 9), 3)
    """
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    quaternion = s.draw.standard_normal((s.n, 4))  # uniform direction = Haar measure
    real, imag = np.abs(quaternion[:, :1]), quaternion[:, 1:]
    length = np.linalg.norm(imag, axis=1, keepdims=True)
    theta = 2 * np.arctan2(length, real)
    w = theta * imag / length
    W = np.einsum("nk,kij->nij", w, _CROSS)
    theta = theta[:, :, None]
    X = np.eye(3) + np.sinc(theta / np.pi) * W + np.sinc(theta / (2 * np.pi)) ** 2 / 2 * W @ W
    J = np.einsum("nij,kjl->nilk", X, _CROSS)
    return s.sample(w, X.reshape(s.n, 9), J.reshape(s.n, 9, 3))


_CROSS = np.array(  # [e_k]_x v = e_k x v
    [
        [[0.0, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0.0, 0, 1], [0, 0, 0], [-1, 0, 0]],
        [[0.0, -1, 0], [1, 0, 0], [0, 0, 0]],
    ]
)
