"""The data of the dimension benchmark, and the two estimates that need nothing but a score.

Three suites: the 24 sets of scikit-dimension, the data of ID-DIFF (Stanczuk et al. 2024) and the
mixture of FLIPD (Kamkari et al. 2024), the latter two as in the code that the authors published.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from typing import NamedTuple

import common
import numpy as np
import torch
from common import Case

from alignlearn.datasets import make_sphere
from alignlearn.derivatives import divergence

# Of skdim.datasets.BenchmarkManifolds; written out, so that the cases have names without it.
MANIFOLDS = (
    "M1_Sphere",
    "M2_Affine_3to5",
    "M3_Nonlinear_4to6",
    "M4_Nonlinear",
    "M5a_Helix1d",
    "M5b_Helix2d",
    "M6_Nonlinear",
    "M7_Roll",
    "M8_Nonlinear",
    "M9_Affine",
    "M10a_Cubic",
    "M10b_Cubic",
    "M10c_Cubic",
    "M10d_Cubic",
    "M11_Moebius",
    "M12_Norm",
    "M13a_Scurve",
    "M13b_Spiral",
    "Mbeta",
    "Mn1_Nonlinear",
    "Mn2_Nonlinear",
    "Mp1_Paraboloid",
    "Mp2_Paraboloid",
    "Mp3_Paraboloid",
)
SIZES = (1000, 2500)


class DimensionSample(NamedTuple):
    """Points (n, D) and the dimension at each of them (n,), or one for all; no frames."""

    points: np.ndarray
    dimension: np.ndarray | int


# --------------------------------------------------------------------------------------- data


def make_benchmark_manifold(n_samples, *, name, noise=0.0, random_state=None):
    """One set of ``BenchmarkManifolds(random_state).generate(n)``, as if all 24 were drawn."""
    from skdim.datasets import BenchmarkManifolds

    suite = BenchmarkManifolds(random_state=random_state)
    points = suite.generate(n=n_samples)[name]
    d = int(suite.truth.loc[name, "Intrinsic Dimension"])
    return DimensionSample(_noisy(points, noise, np.random.default_rng(random_state)), d)


def make_spaghetti(n_samples, *, n_features=100, noise=0.0, random_state=None):
    """ID-DIFF's line: ``x_k = sin(k t)``, k = 1 .. n_features, t uniform on [0, 1)."""
    rng = np.random.default_rng(random_state)
    x = np.sin(rng.uniform(size=(n_samples, 1)) * np.arange(1, n_features + 1))
    return DimensionSample(_noisy(x, noise, rng), 1)


def make_squares(n_samples, *, n_objects=10, image_size=32, noise=0.0, random_state=None):
    """ID-DIFF's squares: a fixed set of squares, the brightness of each uniform on [0, 1).

    Sides 3 or 5 pixels; brightness adds up where squares overlap, so the set is a cube of
    dimension `n_objects` in a linear subspace. ID-DIFF draws the squares independently; here no
    square comes twice, which would lower the dimension.
    """
    rng = np.random.default_rng(random_state)
    chosen: dict[tuple, np.ndarray] = {}
    while len(chosen) < n_objects:
        side = int(rng.choice([3, 5]))
        half = side // 2
        row, column = rng.integers(half + 1, image_size - half - 1, size=2)
        image = np.zeros((image_size, image_size))
        image[row - half : row + half + 1, column - half : column + half + 1] = 1
        chosen[side, int(row), int(column)] = image.ravel()
    x = rng.uniform(size=(n_samples, n_objects)) @ np.array(list(chosen.values()))
    return DimensionSample(_noisy(x, noise, rng), n_objects)


def make_blobs(n_samples, *, n_objects=10, image_size=32, noise=0.0, random_state=None):
    """ID-DIFF's Gaussian blobs: fixed centres at different pixels, each width varies.

    Widths s are uniform on [1, 5) pixels, amplitudes ``1 / s``; the blobs are added and each image
    is scaled to [0, 1]. Dimension `n_objects`.
    """
    rng = np.random.default_rng(random_state)
    centres = rng.choice(image_size**2, size=n_objects, replace=False)
    pixels = np.indices((image_size, image_size)).reshape(2, -1)
    squares = ((pixels[:, None] - pixels[:, centres, None]) ** 2).sum(axis=0)  # (objects, pixels)
    x = np.zeros((n_samples, image_size**2))
    for square in squares:
        s = rng.uniform(1, 5, size=(n_samples, 1))
        x += np.exp(-square / (2 * s**2)) / s
    x -= x.min(axis=1, keepdims=True)
    x /= x.max(axis=1, keepdims=True)
    return DimensionSample(_noisy(x, noise, rng), n_objects)


def make_mixture(n_samples, *, dims=(10, 30, 90), n_features=100, noise=0.0, random_state=None):
    """FLIPD's affine mixture: pieces of dimensions `dims`, equally likely.

    ``x = m_j + Q_j u``, u uniform on ``[-1, 1)^d_j``, Q_j random orthonormal, the m_j corners of a
    simplex with edges of length 10; then every coordinate is scaled to mean 0 and variance 1.
    """
    rng = np.random.default_rng(random_state)
    piece = rng.integers(len(dims), size=n_samples)
    x = np.zeros((n_samples, n_features))
    for j, d in enumerate(dims):
        Q = np.linalg.qr(rng.standard_normal((n_features, d))).Q
        rows = piece == j
        x[rows] = rng.uniform(-1, 1, size=(rows.sum(), d)) @ Q.T
        x[rows, j] += 10 / np.sqrt(2)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return DimensionSample(_noisy(x, noise, rng), np.asarray(dims)[piece])


def _noisy(x, noise, rng):
    return x + noise * rng.standard_normal(x.shape)


def truth(sample) -> np.ndarray:
    """Dimension at every point, (n,)."""
    return np.broadcast_to(np.asarray(sample.dimension), len(sample.points))


def _cases() -> list[Case]:
    cases = [
        Case(f"bm/{name}/{n}", name, partial(make_benchmark_manifold, name=name), n)
        for n in SIZES
        for name in MANIFOLDS
    ]
    for d in (10, 50):
        make = partial(make_sphere, dim=d, n_features=100)
        cases.append(Case(f"iddiff/sphere{d}", f"{d}-sphere in R^100", make, 5000))
    cases.append(Case("iddiff/spaghetti", "spaghetti line in R^100", make_spaghetti, 5000))
    for name, make in [("squares", make_squares), ("blobs", make_blobs)]:
        for d in (10, 20, 100):
            title = f"{d} {name}, 32 x 32"
            cases.append(Case(f"iddiff/{name}{d}", title, partial(make, n_objects=d), 5000))
    cases.append(Case("mixture", "10 + 30 + 90 in R^100", make_mixture, 5000))
    return cases


CASES = {case.name: case for case in _cases()}


def parse_args(description: str, n_seeds: int, argv=None, own=None):
    """`common.parse_args` with cases named by patterns, such as ``--cases 'bm/*/1000' mixture``."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--cases", nargs="+", default=["*"])
    chosen, rest = first.parse_known_args(argv)
    names = [name for name in CASES if any(fnmatch(name, pattern) for pattern in chosen.cases)]
    if not names:
        first.error(f"no case matches {chosen.cases}; there are {', '.join(CASES)}")
    return common.parse_args(description, names, n_seeds, rest, own)


# ------------------------------------------------------------- estimates from a score alone


def flipd(model, X: np.ndarray, s: float, *, n_rows: int = 25) -> np.ndarray:
    """FLIPD (Kamkari et al. 2024) at the rows of X and noise s: ``D + d log p_s(x) / d log s``.

    By the heat equation ``D + s^2 (div score + |score|^2)``, and with ``score = (Den - x) / s^2``,

        tr(d Den / dx) + |Den - x|^2 / s^2.

    The trace is exact.

    Returns
    -------
    dimension : ndarray of shape (n,)
    """
    x, denoise = model.encode(X), model.denoiser()
    level = torch.tensor(s, dtype=x.dtype, device=x.device)
    probes = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    parts = []
    with torch.no_grad():
        for y in x.split(n_rows):
            trace = divergence(lambda v: denoise(v, level), y, probes)
            parts.append(trace + (denoise(y, level) - y).double().square().sum(1) / s**2)
    return torch.cat(parts).cpu().numpy()


def normal_bundle(model, X: np.ndarray, s: float, *, seed: int = 0) -> np.ndarray:
    """ID-DIFF (Stanczuk et al. 2024, algorithm 1) at the rows of X and noise s.

    The scores at 4 D noised copies ``x + s z`` of each row span the normal space: D minus the
    place of the largest difference between consecutive singular values. Their mean is subtracted
    as in the authors' code, not in the paper: a mean along the manifold would count as normal.

    Returns
    -------
    dimension : ndarray of shape (n,), int
    """
    x, denoise = model.encode(X), model.denoiser()
    D = x.shape[1]
    level = torch.tensor(s, dtype=x.dtype, device=x.device)
    generator = torch.Generator().manual_seed(seed)
    dimensions = []
    for row in x:
        noise = torch.randn(4 * D, D, generator=generator, dtype=torch.float64).to(x)
        y = row + s * noise
        with torch.no_grad():
            scores = (denoise(y, level) - y).double() / s**2  # (4 D, D)
        scores = scores - scores.mean(dim=0)
        squares = torch.linalg.eigvalsh(scores.mT @ scores).clamp(min=0).flip(0)
        values = squares.sqrt()
        dimensions.append(D - 1 - int((values[:-1] - values[1:]).argmax()))
    return np.array(dimensions)


ESTIMATES: dict[str, Callable] = {"flipd": flipd, "normal_bundle": normal_bundle}
