"""Trained models kept in files, so that what is read off them can be measured again in seconds."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import joblib
import numpy as np
from common import RESULTS, digest, own_options
from sklearn.base import clone

from alignlearn import LyapunovManifold, coordinates
from alignlearn.datasets import make_torus
from alignlearn.frames import FrameReader
from alignlearn.models import Diffusion

FOLDER = RESULTS.parent / "models"  # not in the repository


def models_option() -> argparse.ArgumentParser:
    """``--models``, for `parse_args`."""
    own = own_options()
    own.add_argument("--models", type=Path, default=FOLDER, help="folder of the trained models")
    return own


@lru_cache(1)
def training_version() -> str:
    """Hash of weights that the training code gives on a probe, a few steps with the defaults.

    The code itself may change without changing them, and models trained by it stay good.
    """
    X = make_torus(150, noise=0.1, random_state=0).points
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = Diffusion(max_iter=10, random_state=0).fit(X).denoiser_.state_dict()
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(name.encode())
        found.update(value.cpu().numpy().tobytes())
    return found.hexdigest()[:10]


class KeptDiffusion(Diffusion):
    """`Diffusion` that is trained once for the same rows, parameters, seed and training code.

    Attributes
    ----------
    training_s_ : dict
        Seconds of the training, on the wall and of CPU, whenever it was.
    loaded_ : bool
        Whether it was earlier than this `fit`.
    """

    folder: Path = FOLDER

    def fit(self, X, y=None):
        """Train on X, or load what was trained on it."""
        X = np.ascontiguousarray(X, dtype=np.float64)
        params = self.get_params(deep=False)
        settings = {k: repr(v) for k, v in params.items() if k not in ("checkpoint", "device")}
        rows = hashlib.sha256(X.tobytes()).hexdigest()
        key = digest([settings, rows, X.shape, training_version()])
        path = self.folder / f"{key}.joblib"
        if path.exists():
            self.__dict__.update(joblib.load(path), loaded_=True)
            return self
        wall, cpu = time.perf_counter(), time.process_time()
        super().fit(X)
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        self.training_s_ = seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")  # whole or not at all
        joblib.dump({name: v for name, v in vars(self).items() if name.endswith("_")}, part)
        part.replace(path)
        self.loaded_ = False
        return self


def missing_seconds(model) -> dict[str, float]:
    """Seconds of training that a timing of this `fit` has missed."""
    return model.training_s_ if getattr(model, "loaded_", False) else {"wall": 0.0, "cpu": 0.0}


def keeping(manifold: LyapunovManifold) -> LyapunovManifold:
    """The same estimator whose model, if it is a `Diffusion`, is kept in a file."""
    model = Diffusion() if manifold.model is None else manifold.model
    if type(model) is not Diffusion:
        return manifold
    training_version()  # now, so that it is not part of any timing
    return clone(manifold).set_params(model=KeptDiffusion(**model.get_params(deep=False)))


class Remembered:
    """A function that computes every answer once in this process.

    Attributes
    ----------
    saved_s : float
        CPU seconds that were not spent again.
    """

    def __init__(self, function: Callable) -> None:
        self.function, self.answers, self.saved_s = function, {}, 0.0

    def __call__(self, *args):
        """The answer, by the content of the arguments."""
        key = joblib.hash(args)
        if key in self.answers:
            self.saved_s += self.answers[key][1]
        else:
            start = time.process_time()
            answer = self.function(*args)
            self.answers[key] = answer, time.process_time() - start
        return self.answers[key][0]


_FRAMES = Remembered(FrameReader.__call__)
_VALLEYS = Remembered(coordinates.density_valley)


@contextmanager
def remembered_geometry() -> Iterator[Callable[[], float]]:
    """Frames and valleys of the same model at the same points are computed once in this process.

    For the same model asked for several numbers of coordinates. Yields a callable that tells the
    CPU seconds which a timing of the block has missed.
    """
    before = _FRAMES.saved_s + _VALLEYS.saved_s
    call, valley = FrameReader.__call__, coordinates.density_valley
    FrameReader.__call__ = lambda reader, *args: _FRAMES(reader, *args)
    coordinates.density_valley = _VALLEYS
    try:
        yield lambda: _FRAMES.saved_s + _VALLEYS.saved_s - before
    finally:
        FrameReader.__call__, coordinates.density_valley = call, valley
