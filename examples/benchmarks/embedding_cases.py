"""Data sets of the embedding benchmark, their true coordinates, and what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from common import Case
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression
from sklearn.metrics import pairwise_distances

from alignlearn.datasets import (
    ManifoldSample,
    make_random_manifold,
    make_s_curve,
    make_severed_sphere,
    make_swiss_roll,
    make_twin_peaks,
)

# Neighbours of every peer; for each seed and measure the best counts, chosen with the truth.
NEIGHBORS = (5, 8, 10, 12, 15, 20, 30, 50)
N_FRESH = 500  # points that no fit has seen
N_NEAREST = 12  # of trustworthiness and continuity


# --------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class EmbeddingCase(Case):
    """A set with the dimension d of its embeddings and the coordinates that they should show.

    `coordinates` maps the parameters of the sample to them; None where nobody knows them.
    """

    d: int = 2
    coordinates: Callable[[np.ndarray], np.ndarray] | None = np.asarray

    def truth_of(self, sample: ManifoldSample) -> np.ndarray | None:
        """True coordinates (n, p) of a sample."""
        return None if self.coordinates is None else self.coordinates(sample.parameters)


def roll_coordinates(u: np.ndarray) -> np.ndarray:
    """Arc length along the Swiss roll and y: an isometry to the plane."""
    t, y = u.T
    return np.stack([(t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2, y], axis=1)


def make_digits(n_samples, *, noise=0.0, random_state=None, sample_state=None) -> ManifoldSample:
    """Handwritten digits of 8 x 8 pixels, the same for every seed; the truth is not known."""
    X = load_digits().data[:n_samples]
    return ManifoldSample(X, X, np.zeros((*X.shape, 0)), 0, np.zeros((len(X), 0)))


_hole = partial(make_swiss_roll, hole=True)
_random5 = partial(make_random_manifold, dim=5, n_features=20)
_roll = {"coordinates": roll_coordinates}
_digits = {"coordinates": None}

# Noise is .05 of the standard deviation over all entries, as that of the random manifold is .1:
# 7.9 for the Swiss roll, 1.07 for the S-curve, .58 for the peaks and the sphere, 1 by construction.
CASES = {
    case.name: case
    for case in [
        EmbeddingCase("embed/roll", "Swiss roll", make_swiss_roll, 1500, **_roll),
        EmbeddingCase(
            "embed/roll-noisy", "Swiss roll, noise .4", make_swiss_roll, 1500, 0.4, **_roll
        ),
        EmbeddingCase("embed/roll-hole", "Swiss roll with a hole", _hole, 1500, **_roll),
        EmbeddingCase("embed/s-curve", "S-curve", make_s_curve, 1500),
        EmbeddingCase("embed/s-curve-noisy", "S-curve, noise .053", make_s_curve, 1500, 0.053),
        EmbeddingCase("embed/peaks", "twin peaks", make_twin_peaks, 1500),
        EmbeddingCase("embed/peaks-noisy", "twin peaks, noise .029", make_twin_peaks, 1500, 0.029),
        EmbeddingCase("embed/sphere", "severed sphere", make_severed_sphere, 1500),
        EmbeddingCase(
            "embed/sphere-noisy", "severed sphere, noise .029", make_severed_sphere, 1500, 0.029
        ),
        EmbeddingCase("embed/random5", "5 in R^20", _random5, 3000, d=5),
        EmbeddingCase("embed/random5-noisy", "5 in R^20, noise .1", _random5, 3000, 0.1, d=5),
        EmbeddingCase("embed/digits-2", "digits, 2 coordinates", make_digits, 1797, **_digits),
        EmbeddingCase(
            "embed/digits-10", "digits, 10 coordinates", make_digits, 1797, d=10, **_digits
        ),
    ]
}


# ----------------------------------------------------------------------------------- measures


class Neighborhoods:
    """Order of all rows as seen from each row of X.

    Attributes
    ----------
    nearest : ndarray of shape (n, k)
        The k nearest other rows.
    ranks : ndarray of shape (n, n)
        Rank of row j among the neighbours of row i, the nearest is 1.
    """

    def __init__(self, X: np.ndarray, k: int = N_NEAREST) -> None:
        distances = pairwise_distances(X)
        np.fill_diagonal(distances, np.inf)
        order = np.argsort(distances, axis=1)
        self.nearest = order[:, :k]
        self.ranks = np.empty(order.shape, dtype=np.int32)
        np.put_along_axis(self.ranks, order, np.arange(1, len(X) + 1, dtype=np.int32)[None], axis=1)


def trustworthiness(original: Neighborhoods, embedded: Neighborhoods) -> float:
    """Share of embedded neighbours that are neighbours, as `sklearn.manifold.trustworthiness`.

    Venna & Kaski (2001). The other way round, with the arguments exchanged, it is the continuity.
    """
    n, k = embedded.nearest.shape
    ranks = np.take_along_axis(original.ranks, embedded.nearest, axis=1)
    return float(1 - np.maximum(ranks - k, 0).sum() * 2 / (n * k * (2 * n - 3 * k - 1)))


class Task:
    """One sample of a case: fits an embedding to it and says how good it is."""

    def __init__(self, case: EmbeddingCase, seed: int) -> None:
        self.case, self.train = case, case.sample(seed)
        self.fresh = None if case.coordinates is None else case.fresh(seed, N_FRESH)
        self.truth = case.truth_of(self.train)
        self.neighborhoods = {"input": Neighborhoods(self.train.points)}
        if self.truth is not None:
            self.neighborhoods["truth"] = Neighborhoods(self.truth)

    def measure(self, fit: Callable) -> dict:
        """Scores of ``fit(X) -> (estimator, embedding of X)`` and of `transform` at fresh points.

        Returns
        -------
        scores : dict
            ``r2`` and ``r2_fresh`` of the linear map from the embedding to the true coordinates
            that fits the training points best, mean over the coordinates; trustworthiness and
            continuity with respect to the points as given, ``..._input``, and to the true
            coordinates, ``..._truth``; seconds.
        """
        start = _now()
        estimator, embedding = fit(self.train.points)
        scores = {"fit_s": _since(start)}
        embedded = Neighborhoods(_finite(embedding))
        for name, original in self.neighborhoods.items():
            scores[f"trustworthiness_{name}"] = trustworthiness(original, embedded)
            scores[f"continuity_{name}"] = trustworthiness(embedded, original)
        if self.fresh is not None:
            line = LinearRegression().fit(embedding, self.truth)
            scores["r2"] = float(line.score(embedding, self.truth))
            start = _now()
            Y = _finite(estimator.transform(self.fresh.points))
            scores |= {"transform_s": _since(start)}
            scores["r2_fresh"] = float(line.score(Y, self.case.truth_of(self.fresh)))
        return scores


def _finite(Y: np.ndarray) -> np.ndarray:
    if not np.isfinite(Y).all():
        raise ValueError("the embedding is not finite.")
    return np.asarray(Y, dtype=float)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float]) -> dict[str, float]:
    """Seconds on the wall and of CPU."""
    wall, cpu = _now()
    return {"wall": wall - start[0], "cpu": cpu - start[1]}
