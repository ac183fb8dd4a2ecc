"""Linear images of random coordinates u, the last one with random waves added."""

import numpy as np

from alignlearn.datasets._sample import Sampler, check_integer


def make_affine_subspace(
    n_samples=1000, dim=2, n_features=5, *, noise=0.0, random_state=None, sample_state=None
):
    r"""Gaussian sample of a random affine subspace of ``R^n_features``.

    ``x = b + Q u``, Q random orthonormal ``(D, d)``, ``b ~ N(0, I)`` and ``u ~ N(0, I)``.

    Parameters
    ----------
    n_samples, dim : int, default=1000, 2
        Number of points, dimension d of the subspace.
    n_features : int, default=5
        Dimension D of the space.
    noise, random_state, sample_state
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, None, noise, random_state, sample_state)
    dim, D = check_integer("dim", dim), check_integer("n_features", n_features)
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
    n_samples, dim : int, default=1000, 2
        Number of points, dimension d.
    covariance : float or array-like of shape (dim,) or (dim, dim), default=1.0
        One variance, the variance on each axis, or a symmetric positive definite matrix.
    n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = check_integer("dim", dim)
    L = _cholesky(covariance, dim)
    u = s.draw.standard_normal((s.n, dim))
    return s.sample(u, u @ L.T, np.broadcast_to(L, (s.n, dim, dim)))


def make_hypercube(
    n_samples=1000, dim=2, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Uniform sample of the solid cube ``[0, 1)^dim``, full-dimensional.

    Parameters
    ----------
    n_samples, dim : int, default=1000, 2
        Number of points, dimension d.
    n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    dim = check_integer("dim", dim)
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
    n_samples, dim : int, default=1000, 2
        Number of points, dimension d.
    n_features : int, default=10
        Dimension D of the space, more than `dim` for a curved set.
    noise, random_state, sample_state
        See `alignlearn.datasets`; `random_state` fixes A, B, C, phi, c.

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
    s = Sampler(n_samples, None, noise, random_state, sample_state)
    d, D = check_integer("dim", dim), check_integer("n_features", n_features)
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
