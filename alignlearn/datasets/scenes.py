"""Images of several objects that move, grow and brighten: as many dimensions as one asks for."""

import numpy as np
from scipy.special import ndtr

from alignlearn.datasets._sample import Sampler, check_integer, check_positive, columns

# Draws for one object until it must be clear of those placed before it.
_MOST_DRAWS = 1000


def make_blob_scenes(
    n_samples=1000,
    *,
    n_objects=2,
    image_size=16,
    move=True,
    scale=False,
    brighten=False,
    size=0.15,
    apart=0.3,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Images of several Gaussian blobs, each with its own place, size and brightness.

    On the pixel grid of ``[-1, 1]^2``, with centres ``c_j``, sizes ``l_j`` and brightnesses
    ``b_j``,

    .. math:: I(p) = \sum_j b_j \exp\bigl(-\tfrac12 |p - c_j|^2 / l_j^2\bigr).

    Each option that is True adds dimensions for every object: `move` two, the others one.

    Parameters
    ----------
    n_samples, n_objects, image_size : int, default=1000, 2, 16
        Number of images, objects in each, pixels per side; an image is a row of ``image_size ** 2``
        features.
    move : bool, default=True
        Centres uniform on ``[-0.8, 0.8)^2``, new ones in each image; otherwise places drawn once,
        which belong to the manifold.
    scale : bool, default=False
        Sizes log-uniform on ``size * [0.75, 1.5)``; otherwise all are `size`.
    brighten : bool, default=False
        Brightnesses uniform on ``[0.5, 1)``; otherwise 1.
    size : float, default=0.15
        See `scale`.
    apart : float, default=0.3
        Least distance of centres: where objects coincide the tangent space degenerates.
    noise, random_state, sample_state
        See `alignlearn.datasets`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (c_1, c_2, l, b), those that vary, of the first object, then of the next.

    Raises
    ------
    ValueError
        If so many objects do not fit so far apart.

    References
    ----------
    Stanczuk, Batzolis, Deveney & Schoenlieb, "Diffusion models encode the intrinsic dimension of
    data manifolds", ICML 2024, whose images of blobs and squares have fixed places.

    Examples
    --------
    >>> from alignlearn.datasets import make_blob_scenes
    >>> sample = make_blob_scenes(100, n_objects=5, random_state=0)
    >>> sample.points.shape, sample.dimension
    ((100, 256), 10)
    """
    s = Sampler(n_samples, None, noise, random_state, sample_state)
    options = {"move": move, "scale": scale, "brighten": brighten}
    return _scenes(s, _bell, n_objects, image_size, options, size, apart)


def make_square_scenes(
    n_samples=1000,
    *,
    n_objects=2,
    image_size=16,
    move=True,
    scale=False,
    brighten=False,
    size=0.2,
    apart=0.3,
    noise=0.0,
    random_state=None,
    sample_state=None,
):
    r"""Images of several squares with soft edges, each with its own place, size and brightness.

    As `make_blob_scenes`, with squares of half-length ``l_j`` under a Gaussian blur of width
    w = 0.1; brightness adds up where they overlap:

    .. math:: I(p) = \sum_j b_j \prod_{i=1,2} \Bigl(\Phi\bigl(\tfrac{p_i - c_{ji} + l_j}{w}\bigr)
        - \Phi\bigl(\tfrac{p_i - c_{ji} - l_j}{w}\bigr)\Bigr).

    Parameters
    ----------
    n_samples, n_objects, image_size, move, scale, brighten, size, apart
        See `make_blob_scenes`; here `size` is 0.2 by default.
    noise, random_state, sample_state
        See `alignlearn.datasets`.

    Returns
    -------
    sample : ManifoldSample
        Parameters (c_1, c_2, l, b), those that vary, of the first object, then of the next.

    Raises
    ------
    ValueError
        If so many objects do not fit so far apart.

    Examples
    --------
    >>> from alignlearn.datasets import make_square_scenes
    >>> sample = make_square_scenes(100, move=False, brighten=True, random_state=0)
    >>> sample.dimension  # one brightness each: a linear set
    2
    """
    s = Sampler(n_samples, None, noise, random_state, sample_state)
    options = {"move": move, "scale": scale, "brighten": brighten}
    return _scenes(s, _box, n_objects, image_size, options, size, apart)


def _bell(d, l):  # noqa: E741
    """``exp(-d^2 / 2 l^2)`` and its derivatives by d and l."""
    z = d / l
    f = np.exp(-(z**2) / 2)
    return f, -z / l * f, z**2 / l * f


def _box(d, l, w=0.1):  # noqa: E741
    """Indicator of ``|d| < l`` blurred by w, and its derivatives by d and l."""
    head, tail = (np.exp(-(((d + a) / w) ** 2) / 2) / np.sqrt(2 * np.pi) / w for a in (l, -l))
    return ndtr((d + l) / w) - ndtr((d - l) / w), head - tail, head + tail


def _scenes(s, profile, n_objects, image_size, options, size, apart):
    """Sums over objects of brightness times profile across times profile down."""
    n_objects = check_integer("n_objects", n_objects)
    size, apart = check_positive("size", size), check_positive("apart", apart, zero=True)
    if not any(options.values()):
        names = ", ".join(options)
        raise ValueError(f"expected one of {names} to be True, got none: all images equal")
    side = np.linspace(-1, 1, check_integer("image_size", image_size, least=2))
    if options["move"]:
        centres = _places(s.draw, s.n, n_objects, apart)
    else:
        centres = np.repeat(_places(s.shape, 1, n_objects, apart), s.n, axis=0)
    shape = (s.n, n_objects)
    sizes, brightness = np.full(shape, size), np.ones(shape)
    if options["scale"]:
        sizes = size * np.exp(s.draw.uniform(np.log(0.75), np.log(1.5), shape))
    if options["brighten"]:
        brightness = s.draw.uniform(0.5, 1, shape)
    u = np.concatenate([centres, columns(sizes, brightness)], axis=2)  # (n, objects, 4)
    chosen = np.repeat(list(options.values()), [2, 1, 1])
    x, J = np.zeros((s.n, len(side) ** 2)), []
    for c_1, c_2, l, b in u.transpose(1, 2, 0)[..., None]:  # noqa: E741
        (f, f_d, f_l), (g, g_d, g_l) = profile(side - c_1, l), profile(side - c_2, l)
        x += _outer(b * g, f)
        factors = (
            [(-b * g, f_d)],
            [(-b * g_d, f)],
            [(b * g_l, f), (b * g, f_l)],
            [(g, f)],
        )
        kept = (pairs for pairs, varies in zip(factors, chosen, strict=True) if varies)
        J += [sum(_outer(*pair) for pair in pairs) for pairs in kept]
    return s.sample(u[:, :, chosen].reshape(s.n, -1), x, np.stack(J, axis=2))


def _outer(down, across):
    """Images (n, pixels) of products of a column (n, size) and a row (n, size)."""
    return (down[:, :, None] * across[:, None, :]).reshape(len(down), -1)


def _places(draw, n, n_objects, apart):
    """Centres (n, objects, 2) at least `apart`, one object after the other."""
    centres = np.empty((n, n_objects, 2))
    for j in range(n_objects):
        todo = np.arange(n)
        for _ in range(_MOST_DRAWS):
            centres[todo, j] = draw.uniform(-0.8, 0.8, (len(todo), 2))
            gaps = np.linalg.norm(centres[todo, j, None] - centres[todo, :j], axis=2)
            todo = todo[(gaps < apart).any(axis=1)]
            if len(todo) == 0:
                break
        else:
            raise ValueError(
                f"expected objects that fit, got n_objects={n_objects} at least apart={apart}: no "
                f"place was found for object {j + 1}. Take fewer, or a smaller distance"
            )
    return centres
