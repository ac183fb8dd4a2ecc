"""Images of one object whose pose varies; a pixel is a feature."""

import numpy as np
from scipy.special import ndtr

from alignlearn.datasets._sample import Sampler, check_integer, columns


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
    n_samples, image_size : int, default=1000, 16
        Number of images, pixels per side; an image is a row of ``image_size ** 2`` features.
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
        See `alignlearn.datasets`; the intensity of the blob's centre is 1.

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
    s = Sampler(n_samples, None, noise, random_state, sample_state)
    varies = _check_varies(move=move, scale=scale, turn=turn, elongate=elongate)
    c_1, c_2 = s.draw.uniform(-0.5, 0.5, (2, s.n)) * move
    size = s.draw.uniform(np.log(0.15), np.log(0.3), s.n) if scale else np.log(0.2)
    angle = s.draw.uniform(0, np.pi, s.n) if turn else 0.0
    stretch = np.log(2) / 2 if turn else 0.0
    if elongate:
        stretch = s.draw.uniform(np.log(1.5) / 2, np.log(3) / 2, s.n)
    u = columns(c_1, c_2, size, angle, stretch)
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
    n_samples, image_size : int, default=1000, 16
        Number of images, pixels per side; an image is a row of ``image_size ** 2`` features.
    move : bool, default=True
        Centre uniform on ``[-1/2, 1/2)^2``; otherwise 0.
    turn : bool, default=True
        Angle a uniform on ``[0, pi)``; otherwise 0.
    scale : bool, default=False
        Half-length l uniform on ``[0.25, 0.6)``; otherwise 0.4.
    noise, random_state, sample_state
        See `alignlearn.datasets`; the intensity on a long stroke is 1.

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
    s = Sampler(n_samples, None, noise, random_state, sample_state)
    varies = _check_varies(move=move, turn=turn, scale=scale)
    w = 0.15
    c_1, c_2 = s.draw.uniform(-0.5, 0.5, (2, s.n)) * move
    angle = s.draw.uniform(0, np.pi, s.n) if turn else 0.0
    length = s.draw.uniform(0.25, 0.6, s.n) if scale else 0.4
    u = columns(c_1, c_2, angle, length)
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
    side = np.linspace(-1, 1, check_integer("image_size", image_size, least=2))
    row, column = np.meshgrid(side, side, indexing="ij")
    c_1, c_2, a = pose.T[:, :, None]
    dx, dy = column.ravel() - c_1, row.ravel() - c_2
    p, q = np.cos(a) * dx + np.sin(a) * dy, np.cos(a) * dy - np.sin(a) * dx
    p_pose = np.stack(np.broadcast_arrays(-np.cos(a), -np.sin(a), q), axis=-1)
    q_pose = np.stack(np.broadcast_arrays(np.sin(a), -np.cos(a), -p), axis=-1)
    return p, q, p_pose, q_pose


def _normal_pdf(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _check_varies(**options):
    if not any(options.values()):
        raise ValueError(
            f"expected at least one of {', '.join(options)} to be True, got none: all images equal"
        )
    return [bool(option) for option in options.values()]
