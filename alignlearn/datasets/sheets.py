"""Sheets in space, d = 2: one chart covers each, over a rectangle or one with a hole."""

import numpy as np

from alignlearn.datasets._sample import Sampler, columns, graph


def make_swiss_roll(
    n_samples=1000,
    *,
    hole=False,
    n_features=None,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Swiss roll in ``R^3``, as in `sklearn.datasets.make_swiss_roll`.

    ``x = (t cos t, y, t sin t)``, t uniform on ``[1.5 pi, 4.5 pi)``, y uniform on ``[0, 21)``. The
    arc length along the roll, an isometric coordinate with y, is
    ``(t sqrt(1 + t^2) + asinh t) / 2``.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    hole : bool, default=False
        Leave out the middle one of 3 x 3 equal cells of (t, y).
    n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    t, y = s.draw.uniform(1.5 * np.pi, 4.5 * np.pi, s.n), s.draw.uniform(0, 21, s.n)
    if hole:  # fold t and y into a cell of thirds, and draw one of the eight around the middle
        cell = s.draw.choice([0, 1, 2, 3, 5, 6, 7, 8], s.n)
        t = t / 3 + np.pi * (1 + cell // 3)
        y = y / 3 + 7 * (cell % 3)
    x = columns(t * np.cos(t), y, t * np.sin(t))
    x_t = columns(np.cos(t) - t * np.sin(t), 0, np.sin(t) + t * np.cos(t))
    x_y = [0, 1, 0]
    return s.sample(columns(t, y), x, columns(x_t, x_y))


def make_s_curve(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""S-shaped sheet in ``R^3``, as in `sklearn.datasets.make_s_curve`.

    ``x = (sin t, y, sign(t) (cos t - 1))``, t uniform on ``[-1.5 pi, 1.5 pi)``, y uniform on
    ``[0, 2)``; t is arc length, so that (t, y) are isometric coordinates.

    Parameters
    ----------
    n_samples, n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    t, y = s.draw.uniform(-1.5 * np.pi, 1.5 * np.pi, s.n), s.draw.uniform(0, 2, s.n)
    x = columns(np.sin(t), y, np.sign(t) * (np.cos(t) - 1))
    x_t = columns(np.cos(t), 0, -np.sin(np.abs(t)))
    x_y = [0, 1, 0]
    return s.sample(columns(t, y), x, columns(x_t, x_y))


def make_twin_peaks(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Two peaks and two pits over a square in ``R^3``.

    ``x = (u, v, sin(pi u) tanh(3 v))``, u and v uniform on ``[-1, 1)``. The toolbox of the
    reference stretches the third coordinate by 10, which leaves little else to see.

    Parameters
    ----------
    n_samples, n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (u, v) of shape (n, 2).

    References
    ----------
    van der Maaten, Postma & van den Herik, "Dimensionality reduction: a comparative review",
    Tilburg University, TiCC-TR 2009-005 (2009).

    Examples
    --------
    >>> from alignlearn.datasets import make_twin_peaks
    >>> make_twin_peaks(100, random_state=0).tangents.shape
    (100, 3, 2)
    """
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    u, v = s.draw.uniform(-1, 1, (2, s.n))
    wave, step = np.sin(np.pi * u), np.tanh(3 * v)
    gradient = columns(np.pi * np.cos(np.pi * u) * step, 3 * wave * (1 - step**2))
    return s.sample(columns(u, v), columns(u, v, wave * step), graph(gradient))


def make_severed_sphere(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Unit sphere in ``R^3`` without its poles and a wedge, as in scikit-learn's gallery.

    ``x = (sin t cos p, sin t sin p, cos t)``, p uniform on ``[0, 2 pi - 0.55)``, t uniform on
    ``[pi / 8, 7 pi / 8)``: uniform in the angles, not in area.

    Parameters
    ----------
    n_samples, n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (p, t) of shape (n, 2).

    References
    ----------
    scikit-learn, example gallery, "Manifold learning methods on a severed sphere".

    Examples
    --------
    >>> from alignlearn.datasets import make_severed_sphere
    >>> make_severed_sphere(100, random_state=0).tangents.shape
    (100, 3, 2)
    """
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    p = s.draw.uniform(0, 2 * np.pi - 0.55, s.n)
    t = s.draw.uniform(np.pi / 8, 7 * np.pi / 8, s.n)
    x = columns(np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t))
    x_p = columns(-np.sin(p), np.cos(p), 0)  # over sin t
    x_t = columns(np.cos(t) * np.cos(p), np.cos(t) * np.sin(p), -np.sin(t))
    return s.sample(columns(p, t), x, columns(x_p, x_t))
