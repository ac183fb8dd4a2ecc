r"""Samples of manifolds that come with the truth: tangent frames and dimension.

Every ``make_*`` writes a chart ``u -> x(u)`` and its Jacobian as formulas, so the frames are exact,
and returns a `ManifoldSample`. They share these options:

``n_features`` : int or None
    Turn the set into ``R^n_features`` by a random orthonormal map (distances and angles stay). None
    keeps the natural number of coordinates.
``noise`` : float
    Standard deviation of isotropic Gaussian noise added in all ``n_features`` coordinates, in data
    units.
``random_state`` : int, RandomState or None
    Fixes the manifold (every random constant, the orthonormal map) and the sample.
``sample_state`` : int, RandomState or None
    Draws other points *of the same manifold*: keep an int ``random_state`` and change this. None:
    ``random_state`` decides. ``n_features`` and ``noise`` do not change which points are drawn.
"""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr
from sklearn.utils import check_random_state

__all__ = [
    "ManifoldSample",
    "make_affine_subspace",
    "make_blob_images",
    "make_flat_torus",
    "make_gaussian",
    "make_helix",
    "make_hypercube",
    "make_moebius_band",
    "make_moons_curve",
    "make_paraboloid",
    "make_random_manifold",
    "make_rotations",
    "make_s_curve",
    "make_sphere",
    "make_stroke_images",
    "make_swiss_roll",
    "make_torus",
    "torus_tangents",
]


class ManifoldSample(NamedTuple):
    """Points near a manifold, with the truth.

    Frames and parameters belong to the clean points.
    """

    points: np.ndarray
    """(n, D): the data, noise included."""
    clean: np.ndarray
    """(n, D): the same points on the manifold."""
    tangents: np.ndarray
    """(n, D, d): orthonormal columns spanning the tangent space at each clean point."""
    dimension: int
    """d: the intrinsic dimension."""
    parameters: np.ndarray
    """(n, p): intrinsic coordinates of the clean points."""


# ----------------------------------------------------------------------------- curves and surfaces


def make_sphere(
    n_samples=1000, dim=2, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Uniform sample of the unit sphere ``|x| = 1`` in ``R^(dim + 1)``.

    In stereographic coordinates u from the pole ``e_last``, ``x = (2 u, |u|^2 - 1) / (|u|^2 + 1)``;
    the chart is conformal, so its frame is well conditioned everywhere.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    dim : int, default=2
        Dimension d of the sphere.
    n_features : int or None, default=None
        Turn the sphere into ``R^n_features`` by a random orthonormal map; None keeps ``dim + 1``
        coordinates.
    noise : float, default=0.0
        Standard deviation of isotropic Gaussian noise in all coordinates.
    random_state : int, RandomState or None, default=None
        Fixes the manifold and the sample.
    sample_state : int, RandomState or None, default=None
        Draws other points of the manifold that an int `random_state` fixes.

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
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = _check_integer("dim", dim)
    z = s.draw.standard_normal((s.n, dim + 1))
    z, height = z[:, :-1], z[:, -1:]
    length = np.linalg.norm(z, axis=1, keepdims=True)
    u = z / length / np.tan(np.arctan2(length, height) / 2)  # |u| = cot(polar angle / 2)
    q = 1 + np.sum(u**2, axis=1, keepdims=True)  # (n, 1)
    x = np.hstack([2 * u, q - 2]) / q
    J = 2 / q[:, :, None] * (_graph(u) - x[:, :, None] * u[:, None, :])
    return s.sample(u, x, J)


def make_torus(
    n_samples=1000,
    *,
    major_radius=2.0,
    minor_radius=1.0,
    n_features=None,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Torus in ``R^3``, uniform in its two angles (not in area).

    ``x = ((R + r cos v) cos u, (R + r cos v) sin u, r sin v)``, u and v uniform on ``[0, 2 pi)``.
    The benchmark of Manifold Diffusion Geometry takes the truth at the noisy point: see
    `torus_tangents`.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    major_radius, minor_radius : float, default=2.0, 1.0
        Radius R of the ring and r < R of the tube.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (u, v) of shape (n, 2).

    References
    ----------
    Jones, "Manifold diffusion geometry: curvature, tangent spaces, and dimension", arXiv:2411.04100
    (2024).

    Examples
    --------
    >>> from alignlearn.datasets import make_torus
    >>> make_torus(300, noise=0.1, random_state=0).tangents.shape
    (300, 3, 2)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    R = _check_positive("major_radius", major_radius)
    r = _check_positive("minor_radius", minor_radius)
    if r >= R:
        raise ValueError(
            f"expected minor_radius < major_radius, got {r} and {R}: the tube would cut itself"
        )
    u, v = s.draw.uniform(0, 2 * np.pi, (2, s.n))
    rho = R + r * np.cos(v)
    x = _columns(rho * np.cos(u), rho * np.sin(u), r * np.sin(v))
    x_u = _columns(-rho * np.sin(u), rho * np.cos(u), 0)
    x_v = r * _columns(-np.sin(v) * np.cos(u), -np.sin(v) * np.sin(u), np.cos(v))
    return s.sample(_columns(u, v), x, _columns(x_u, x_v))


def torus_tangents(points, major_radius=2.0):
    r"""Tangent frames of the torus at any points, orthogonal to the radial direction of the tube.

    The normal at any x off the axis is ``x - c``, with c the nearest point of the core circle of
    radius R; this is the truth *at the noisy point* used for the published torus angles.

    Parameters
    ----------
    points : array-like of shape (n, 3)
        Points of `make_torus` before any random orthonormal map, noisy or not.
    major_radius : float, default=2.0
        Radius R of the core circle; the radius of the tube does not matter.

    Returns
    -------
    tangents : ndarray of shape (n, 3, 2)
        Orthonormal columns: along the ring, around the tube.

    References
    ----------
    Jones, "Manifold diffusion geometry: curvature, tangent spaces, and dimension", arXiv:2411.04100
    (2024).

    Examples
    --------
    >>> from alignlearn.datasets import make_torus, torus_tangents
    >>> sample = make_torus(300, noise=0.1, random_state=0)
    >>> torus_tangents(sample.points).shape
    (300, 3, 2)
    """
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(
            f"expected finite points of shape (n, 3), got {points.shape}: leave n_features=None"
        )
    R = _check_positive("major_radius", major_radius)
    x, y, z = points.T
    rho = np.hypot(x, y)
    r = np.hypot(rho - R, z)
    if not (np.all(rho > 0) and np.all(r > 0)):
        raise ValueError(
            "the torus has no normal at points on its axis or its core circle: drop them"
        )
    cos_u, sin_u, cos_v, sin_v = x / rho, y / rho, (rho - R) / r, z / r
    e_u = _columns(-sin_u, cos_u, 0)
    e_v = _columns(-sin_v * cos_u, -sin_v * sin_u, cos_v)
    return _columns(e_u, e_v)


def make_swiss_roll(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Swiss roll in ``R^3``, as in `sklearn.datasets.make_swiss_roll`.

    ``x = (t cos t, y, t sin t)``, t uniform on ``[1.5 pi, 4.5 pi)``, y uniform on ``[0, 21)``.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (t, y) of shape (n, 2).

    References
    ----------
    Tenenbaum, de Silva & Langford, "A global geometric framework for nonlinear dimensionality
    reduction", Science 290 (2000).

    Examples
    --------
    >>> from alignlearn.datasets import make_swiss_roll
    >>> make_swiss_roll(100, random_state=0).tangents.shape
    (100, 3, 2)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    t, y = s.draw.uniform(1.5 * np.pi, 4.5 * np.pi, s.n), s.draw.uniform(0, 21, s.n)
    x = _columns(t * np.cos(t), y, t * np.sin(t))
    x_t = _columns(np.cos(t) - t * np.sin(t), 0, np.sin(t) + t * np.cos(t))
    x_y = [0, 1, 0]
    return s.sample(_columns(t, y), x, _columns(x_t, x_y))


def make_s_curve(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""S-shaped sheet in ``R^3``, as in `sklearn.datasets.make_s_curve`.

    ``x = (sin t, y, sign(t) (cos t - 1))``, t uniform on ``[-1.5 pi, 1.5 pi)``,
    y uniform on ``[0, 2)``.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (t, y) of shape (n, 2).

    References
    ----------
    Saul & Roweis, "Think globally, fit locally: unsupervised learning of low dimensional
    manifolds", JMLR 4 (2003).

    Examples
    --------
    >>> from alignlearn.datasets import make_s_curve
    >>> make_s_curve(100, random_state=0).tangents.shape
    (100, 3, 2)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    t, y = s.draw.uniform(-1.5 * np.pi, 1.5 * np.pi, s.n), s.draw.uniform(0, 2, s.n)
    x = _columns(np.sin(t), y, np.sign(t) * (np.cos(t) - 1))
    x_t = _columns(np.cos(t), 0, -np.sin(np.abs(t)))
    x_y = [0, 1, 0]
    return s.sample(_columns(t, y), x, _columns(x_t, x_y))


def make_helix(
    n_samples=1000,
    *,
    pitch=0.5,
    n_turns=2.0,
    n_features=None,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Circular helix in ``R^3``, a curve of constant curvature and torsion.

    ``x = (cos t, sin t, pitch t / (2 pi))``, t uniform on ``[0, 2 pi n_turns)``.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    pitch : float, default=0.5
        Rise per turn, for radius 1.
    n_turns : float, default=2.0
        Number of turns.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameter t of shape (n, 1).

    References
    ----------
    do Carmo, "Differential Geometry of Curves and Surfaces" (1976), section 1-5.

    Examples
    --------
    >>> from alignlearn.datasets import make_helix
    >>> make_helix(100, random_state=0).tangents.shape
    (100, 3, 1)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    b = _check_positive("pitch", pitch) / (2 * np.pi)
    t = s.draw.uniform(0, 2 * np.pi * _check_positive("n_turns", n_turns), s.n)
    x = _columns(np.cos(t), np.sin(t), b * t)
    x_t = _columns(-np.sin(t), np.cos(t), b)
    return s.sample(_columns(t), x, _columns(x_t))


def make_moons_curve(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Two half circles in the plane: the curve beneath `sklearn.datasets.make_moons`.

    ``x = (cos t, sin t)`` on the upper moon, ``x = (1 - cos t, 1/2 - sin t)`` on the lower one; t
    uniform on ``[0, pi)``, the moon chosen by a fair coin.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (t, moon) of shape (n, 2); moon is 0 (upper) or 1 (lower), a label and not a
        coordinate.

    References
    ----------
    Chandramoorthy & de Clercq, "When and how can inexact generative models still sample from the
    data manifold?", arXiv:2508.07581 (2025), where two moons are the running example.

    Examples
    --------
    >>> from alignlearn.datasets import make_moons_curve
    >>> make_moons_curve(100, random_state=0).tangents.shape
    (100, 2, 1)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    t, moon = s.draw.uniform(0, np.pi, s.n), s.draw.randint(2, size=s.n)
    sign = 1 - 2 * moon
    x = _columns(moon + sign * np.cos(t), moon / 2 + sign * np.sin(t))
    x_t = sign[:, None] * _columns(-np.sin(t), np.cos(t))
    return s.sample(_columns(t, moon), x, _columns(x_t))


def make_moebius_band(
    n_samples=1000,
    *,
    n_half_twists=1,
    n_features=None,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Moebius band: width 1, around the unit circle in ``R^3``, with a half turn on the way.

    ``x = (rho cos t, rho sin t, w sin(k t / 2))`` with ``rho = 1 + w cos(k t / 2)``, k =
    `n_half_twists`; t uniform on ``[0, 2 pi)``, w uniform on ``[-1/2, 1/2)``. Odd k gives a Moebius
    band, k = 10 the twisted band of scikit-dimension's benchmark.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    n_half_twists : int, default=1
        Half turns k of the band along the circle, at least 0.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (t, w) of shape (n, 2).

    References
    ----------
    Hein & Audibert, "Intrinsic dimensionality estimation of submanifolds in R^d", ICML (2005).

    Examples
    --------
    >>> from alignlearn.datasets import make_moebius_band
    >>> make_moebius_band(100, random_state=0).tangents.shape
    (100, 3, 2)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    k = _check_integer("n_half_twists", n_half_twists, least=0)
    t, w = s.draw.uniform(0, 2 * np.pi, s.n), s.draw.uniform(-0.5, 0.5, s.n)
    cos, sin = np.cos(k * t / 2), np.sin(k * t / 2)
    rho, rho_t = 1 + w * cos, -w * k / 2 * sin
    x = _columns(rho * np.cos(t), rho * np.sin(t), w * sin)
    x_t = _columns(
        rho_t * np.cos(t) - rho * np.sin(t), rho_t * np.sin(t) + rho * np.cos(t), w * k / 2 * cos
    )
    x_w = _columns(cos * np.cos(t), cos * np.sin(t), sin)
    return s.sample(_columns(t, w), x, _columns(x_t, x_w))


# --------------------------------------------------------------------------------- any dimension d


def make_paraboloid(
    n_samples=1000,
    dim=2,
    *,
    curvature=1.0,
    n_features=None,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Paraboloid in ``R^(dim + 1)``, the graph of a quadratic.

    ``x = (u, curvature |u|^2 / 2)``, u uniform on ``[-1, 1)^dim``; all principal curvatures at the
    apex are `curvature`.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    dim : int, default=2
        Dimension d.
    curvature : float, default=1.0
        Curvature at the apex, positive.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters u of shape (n, dim).

    References
    ----------
    do Carmo, "Differential Geometry of Curves and Surfaces" (1976), section 3-3.

    Examples
    --------
    >>> from alignlearn.datasets import make_paraboloid
    >>> make_paraboloid(100, dim=3, random_state=0).tangents.shape
    (100, 4, 3)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim, kappa = _check_integer("dim", dim), _check_positive("curvature", curvature)
    u = s.draw.uniform(-1, 1, (s.n, dim))
    x = np.hstack([u, kappa / 2 * np.sum(u**2, axis=1, keepdims=True)])
    return s.sample(u, x, _graph(kappa * u))


def make_flat_torus(
    n_samples=1000, dim=2, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Flat torus: a product of `dim` unit circles in ``R^(2 dim)``.

    ``x = (cos u_1, .., cos u_d, sin u_1, .., sin u_d)``, u uniform on ``[0, 2 pi)^dim``; an
    isometry of the angles.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    dim : int, default=2
        Dimension d.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

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
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = _check_integer("dim", dim)
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
    n_samples : int, default=1000
        Number of points.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

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
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
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


def make_affine_subspace(
    n_samples=1000, dim=2, n_features=5, *, noise=0.0, random_state=None, sample_state=None
):
    r"""Gaussian sample of a random affine subspace of ``R^n_features``.

    ``x = b + Q u``, Q random orthonormal ``(D, d)``, ``b ~ N(0, I)`` and ``u ~ N(0, I)``.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    dim : int, default=2
        Dimension d of the subspace.
    n_features : int, default=5
        Dimension D of the space.
    noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters u of shape (n, dim).

    References
    ----------
    Tipping & Bishop, "Probabilistic principal component analysis", J. R. Stat. Soc. B 61 (1999),
    with ``W = Q``.

    Examples
    --------
    >>> from alignlearn.datasets import make_affine_subspace
    >>> make_affine_subspace(100, dim=2, n_features=5, random_state=0).tangents.shape
    (100, 5, 2)
    """
    s = _Sampler(n_samples, None, noise, random_state, sample_state)
    dim, D = _check_integer("dim", dim), _check_integer("n_features", n_features)
    Q, b = s.orthonormal_map(dim, D), s.shape.standard_normal(D)
    u = s.draw.standard_normal((s.n, dim))
    return s.sample(u, b + u @ Q.T, np.broadcast_to(Q, (s.n, *Q.shape)))


def make_gaussian(
    n_samples=1000,
    dim=2,
    *,
    covariance=1.0,
    n_features=None,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Gaussian that fills its space: ``x = L u``, ``u ~ N(0, I)``, ``L L^T`` the covariance.

    Full-dimensional data, for which the right answer is d = D (with ``n_features=None``).

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    dim : int, default=2
        Dimension d.
    covariance : float or array-like of shape (dim,) or (dim, dim), default=1.0
        One variance, the variance on each axis, or a symmetric positive definite matrix.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters u of shape (n, dim), the whitened point.

    References
    ----------
    Golub & Van Loan, "Matrix Computations", 4th ed., section 4.2 (Cholesky factor).

    Examples
    --------
    >>> from alignlearn.datasets import make_gaussian
    >>> make_gaussian(100, dim=3, covariance=[1, 0.5, 0.1], random_state=0).tangents.shape
    (100, 3, 3)
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = _check_integer("dim", dim)
    L = _cholesky(covariance, dim)
    u = s.draw.standard_normal((s.n, dim))
    return s.sample(u, u @ L.T, np.broadcast_to(L, (s.n, dim, dim)))


def make_hypercube(
    n_samples=1000, dim=2, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Uniform sample of the solid cube ``[0, 1)^dim``, full-dimensional.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    dim : int, default=2
        Dimension d.
    n_features, noise, random_state, sample_state
        As in `make_sphere`.

    Returns
    -------
    sample : ManifoldSample
        Parameters: the point itself, of shape (n, dim).

    References
    ----------
    Campadelli et al., "Intrinsic dimension estimation: relevant techniques and a benchmark
    framework", Math. Probl. Eng. (2015), sets M10.

    Examples
    --------
    >>> from alignlearn.datasets import make_hypercube
    >>> make_hypercube(100, dim=4, random_state=0).dimension
    4
    """
    s = _Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = _check_integer("dim", dim)
    u = s.draw.uniform(size=(s.n, dim))
    return s.sample(u, u, np.broadcast_to(np.eye(dim), (s.n, dim, dim)))


def make_random_manifold(
    n_samples=1000, dim=2, n_features=10, *, noise=0.0, random_state=None, sample_state=None
):
    r"""Random smooth manifold of any dimension in any space.

    .. math:: x = \tfrac1c \bigl(2 u A + \sin(2 u C + \varphi) B\bigr),
        \qquad u \sim \mathrm{Beta}(2, 2)^d,

    entries of ``A (d, D)`` of variance ``1/D``, ``C (d, 3d)`` standard normal, ``phi (3d,)``
    uniform phases, ``B (3d, D)`` of variance ``1/(3 d D)``. The constant c is the standard
    deviation over all entries of the clean set; it belongs to the manifold, estimated once from
    5000 internal points, so that it is the same for every `n_samples` and `sample_state` (the
    sample itself has standard deviation 1 within a few percent) and `noise` is in units of the
    data's standard deviation.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    dim : int, default=2
        Dimension d.
    n_features : int, default=10
        Dimension D of the space, more than `dim` for a curved set.
    noise, random_state, sample_state
        As in `make_sphere`: ``random_state`` fixes A, B, C, phi, c and the sample, ``sample_state``
        draws further points.

    Returns
    -------
    sample : ManifoldSample
        Parameters u of shape (n, dim), in ``[0, 1]^dim``.

    References
    ----------
    This project (random Fourier features added to a linear map), after Lahiri, Gao & Ganguli,
    "Random projections of random manifolds", arXiv:1607.04331 (2016).

    Examples
    --------
    >>> from alignlearn.datasets import make_random_manifold
    >>> train = make_random_manifold(3000, 5, 20, noise=0.1, random_state=0)
    >>> test = make_random_manifold(500, 5, 20, random_state=0, sample_state=1)  # the same manifold
    >>> train.tangents.shape, test.tangents.shape
    ((3000, 20, 5), (500, 20, 5))
    """
    s = _Sampler(n_samples, None, noise, random_state, sample_state)
    d, D = _check_integer("dim", dim), _check_integer("n_features", n_features)
    if d > D:
        raise ValueError(f"expected dim <= n_features, got dim={d} in R^{D}")
    A = s.shape.standard_normal((d, D)) / np.sqrt(D)
    B = s.shape.standard_normal((3 * d, D)) / np.sqrt(3 * d * D)
    C = s.shape.standard_normal((d, 3 * d))
    phi = s.shape.uniform(0, 2 * np.pi, 3 * d)

    def chart(u):
        return 2 * u @ A + np.sin(2 * u @ C + phi) @ B

    c = chart(s.shape.beta(2, 2, (5000, d))).std()
    u = s.draw.beta(2, 2, (s.n, d))
    dx_du = 2 * A + (2 * C * np.cos(2 * u @ C + phi)[:, None, :]) @ B  # (n, d, D)
    return s.sample(u, chart(u) / c, dx_du.swapaxes(1, 2) / c)


# ------------------------------------------------------------------------------------------ images


def make_blob_images(
    n_samples=1000,
    *,
    image_size=16,
    move=True,
    scale=False,
    turn=False,
    elongate=False,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Images of one Gaussian blob, moved, scaled, turned, elongated.

    On the pixel grid of ``[-1, 1]^2``, with ``(p, q)`` the pixel seen from the centre
    ``(c_1, c_2)`` and turned back by the angle a,

    .. math:: I = \exp\bigl(-\tfrac12 (p^2 e^{-2 s - 2 e} + q^2 e^{-2 s + 2 e})\bigr).

    Each option that is True adds parameters and dimensions: `move` two, the others one.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.
    image_size : int, default=16
        Pixels per side; an image is one flattened row of ``image_size ** 2`` features.
    move : bool, default=True
        Centre uniform on ``[-1/2, 1/2)^2``; otherwise 0.
    scale : bool, default=False
        Size ``e^s`` log-uniform on ``[0.15, 0.3)``; otherwise 0.2.
    turn : bool, default=False
        Angle a uniform on ``[0, pi)``; otherwise 0.
    elongate : bool, default=False
        Ratio of the axes ``e^(2 e)`` log-uniform on ``[1.5, 3)``; otherwise 2 for blobs that turn
        and 1 for others.
    noise, random_state, sample_state
        As in `make_sphere`; the intensity of the blob's centre is 1.

    Returns
    -------
    sample : ManifoldSample
        Parameters (c_1, c_2, s, a, e) of shape (n, d), those that vary, in this order.

    References
    ----------
    Donoho & Grimes, "Image manifolds which are isometric to Euclidean space", J. Math. Imaging Vis.
    23 (2005).

    Examples
    --------
    >>> from alignlearn.datasets import make_blob_images
    >>> sample = make_blob_images(100, image_size=12, scale=True, random_state=0)
    >>> sample.points.shape, sample.dimension
    ((100, 144), 3)
    """
    s = _Sampler(n_samples, None, noise, random_state, sample_state)
    varies = _check_varies(move=move, scale=scale, turn=turn, elongate=elongate)
    c_1, c_2 = s.draw.uniform(-0.5, 0.5, (2, s.n)) * move
    size = s.draw.uniform(np.log(0.15), np.log(0.3), s.n) if scale else np.log(0.2)
    angle = s.draw.uniform(0, np.pi, s.n) if turn else 0.0
    stretch = np.log(2) / 2 if turn else 0.0
    if elongate:
        stretch = s.draw.uniform(np.log(1.5) / 2, np.log(3) / 2, s.n)
    u = _columns(c_1, c_2, size, angle, stretch)
    p, q, p_pose, q_pose = _pose(u[:, [0, 1, 3]], image_size)
    size, stretch = u[:, [2]], u[:, [4]]
    P, Q = p * np.exp(-2 * (size + stretch)), q * np.exp(-2 * (size - stretch))
    x = np.exp(-(p * P + q * Q) / 2)
    x_pose = -x[..., None] * (P[..., None] * p_pose + Q[..., None] * q_pose)  # by c_1, c_2, a
    x_size, x_stretch = x * (p * P + q * Q), x * (p * P - q * Q)
    J = np.dstack([x_pose[..., :2], x_size, x_pose[..., 2], x_stretch])
    varies = np.repeat(varies, [2, 1, 1, 1])
    return s.sample(u[:, varies], x, J[:, :, varies])


def make_stroke_images(
    n_samples=1000,
    *,
    image_size=16,
    move=True,
    turn=True,
    scale=False,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Images of one blurred line segment, moved, turned, scaled in length.

    A segment of half-length l under a Gaussian blur of width w = 0.15, on the pixel grid of
    ``[-1, 1]^2``; with ``(p, q)`` the pixel seen from the segment's centre, along and across it,

    .. math:: I = e^{-q^2 / 2 w^2} \bigl(\Phi(\tfrac{p + l}{w}) - \Phi(\tfrac{p - l}{w})\bigr).

    Each option that is True adds parameters and dimensions: `move` two, the others one.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.
    image_size : int, default=16
        Pixels per side; an image is one flattened row of ``image_size ** 2`` features.
    move : bool, default=True
        Centre uniform on ``[-1/2, 1/2)^2``; otherwise 0.
    turn : bool, default=True
        Angle a uniform on ``[0, pi)``; otherwise 0.
    scale : bool, default=False
        Half-length l uniform on ``[0.25, 0.6)``; otherwise 0.4.
    noise, random_state, sample_state
        As in `make_sphere`; the intensity on a long stroke is 1.

    Returns
    -------
    sample : ManifoldSample
        Parameters (c_1, c_2, a, l) of shape (n, d), those that vary, in this order.

    References
    ----------
    Simard, LeCun & Denker, "Efficient pattern recognition using a new transformation distance",
    NIPS 5 (1992), for tangents of images by position, angle and size.

    Examples
    --------
    >>> from alignlearn.datasets import make_stroke_images
    >>> sample = make_stroke_images(100, image_size=12, random_state=0)
    >>> sample.points.shape, sample.dimension
    ((100, 144), 3)
    """
    s = _Sampler(n_samples, None, noise, random_state, sample_state)
    varies = _check_varies(move=move, turn=turn, scale=scale)
    w = 0.15
    c_1, c_2 = s.draw.uniform(-0.5, 0.5, (2, s.n)) * move
    angle = s.draw.uniform(0, np.pi, s.n) if turn else 0.0
    length = s.draw.uniform(0.25, 0.6, s.n) if scale else 0.4
    u = _columns(c_1, c_2, angle, length)
    p, q, p_pose, q_pose = _pose(u[:, :3], image_size)
    length = u[:, [3]]
    across = np.exp(-((q / w) ** 2) / 2)
    along = ndtr((p + length) / w) - ndtr((p - length) / w)
    head, tail = _normal_pdf((p + length) / w) / w, _normal_pdf((p - length) / w) / w
    x_p, x_q = across * (head - tail), -q / w**2 * across * along
    x_pose = x_p[..., None] * p_pose + x_q[..., None] * q_pose  # by c_1, c_2, a
    J = np.dstack([x_pose, across * (head + tail)])
    varies = np.repeat(varies, [2, 1, 1])
    return s.sample(u[:, varies], across * along, J[:, :, varies])


def _pose(pose, image_size):
    """Pixels seen from a pose (c_1, c_2, a): p, q (n, pixels) and their derivatives by the pose."""
    side = np.linspace(-1, 1, _check_integer("image_size", image_size, least=2))
    row, column = np.meshgrid(side, side, indexing="ij")
    c_1, c_2, a = pose.T[:, :, None]
    dx, dy = column.ravel() - c_1, row.ravel() - c_2
    p, q = np.cos(a) * dx + np.sin(a) * dy, np.cos(a) * dy - np.sin(a) * dx
    p_pose = np.stack(np.broadcast_arrays(-np.cos(a), -np.sin(a), q), axis=-1)
    q_pose = np.stack(np.broadcast_arrays(np.sin(a), -np.cos(a), -p), axis=-1)
    return p, q, p_pose, q_pose


def _normal_pdf(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


# ---------------------------------------------------------------------------------- what all share


class _Sampler:
    """The options all sets share: `shape` draws the manifold, `draw` the points, `sample` ends."""

    def __init__(self, n_samples, n_features, noise, random_state, sample_state):
        self.n = _check_integer("n_samples", n_samples)
        self.n_features = None if n_features is None else _check_integer("n_features", n_features)
        self.noise = _check_positive("noise", noise, zero=True)
        self.shape = check_random_state(random_state)  # constants of the manifold
        seed = self.shape.randint(np.iinfo(np.int32).max)
        if sample_state is not None:  # a seed drawn from it: its stream may be the manifold's own
            seed = check_random_state(sample_state).randint(np.iinfo(np.int32).max)
        self.draw = np.random.RandomState(seed)  # points and noise

    def orthonormal_map(self, dim, n_features):
        """Haar-distributed orthonormal columns (n_features, dim)."""
        if n_features < dim:
            raise ValueError(f"expected n_features >= {dim} to hold this set, got {n_features}")
        return _orthonormal(self.shape.standard_normal((n_features, dim)))

    def sample(self, u, x, J):
        """Points x (n, D) with parameters u: orthonormalise J (n, D, d), embed, add noise."""
        E = _orthonormal(J)
        if self.n_features is not None:
            Q = self.orthonormal_map(x.shape[1], self.n_features)
            x, E = x @ Q.T, Q @ E
        noise = self.noise * self.draw.standard_normal(x.shape)
        return ManifoldSample(x + noise, np.array(x), E, E.shape[2], u)


def _orthonormal(J):
    """Gram-Schmidt of the columns: Q of the QR with a positive diagonal of R."""
    Q, R = np.linalg.qr(J)
    return Q * np.where(np.diagonal(R, axis1=-2, axis2=-1) < 0, -1.0, 1.0)[..., None, :]


def _columns(*parts):
    """Stack along a new last axis, constants repeated: coordinates of points, columns of frames."""
    return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(float)


def _graph(gradient):
    """Jacobian (n, d + 1, d) of a graph (u, f(u)): the identity above the gradient (n, d)."""
    n, d = gradient.shape
    return np.hstack([np.broadcast_to(np.eye(d), (n, d, d)), gradient[:, None, :]])


def _cholesky(covariance, dim):
    covariance = np.asarray(covariance, dtype=float)
    if covariance.shape not in ((), (dim,), (dim, dim)):
        raise ValueError(
            f"expected covariance to be one number, {dim} variances or a ({dim}, {dim}) matrix, "
            f"got shape {covariance.shape}: dim={dim} must agree with it"
        )
    matrix = covariance if covariance.ndim == 2 else np.diag(np.broadcast_to(covariance, dim))
    finite = np.isfinite(matrix).all()
    if not (finite and np.allclose(matrix, matrix.T) and np.linalg.eigvalsh(matrix)[0] > 0):
        raise ValueError(
            f"expected a symmetric positive definite covariance, got {covariance.tolist()}: "
            "for a flat set lower dim and set n_features"
        )
    return np.linalg.cholesky(matrix)


def _check_varies(**options):
    if not any(options.values()):
        raise ValueError(
            f"expected at least one of {', '.join(options)} to be True, got none: all images equal"
        )
    return [bool(option) for option in options.values()]


def _check_integer(name, value, least=1):
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"expected {name} to be an integer >= {least}, got {value!r}")
    return int(value)


def _check_positive(name, value, zero=False):
    if not isinstance(value, Real) or not 0 <= value < np.inf or (value == 0 and not zero):
        least = ">= 0" if zero else "> 0"
        raise ValueError(f"expected {name} to be a finite number {least}, got {value!r}")
    return float(value)
