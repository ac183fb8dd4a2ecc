"""Every data set tells the truth: laws run over the table `SETS`.

A new set joins by one entry: its ``make_*`` with options, its dimensions d and D, and its chart as
a formula written again here, slow and obvious, without derivatives.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import kstest, norm
from sklearn.datasets import load_sample_images

from alignlearn import datasets
from alignlearn.datasets import (
    load_image_patches,
    make_affine_subspace,
    make_blob_images,
    make_blob_scenes,
    make_flat_torus,
    make_gaussian,
    make_helix,
    make_hypercube,
    make_moebius_band,
    make_moons_curve,
    make_paraboloid,
    make_random_manifold,
    make_rotations,
    make_s_curve,
    make_severed_sphere,
    make_sphere,
    make_square_scenes,
    make_stroke_images,
    make_swiss_roll,
    make_torus,
    make_twin_peaks,
    torus_tangents,
)
from alignlearn.metrics import largest_angle, principal_angles

SIGMA = np.array([[2.0, 0.6], [0.6, 0.5]])


# ------------------------------------------------------------------------- charts, written again


def sphere(u):
    q = np.sum(u**2, axis=1, keepdims=True)
    return np.hstack([2 * u / (q + 1), (q - 1) / (q + 1)])


def torus(u, R=2.0, r=1.0):
    ring = np.array([np.cos(u[:, 0]), np.sin(u[:, 0]), 0 * u[:, 0]])
    return ((R + r * np.cos(u[:, 1])) * ring).T + r * np.outer(np.sin(u[:, 1]), [0, 0, 1])


def swiss_roll(u):
    t, y = u.T
    return np.array([t * np.cos(t), y, t * np.sin(t)]).T


def s_curve(u):
    t, y = u.T
    return np.array([np.sin(t), y, np.sign(t) * (np.cos(t) - 1)]).T


def twin_peaks(u):
    return np.array([[x, y, np.sin(np.pi * x) * np.tanh(3 * y)] for x, y in u])


def severed_sphere(u):
    return Rotation.from_euler("yz", u[:, ::-1]).apply([0, 0, 1])


def helix(u, pitch=0.5):
    t = u[:, 0]
    return np.array([np.cos(t), np.sin(t), pitch * t / (2 * np.pi)]).T


def moons(u):
    t, moon = u.T
    upper = np.array([np.cos(t), np.sin(t)]).T
    lower = np.array([1 - np.cos(t), 0.5 - np.sin(t)]).T
    return np.where(moon[:, None] == 0, upper, lower)


def moebius_band(u, k=1):
    t, w = u.T
    out = np.array([np.cos(t), np.sin(t), 0 * t])
    up = np.array([[0.0], [0.0], [1.0]])
    return (out + w * (np.cos(k * t / 2) * out + np.sin(k * t / 2) * up)).T


def paraboloid(u, curvature=1.0):
    return np.hstack([u, curvature / 2 * np.sum(u**2, axis=1, keepdims=True)])


def flat_torus(u):
    return np.hstack([np.cos(u), np.sin(u)])


def rotations(u):
    return Rotation.from_rotvec(u).as_matrix().reshape(-1, 9)


def affine_subspace(u):
    """The affine map through the set of random_state=0, from its own points."""
    sample = make_affine_subspace(50, 3, 7, random_state=0)
    ones = np.ones((50, 1))
    map_ = np.linalg.lstsq(np.hstack([ones, sample.parameters]), sample.clean, rcond=None)[0]
    return map_[0] + u @ map_[1:]


def random_manifold(u, D=20):
    """The formula of the docstring with the constants of random_state=0."""
    d, rng = u.shape[1], np.random.RandomState(0)
    rng.randint(np.iinfo(np.int32).max)
    A = rng.normal(0, 1, (d, D)) * D**-0.5
    B = rng.normal(0, 1, (3 * d, D)) * (3 * d * D) ** -0.5
    C = rng.normal(0, 1, (d, 3 * d))
    phi = rng.uniform(0, 2 * np.pi, 3 * d)
    u = np.vstack([rng.beta(2, 2, (5000, d)), u])
    x = 2 * u @ A + np.sin(2 * u @ C + phi) @ B
    return x[5000:] / x[:5000].std()


def pixels(size):
    return np.array([[x, y] for y in np.linspace(-1, 1, size) for x in np.linspace(-1, 1, size)])


def blob(u, size, names="xysae"):
    images = []
    for row in u:
        v = {"x": 0, "y": 0, "s": np.log(0.2), "a": 0, "e": np.log(2) / 2 if "a" in names else 0}
        v |= dict(zip(names, row, strict=True))
        turn = np.array([[np.cos(v["a"]), -np.sin(v["a"])], [np.sin(v["a"]), np.cos(v["a"])]])
        Sigma = turn @ np.diag(np.exp([2 * (v["s"] + v["e"]), 2 * (v["s"] - v["e"])])) @ turn.T
        p = pixels(size) - [v["x"], v["y"]]
        images.append(np.exp(-np.sum(p @ np.linalg.inv(Sigma) * p, axis=1) / 2))
    return np.array(images)


def stroke(u, size, names="xyal", w=0.15):
    """A pen with a round Gaussian tip drawn along the segment: the integral, by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    images = []
    for row in u:
        v = {"x": 0, "y": 0, "a": 0, "l": 0.4} | dict(zip(names, row, strict=True))
        pen = np.outer(v["l"] * nodes, [np.cos(v["a"]), np.sin(v["a"])]) + [v["x"], v["y"]]
        distance2 = np.sum((pixels(size)[:, None] - pen) ** 2, axis=2)
        dab = np.exp(-distance2 / (2 * w**2)) / np.sqrt(2 * np.pi * w**2)
        images.append(dab @ (v["l"] * weights))
    return np.array(images)


def scene(u, size, n_objects, dab, names="xy", l=0.15, places=None):  # noqa: E741
    """One object after the other; `dab` gives the brightness of pixels seen from a centre."""
    images = np.zeros((len(u), size**2))
    for image, row in zip(images, u.reshape(len(u), n_objects, -1), strict=True):
        for j, of_object in enumerate(row):
            v = {"l": l, "b": 1.0} | dict(zip(names, of_object, strict=True))
            centre = (v["x"], v["y"]) if places is None else places[j]
            image += v["b"] * dab(pixels(size) - centre, v["l"])
    return images


def bell(p, l):  # noqa: E741
    return np.exp(-np.sum(p**2, axis=1) / (2 * l**2))


def soft_square(p, l, w=0.1):  # noqa: E741
    """Share of a round Gaussian pen at the pixel that lies in the square."""
    return np.prod(norm.cdf(p + l, scale=w) - norm.cdf(p - l, scale=w), axis=1)


def fixed_places(n_objects):
    """Of random_state=0, with nothing to keep apart."""
    rng = np.random.RandomState(0)
    rng.randint(np.iinfo(np.int32).max)
    return [rng.uniform(-0.8, 0.8, 2) for _ in range(n_objects)]


# ------------------------------------------------------------------------------------- the table


class Set(NamedTuple):
    make: Any
    d: int
    D: int
    chart: Any
    embeds: bool = True  # takes n_features as an embedding


SETS = {
    "circle": Set(partial(make_sphere, dim=1), 1, 2, sphere),
    "sphere": Set(make_sphere, 2, 3, sphere),
    "sphere-10": Set(partial(make_sphere, dim=10), 10, 11, sphere),
    "torus": Set(make_torus, 2, 3, torus),
    "thin torus": Set(
        partial(make_torus, major_radius=3, minor_radius=0.5), 2, 3, partial(torus, R=3, r=0.5)
    ),
    "swiss roll": Set(make_swiss_roll, 2, 3, swiss_roll),
    "swiss roll with a hole": Set(partial(make_swiss_roll, hole=True), 2, 3, swiss_roll),
    "s curve": Set(make_s_curve, 2, 3, s_curve),
    "twin peaks": Set(make_twin_peaks, 2, 3, twin_peaks),
    "severed sphere": Set(make_severed_sphere, 2, 3, severed_sphere),
    "helix": Set(make_helix, 1, 3, helix),
    "steep helix": Set(partial(make_helix, pitch=4, n_turns=3), 1, 3, partial(helix, pitch=4)),
    "moons": Set(make_moons_curve, 1, 2, moons),
    "moebius band": Set(make_moebius_band, 2, 3, moebius_band),
    "moebius-10": Set(
        partial(make_moebius_band, n_half_twists=10), 2, 3, partial(moebius_band, k=10)
    ),
    "paraboloid": Set(make_paraboloid, 2, 3, paraboloid),
    "paraboloid-6": Set(
        partial(make_paraboloid, dim=6, curvature=2), 6, 7, partial(paraboloid, curvature=2)
    ),
    "flat torus": Set(partial(make_flat_torus, dim=3), 3, 6, flat_torus),
    "rotations": Set(make_rotations, 3, 9, rotations),
    "affine": Set(partial(make_affine_subspace, dim=3, n_features=7), 3, 7, affine_subspace, False),
    "gaussian": Set(
        partial(make_gaussian, covariance=SIGMA), 2, 2, lambda u: u @ np.linalg.cholesky(SIGMA).T
    ),
    "hypercube": Set(partial(make_hypercube, dim=4), 4, 4, lambda u: u),
    "random curve": Set(
        partial(make_random_manifold, dim=1, n_features=20), 1, 20, random_manifold, False
    ),
    "random 5 in 20": Set(
        partial(make_random_manifold, dim=5, n_features=20), 5, 20, random_manifold, False
    ),
    "blobs": Set(
        partial(make_blob_images, image_size=12), 2, 144, partial(blob, size=12, names="xy"), False
    ),
    "scaled blobs": Set(
        partial(make_blob_images, image_size=9, move=False, scale=True),
        *(1, 81, partial(blob, size=9, names="s"), False),
    ),
    "stretched blobs": Set(
        partial(make_blob_images, image_size=9, move=False, elongate=True),
        *(1, 81, partial(blob, size=9, names="e"), False),
    ),
    "turned blobs": Set(
        partial(make_blob_images, image_size=9, move=False, turn=True),
        *(1, 81, partial(blob, size=9, names="a"), False),
    ),
    "all blobs": Set(
        partial(make_blob_images, image_size=12, scale=True, turn=True, elongate=True),
        *(5, 144, partial(blob, size=12), False),
    ),
    "strokes": Set(
        partial(make_stroke_images, image_size=12),
        *(3, 144, partial(stroke, size=12, names="xya"), False),
    ),
    "all strokes": Set(
        partial(make_stroke_images, image_size=9, scale=True),
        *(4, 81, partial(stroke, size=9), False),
    ),
    "blob scenes": Set(
        partial(make_blob_scenes, image_size=12, size=0.3),
        *(4, 144, partial(scene, size=12, n_objects=2, dab=bell, l=0.3), False),
    ),
    "all blob scenes": Set(
        partial(make_blob_scenes, n_objects=3, image_size=12, scale=True, brighten=True, apart=0.6),
        *(12, 144, partial(scene, size=12, n_objects=3, dab=bell, names="xylb"), False),
    ),
    "blobs in their places": Set(
        partial(make_blob_scenes, image_size=12, move=False, scale=True, apart=0),
        *(2, 144, lambda u: scene(u, 12, 2, bell, names="l", places=fixed_places(2)), False),
    ),
    "square scenes": Set(
        partial(make_square_scenes, image_size=12, brighten=True),
        *(6, 144, lambda u: scene(u, 12, 2, soft_square, "xyb", 0.2), False),
    ),
    "squares that grow": Set(
        partial(make_square_scenes, n_objects=1, image_size=12, scale=True),
        *(3, 144, lambda u: scene(u, 12, 1, soft_square, "xyl"), False),
    ),
}

every_set = pytest.mark.parametrize("name", SETS)
every_embedded_set = pytest.mark.parametrize("name", [k for k, s in SETS.items() if s.embeds])


def off_span(E, V):
    """Length of the part of V (n, D, k) outside the span of E, relative to V."""
    return np.linalg.norm(V - E @ (E.swapaxes(1, 2) @ V), axis=1) / np.linalg.norm(V, axis=1)


# -------------------------------------------------------------------------------------- the laws


def test_table_holds_every_public_set():
    public = {getattr(datasets, name) for name in datasets.__all__ if name.startswith("make_")}
    assert public == {getattr(s.make, "func", s.make) for s in SETS.values()}


@every_set
@pytest.mark.parametrize("sample_state", [None, 1])
def test_clean_points_are_the_chart_of_the_parameters(name, sample_state):
    make, _, _, chart, _ = SETS[name]
    sample = make(30, noise=0.1, random_state=0, sample_state=sample_state)
    np.testing.assert_allclose(sample.clean, chart(sample.parameters), rtol=0, atol=1e-10)


@every_set
def test_shapes_and_dimension_are_declared_and_frames_orthonormal(name):
    make, d, D, _, _ = SETS[name]
    points, clean, E, dimension, parameters = make(30, noise=0.1, random_state=0)
    assert (dimension, type(dimension)) == (d, int)
    assert points.shape == clean.shape == (30, D)
    assert E.shape == (30, D, d)
    assert parameters.shape == (30, d + (name == "moons"))
    np.testing.assert_allclose(
        E.swapaxes(1, 2) @ E, np.broadcast_to(np.eye(d), (30, d, d)), atol=1e-12
    )


@every_set
def test_frames_span_the_central_difference_of_the_chart(name):
    make, d, _, chart, _ = SETS[name]
    sample = make(30, random_state=0)
    u, h = sample.parameters, 1e-5 * (1 + np.linalg.norm(sample.parameters, axis=1))[:, None]
    steps = np.eye(u.shape[1])[:d]
    J = np.stack([(chart(u + h * e) - chart(u - h * e)) / (2 * h) for e in steps], axis=2)
    singular_values = np.linalg.svd(J, compute_uv=False)
    assert (singular_values[:, -1] > 1e-2 * singular_values[:, 0]).all()  # a chart of rank d
    assert largest_angle(np.linalg.qr(J).Q, sample.tangents).max() < 1e-4
    assert off_span(sample.tangents, J).max() < 1e-7


# no point of 1500 is near another in more dimensions
@pytest.mark.parametrize("name", [name for name, s in SETS.items() if s.d <= 5])
def test_secants_to_near_points_of_the_sample_lie_in_the_frame_and_fill_it(name):
    make, d, D, _, _ = SETS[name]
    sample = make(1500, random_state=0)
    x, E = sample.clean, sample.tangents[:300]
    distance2 = np.sum(x**2, axis=1) - 2 * x[:300] @ x.T
    near = np.argsort(distance2, axis=1)[:, 1]
    secant = (x[near] - x[:300])[:, :, None]
    off_any_frame = np.sqrt(1 - d / D)  # of a random d-plane
    assert np.median(off_span(E, secant)) <= 0.4 * off_any_frame + 1e-12
    inside = (E.swapaxes(1, 2) @ secant)[:, :, 0]
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    spread = np.linalg.svd(inside, compute_uv=False)
    assert spread[-1] > 0.1 * spread[0]


@every_set
def test_noise_is_isotropic_gaussian_of_its_standard_deviation_and_moves_nothing_else(name):
    make, _, D, _, _ = SETS[name]
    clean, noisy = make(2000, random_state=0), make(2000, noise=0.3, random_state=0)
    np.testing.assert_array_equal(clean.points, clean.clean)
    for field in ("clean", "tangents", "parameters"):
        np.testing.assert_array_equal(getattr(noisy, field), getattr(clean, field))
    noise = noisy.points - noisy.clean
    np.testing.assert_allclose(noise.std(axis=0), 0.3, rtol=0.1)
    assert kstest(noise[:, 0], "norm", (0, 0.3)).pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(D)).max() < 0.12


@every_set
def test_one_random_state_is_one_sample_and_the_global_state_is_left_alone(name):
    make = SETS[name].make
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = make(20, noise=0.1, random_state=3), make(20, noise=0.1, random_state=3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    rng = np.random.RandomState(3)  # handed in, it moves on: the next sample is another
    np.testing.assert_array_equal(make(20, noise=0.1, random_state=rng).points, first.points)
    assert not np.isclose(make(20, noise=0.1, random_state=rng).points, first.points).all()


@every_set
def test_sample_state_draws_other_points(name):
    make = SETS[name].make
    first, other = (make(20, noise=0.1, random_state=0, sample_state=s) for s in (1, 2))
    assert not np.isin(first.parameters[:, 0], other.parameters[:, 0]).any()
    assert not np.isin(first.points, other.points).any()
    handed_in = make(20, noise=0.1, random_state=0, sample_state=np.random.RandomState(1))
    np.testing.assert_array_equal(first.points, handed_in.points)


@every_embedded_set
def test_embedding_is_one_linear_isometry_for_all_samples_of_a_manifold(name):
    make, d, D, _, _ = SETS[name]
    maps = []
    for sample_state in (None, 1):
        natural = make(40, random_state=0, sample_state=sample_state)
        embedded = make(40, n_features=D + 4, random_state=0, sample_state=sample_state)
        np.testing.assert_array_equal(natural.parameters, embedded.parameters)
        Q = np.linalg.lstsq(natural.clean, embedded.clean, rcond=None)[0].T  # (D + 4, D)
        np.testing.assert_allclose(embedded.clean, natural.clean @ Q.T, atol=1e-10)
        np.testing.assert_allclose(embedded.tangents, Q @ natural.tangents, atol=1e-10)
        np.testing.assert_allclose(Q.T @ Q, np.eye(D), atol=1e-10)
        maps.append(Q)
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-10)
    assert embedded.dimension == d
    turned = make(40, n_features=D + 4, random_state=1, sample_state=1)
    assert not np.isclose(turned.clean, embedded.clean).all()


@every_embedded_set
def test_too_few_features_are_refused(name):
    make, _, D, _, _ = SETS[name]
    with pytest.raises(
        ValueError, match=f"expected n_features >= {D} to hold this set, got {D - 1}"
    ):
        make(10, n_features=D - 1)


@every_set
@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_samples": 0}, "expected n_samples to be an integer >= 1, got 0"),
        ({"n_samples": 10.0}, "expected n_samples to be an integer >= 1, got 10.0"),
        ({"noise": -0.1}, "expected noise to be a finite number >= 0, got -0.1"),
        ({"noise": np.nan}, "expected noise to be a finite number >= 0, got nan"),
        ({"noise": np.inf}, "expected noise to be a finite number >= 0, got inf"),
        ({"noise": "loud"}, "expected noise to be a finite number >= 0, got 'loud'"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        SETS[name].make(**options)


@pytest.mark.parametrize(
    "make",
    [make_sphere, make_paraboloid, make_flat_torus, make_affine_subspace, make_gaussian]
    + [make_hypercube, make_random_manifold],
)
@pytest.mark.parametrize("dim", [0, -1, 2.0, True, None])
def test_impossible_dimensions_are_refused(make, dim):
    with pytest.raises(ValueError, match=f"expected dim to be an integer >= 1, got {dim}"):
        make(10, dim=dim)


@pytest.mark.parametrize(
    "make, message",
    [
        (partial(make_torus, minor_radius=2.0), "expected minor_radius < major_radius"),
        (partial(make_torus, minor_radius=0.0), "expected minor_radius to be a finite number > 0"),
        (partial(make_helix, pitch=0.0), "expected pitch to be a finite number > 0"),
        (partial(make_moebius_band, n_half_twists=0.5), "expected n_half_twists to be an integer"),
        (partial(make_affine_subspace, dim=3, n_features=2), "expected n_features >= 3"),
        (partial(make_random_manifold, dim=3, n_features=2), "expected dim <= n_features"),
        (partial(make_gaussian, covariance=[1, 1, 1]), "2 variances or a .2, 2. matrix"),
        (partial(make_gaussian, covariance=[1, 0]), "symmetric positive definite"),
        (partial(make_gaussian, covariance=[[1, 1], [0, 1]]), "symmetric positive definite"),
        (partial(make_gaussian, covariance=np.nan), "symmetric positive definite"),
        (partial(make_blob_images, move=False), "at least one of move, scale, turn, elongate"),
        (partial(make_stroke_images, move=False, turn=False), "at least one of move, turn, scale"),
        (partial(make_blob_images, image_size=1), "expected image_size to be an integer >= 2"),
        (partial(make_blob_scenes, move=False), "one of move, scale, brighten to be True"),
        (partial(make_blob_scenes, n_objects=0), "expected n_objects to be an integer >= 1"),
        (partial(make_blob_scenes, n_objects=30, apart=0.5), "expected objects that fit"),
        (partial(make_square_scenes, size=0.0), "expected size to be a finite number > 0"),
    ],
)
def test_impossible_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(10)


# --------------------------------------------------- what the points satisfy, and how they spread


def moebius_equation(x):
    x, y, z = x.T
    return -y + x**2 * y + y**3 - 2 * x * z - 2 * x**2 * z - 2 * y**2 * z + y * z**2


@pytest.mark.parametrize(
    "name, equation",
    [
        ("circle", lambda x: np.sum(x**2, axis=1) - 1),
        ("sphere-10", lambda x: np.sum(x**2, axis=1) - 1),
        ("torus", lambda x: (np.hypot(x[:, 0], x[:, 1]) - 2) ** 2 + x[:, 2] ** 2 - 1),
        ("thin torus", lambda x: (np.hypot(x[:, 0], x[:, 1]) - 3) ** 2 + x[:, 2] ** 2 - 0.25),
        ("s curve", lambda x: x[:, 0] ** 2 + (np.abs(x[:, 2]) - 1) ** 2 - 1),
        ("severed sphere", lambda x: np.sum(x**2, axis=1) - 1),
        ("helix", lambda x: np.exp(4j * np.pi * x[:, 2]) - (x[:, 0] + 1j * x[:, 1])),
        ("moebius band", moebius_equation),
        ("paraboloid-6", lambda x: x[:, 6] - np.sum(x[:, :6] ** 2, axis=1)),
        ("flat torus", lambda x: x[:, :3] ** 2 + x[:, 3:] ** 2 - 1),
        ("rotations", lambda x: np.einsum("nij,nkj->nik", *[x.reshape(-1, 3, 3)] * 2) - np.eye(3)),
        ("rotations", lambda x: np.linalg.det(x.reshape(-1, 3, 3)) - 1),
    ],
)
def test_clean_points_satisfy_the_defining_equation_and_noisy_ones_do_not(name, equation):
    sample = SETS[name].make(200, noise=0.1, random_state=0)
    np.testing.assert_allclose(
        equation(sample.clean), np.zeros_like(equation(sample.clean)), atol=1e-12
    )
    assert np.abs(equation(sample.points)).max() > 0.01


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_sphere_is_uniform(dim):
    x = make_sphere(20000, dim, random_state=0).clean
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(dim + 1) / (dim + 1), atol=0.02)


def test_rotations_are_haar_distributed():
    X = make_rotations(20000, random_state=0).clean
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(X.T @ X / len(X), np.eye(9) / 3, atol=0.02)


@pytest.mark.parametrize("covariance", [2.0, [1.0, 0.25], SIGMA])
def test_gaussian_has_its_covariance(covariance):
    x = make_gaussian(20000, covariance=covariance, random_state=0).clean
    expected = covariance * np.eye(2) if np.ndim(covariance) < 2 else covariance
    np.testing.assert_allclose(np.cov(x.T), expected, atol=0.07)


@pytest.mark.parametrize(
    "make, low, high",
    [
        (make_torus, [0, 0], [2 * np.pi, 2 * np.pi]),
        (make_swiss_roll, [1.5 * np.pi, 0], [4.5 * np.pi, 21]),
        (make_s_curve, [-1.5 * np.pi, 0], [1.5 * np.pi, 2]),
        (make_twin_peaks, [-1, -1], [1, 1]),
        (make_severed_sphere, [0, np.pi / 8], [2 * np.pi - 0.55, 7 * np.pi / 8]),
        (make_helix, [0], [4 * np.pi]),
        (make_moons_curve, [0], [np.pi]),
        (make_moebius_band, [0, -0.5], [2 * np.pi, 0.5]),
        (make_paraboloid, [-1, -1], [1, 1]),
        (make_flat_torus, [0, 0], [2 * np.pi, 2 * np.pi]),
        (make_hypercube, [0, 0], [1, 1]),
        (make_blob_images, [-0.5, -0.5], [0.5, 0.5]),
        (make_stroke_images, [-0.5, -0.5, 0], [0.5, 0.5, np.pi]),
        (partial(make_square_scenes, n_objects=1), [-0.8, -0.8], [0.8, 0.8]),
    ],
)
def test_parameters_are_uniform(make, low, high):
    parameters = make(1000, random_state=0).parameters
    for u, a, b in zip(parameters.T, low, high, strict=False):
        assert kstest(u, "uniform", (a, b - a)).pvalue > 1e-3


@pytest.mark.parametrize("move", [True, False])
def test_objects_of_a_scene_keep_apart_and_stay_in_their_places_unless_they_move(move):
    sample = make_square_scenes(200, n_objects=6, move=move, brighten=True, apart=0.5)
    if not move:
        spread = np.linalg.svd(sample.clean, compute_uv=False)  # six fixed images
        assert spread[5] > 1e-3 * spread[0] and spread[6] < 1e-9 * spread[0]
        return
    centres = sample.parameters.reshape(200, 6, 3)[..., :2]
    gaps = np.linalg.norm(centres[:, :, None] - centres[:, None], axis=-1)
    assert gaps[:, ~np.eye(6, dtype=bool)].min() > 0.5


def test_hole_of_the_swiss_roll_is_the_middle_of_nine_cells_that_are_else_uniform():
    u = make_swiss_roll(8000, hole=True, random_state=0).parameters
    unit = (u - [1.5 * np.pi, 0]) / [3 * np.pi, 21]
    cells = np.histogramdd(unit, bins=3, range=[(0, 1), (0, 1)])[0]
    assert cells[1, 1] == 0 and cells.sum() == 8000
    np.testing.assert_allclose(np.delete(cells.ravel(), 4), 1000, atol=120)  # 4 sigma
    for within in (3 * unit.T) % 1:
        assert kstest(within, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dim, n_features", [(1, 3), (5, 20), (10, 50)])
def test_random_manifold_has_unit_standard_deviation_and_beta_parameters(dim, n_features):
    sample = make_random_manifold(4000, dim, n_features, random_state=2)
    assert sample.clean.std() == pytest.approx(1, abs=0.03)
    assert kstest(sample.parameters[:, 0], "beta", (2, 2)).pvalue > 1e-3


def test_random_manifold_is_the_same_for_every_sample_size_and_noise():
    few = make_random_manifold(10, 2, 5, random_state=0)
    many = make_random_manifold(1000, 2, 5, noise=1.0, random_state=0)
    np.testing.assert_array_equal(few.parameters, many.parameters[:10])
    np.testing.assert_allclose(few.clean, many.clean[:10], rtol=1e-12)


def test_same_integer_in_both_states_does_not_tie_the_points_to_the_manifold():
    sample = make_affine_subspace(100, 1, 100, random_state=0, sample_state=0)
    direction = sample.tangents[0, :, 0]
    assert abs(np.corrcoef(direction, sample.parameters[:, 0])[0, 1]) < 0.3


def test_torus_tangents_on_the_torus_are_the_frames_of_the_sample():
    sample = make_torus(200, major_radius=3, minor_radius=0.5, random_state=0)
    E = torus_tangents(sample.clean, major_radius=3)
    np.testing.assert_allclose(E, sample.tangents, atol=1e-12)


def test_torus_tangents_at_noisy_points_are_normal_to_the_way_from_the_core_circle():
    x = make_torus(20, noise=0.25, random_state=0).points
    E = torus_tangents(x)
    t = np.linspace(0, 2 * np.pi, 100001)
    core = 2 * np.array([np.cos(t), np.sin(t), 0 * t]).T
    nearest = np.array([core[np.argmin(np.sum((core - p) ** 2, axis=1))] for p in x])
    normal = (x - nearest) / np.linalg.norm(x - nearest, axis=1, keepdims=True)
    assert np.abs(np.einsum("nij,ni->nj", E, normal)).max() < 2e-4
    np.testing.assert_allclose(
        E.swapaxes(1, 2) @ E, np.broadcast_to(np.eye(2), (20, 2, 2)), atol=1e-14
    )
    sample = make_torus(20, noise=0.25, random_state=0)
    assert principal_angles(E, sample.tangents).max() > 0.05  # not the truth at the clean point


@pytest.mark.parametrize(
    "points, message",
    [
        (np.ones((5, 4)), r"expected finite points of shape \(n, 3\), got \(5, 4\)"),
        (np.full((5, 3), np.nan), "expected finite points"),
        ([[0.0, 0.0, 1.0]], "no normal at points on its axis or its core circle"),
        ([[2.0, 0.0, 0.0]], "no normal at points on its axis or its core circle"),
    ],
)
def test_torus_tangents_refuse_points_without_a_normal(points, message):
    with pytest.raises(ValueError, match=message):
        torus_tangents(points)


# ------------------------------------------------------------------------------------ photographs


@pytest.mark.parametrize("color, C", [(True, 3), (False, 1)])
def test_patches_are_windows_of_the_photographs_channels_first(color, C):
    pytest.importorskip("PIL")
    photographs = [image / 255 for image in load_sample_images().images]
    X = load_image_patches(5, patch_size=6, color=color, random_state=0)
    for i, row in enumerate(X.reshape(5, C, 6, 6)):
        image = photographs[i >= 3]  # half of each, the first has one more
        channels = image.transpose(2, 0, 1) if color else image.mean(axis=2)[None]
        corners = np.argwhere(np.abs(channels - row[:, :1, :1]).max(axis=0) < 1e-12)
        windows = [channels[:, i : i + 6, j : j + 6] for i, j in corners]
        assert any(w.shape == row.shape and np.allclose(w, row, atol=1e-12) for w in windows)


def test_patches_are_drawn_by_their_random_state_and_refuse_what_does_not_fit():
    pytest.importorskip("PIL")
    first, again, other = (load_image_patches(9, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(ValueError, match="expected patch_size <= 427"):
        load_image_patches(9, patch_size=500)
    with pytest.raises(ValueError, match="expected n_samples to be an integer >= 1"):
        load_image_patches(0)
