"""Write the files that must load for ever: ``python tests/data/make_saved.py``, once per version.

A manifold that holds as many of the library's own classes as fit in a few kB, and its answers.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from alignlearn import LyapunovManifold, save
from alignlearn.datasets import make_sphere
from alignlearn.models import Diffusion
from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import ExponentialMidpoint

FOLDER = Path(__file__).parent

if __name__ == "__main__":
    plane = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 3))).Q
    X = make_sphere(200, 2, random_state=0).points @ plane.T
    model = Diffusion(width=8, n_blocks=1, n_estimators=2, max_iter=300)
    solver = ExponentialMidpoint(VarianceExploding(0.01, 20.0))
    manifold = LyapunovManifold(model=model, solver=solver, n_reference=20, random_state=0).fit(X)
    coordinates = manifold.transform(X[:5])
    save(manifold, FOLDER / "manifold-0.1.safetensors")
    answers = {
        "X": X[:5],
        "dimension": np.array(manifold.dimension_),
        "spectrum": manifold.exponents_,
        "exponents": manifold.lyapunov_exponents(X[:5]),
        "log_density": manifold.score_samples(X[:5]),
        "sample": manifold.sample(3),
        "coordinates": coordinates,
    }
    save_file(answers, FOLDER / "answers-0.1.safetensors")
