"""Curves in the plane and in space: d = 1."""

import numpy as np

from alignlearn.datasets._sample import Sampler, check_positive, columns


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
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    b = check_positive("pitch", pitch) / (2 * np.pi)
    t = s.draw.uniform(0, 2 * np.pi * check_positive("n_turns", n_turns), s.n)
    x = columns(np.cos(t), np.sin(t), b * t)
    x_t = columns(-np.sin(t), np.cos(t), b)
    return s.sample(columns(t), x, columns(x_t))


def make_moons_curve(
    n_samples=1000, *, n_features=None, noise=0.0, random_state=None, sample_state=None
):
    r"""Two half circles in the plane: the curve beneath `sklearn.datasets.make_moons`.

    ``x = (cos t, sin t)`` on the upper moon, ``x = (1 - cos t, 1/2 - sin t)`` on the lower one; t
    uniform on ``[0, pi)``, the moon chosen by a fair coin.

    Parameters
    ----------
    n_samples, n_features, noise, random_state, sample_state
        See `alignlearn.datasets`.

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
    s = Sampler(n_samples, n_features, noise, random_state, sample_state)
    t, moon = s.draw.uniform(0, np.pi, s.n), s.draw.randint(2, size=s.n)
    sign = 1 - 2 * moon
    x = columns(moon + sign * np.cos(t), moon / 2 + sign * np.sin(t))
    x_t = sign[:, None] * columns(-np.sin(t), np.cos(t))
    return s.sample(columns(t, moon), x, columns(x_t))
