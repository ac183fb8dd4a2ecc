"""Trained models kept in files, so that what is read off them can be measured again in seconds."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import joblib
import numpy as np
from common import RESULTS, code_version, digest
from sklearn.base import clone

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion

FOLDER = RESULTS.parent / "models"  # not in the repository

# What decides the weights besides data, parameters and seed.
TRAINING_CODE = (
    "_arrays.py",
    "gaussian.py",
    "models/base.py",
    "models/diffusion.py",
    "networks.py",
    "training.py",
)


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
        settings = {name: repr(value) for name, value in self.get_params(deep=False).items()}
        rows = hashlib.sha256(X.tobytes()).hexdigest()
        key = digest([settings, rows, X.shape, code_version(TRAINING_CODE)])
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
    return clone(manifold).set_params(model=KeptDiffusion(**model.get_params(deep=False)))
