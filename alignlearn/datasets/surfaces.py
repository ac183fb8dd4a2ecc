"""Closed and twisted surfaces in space, d = 2; the paraboloid in any dimension."""

import numpy as np

from alignlearn.datasets._sample import Sampler, check_integer, check_positive, columns, graph


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
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    R = check_positive("major_radius", major_radius)
    r = check_positive("minor_radius", minor_radius)
    if r >= R:
        raise ValueError(
            f"expected minor_radius < major_radius, got {r} and {R}: the tube would cut itself"
        )
    u, v = s.draw.uniform(0, 2 * np.pi, (2, s.n))
    rho = R + r * np.cos(v)
    x = columns(rho * np.cos(u), rho * np.sin(u), r * np.sin(v))
    x_u = columns(-rho * np.sin(u), rho * np.cos(u), 0)
    x_v = r * columns(-np.sin(v) * np.cos(u), -np.sin(v) * np.sin(u), np.cos(v))
    return s.sample(columns(u, v), x, columns(x_u, x_v))


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
    R = check_positive("major_radius", major_radius)
    x, y, z = points.T
    rho = np.hypot(x, y)
    r = np.hypot(rho - R, z)
    if not (np.all(rho > 0) and np.all(r > 0)):
        raise ValueError(
            "the torus has no normal at points on its axis or its core circle: drop them"
        )
    cos_u, sin_u, cos_v, sin_v = x / rho, y / rho, (rho - R) / r, z / r
    e_u = columns(-sin_u, cos_u, 0)
    e_v = columns(-sin_v * cos_u, -sin_v * sin_u, cos_v)
    return columns(e_u, e_v)


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
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    k = check_integer("n_half_twists", n_half_twists, least=0)
    t, w = s.draw.uniform(0, 2 * np.pi, s.n), s.draw.uniform(-0.5, 0.5, s.n)
    cos, sin = np.cos(k * t / 2), np.sin(k * t / 2)
    rho, rho_t = 1 + w * cos, -w * k / 2 * sin
    x = columns(rho * np.cos(t), rho * np.sin(t), w * sin)
    x_t = columns(
        rho_t * np.cos(t) - rho * np.sin(t), rho_t * np.sin(t) + rho * np.cos(t), w * k / 2 * cos
    )
    x_w = columns(cos * np.cos(t), cos * np.sin(t), sin)
    return s.sample(columns(t, w), x, columns(x_t, x_w))


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
    n_samples, dim : int, default=1000, 2
        Number of points, dimension d.
    curvature : float, default=1.0
        Curvature at the apex, positive.
    n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim, kappa = check_integer("dim", dim), check_positive("curvature", curvature)
    u = s.draw.uniform(-1, 1, (s.n, dim))
    x = np.hstack([u, kappa / 2 * np.sum(u**2, axis=1, keepdims=True)])
    return s.sample(u, x, graph(kappa * u))
