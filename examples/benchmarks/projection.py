"""Noisy points projected onto the manifold: `project` with the defaults, against local PCA.

Local PCA moves a point to its affine plane through the mean of k neighbours, k the best in
hindsight. Distances are to the true manifold and to the own clean point, at training points and at
fresh ones. Run

    python examples/benchmarks/projection.py --workers 2
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import noise_floor
import numpy as np
from common import (
    N_QUERY,
    Case,
    Job,
    Store,
    fit_timed,
    local_pca_planes,
    parse_args,
    rows_of,
    run_jobs,
)
from embedding import root_mean_square
from kept_models import FOLDER, KeptDiffusion, keeping, missing_seconds, models_option
from sklearn.base import clone

from alignlearn.datasets import (
    ManifoldSample,
    make_random_manifold,
    make_swiss_roll,
    make_torus,
)

# --------------------------------------------------------------------------------------- data


def off_torus(points: np.ndarray, sample: ManifoldSample, seed: int) -> np.ndarray:
    """Distance (n,) of points to the torus of radii 2 and 1."""
    x, y, z = points.T
    return np.abs(np.hypot(np.hypot(x, y) - 2, z) - 1)


def off_roll(points: np.ndarray, sample: ManifoldSample, seed: int) -> np.ndarray:
    """Distance (n,) to the Swiss roll: to fine steps along the spiral, and beyond its edges."""
    across = noise_floor.nearest_on_spiral(points[:, [0, 2]])[0]
    return np.hypot(across, points[:, 1] - np.clip(points[:, 1], 0, 21))


def off_random(points: np.ndarray, sample: ManifoldSample, seed: int) -> np.ndarray:
    """Distance (n,) to the random manifold: least squares over its chart."""
    nearest, _ = noise_floor.nearest_on_random(points, sample, seed)
    return np.linalg.norm(points - nearest, axis=1)


@dataclass(frozen=True)
class ProjectionCase(Case):
    """A noisy set with the distance of points to its manifold."""

    distance: Callable[[np.ndarray, ManifoldSample, int], np.ndarray] = off_torus


_random5 = partial(make_random_manifold, dim=5, n_features=20)
CASES = {
    case.name: case
    for case in [
        *(
            ProjectionCase(f"project/torus-{s:g}", f"torus, noise {s:g}", make_torus, 1000, s)
            for s in (0.05, 0.1, 0.25)
        ),
        ProjectionCase(
            "project/roll", "Swiss roll, noise .4", make_swiss_roll, 1500, 0.4, distance=off_roll
        ),
        ProjectionCase(
            "project/random5", "5 in R^20, noise .1", _random5, 3000, 0.1, distance=off_random
        ),
    ]
}


# ------------------------------------------------------------------------------- measurements


def measure(job: Job, models: Path = FOLDER) -> dict:
    """RMS distances before and after each projection."""
    KeptDiffusion.folder = models
    case, n_query = job.case, min(N_QUERY, job.case.n)
    sample, fresh = case.sample(job.seed), case.fresh(job.seed, n_query)
    d = sample.dimension
    manifold = clone(keeping(job.manifold)).set_params(n_components=d)
    m, result = fit_timed(manifold, sample.points, job.seed)
    for kind, seconds in missing_seconds(m.model_).items():
        result["fit_s" if kind == "wall" else "fit_cpu_s"] += seconds
    rows = np.sort(np.random.default_rng(job.seed).permutation(case.n)[:n_query])
    result |= {"d": d, "D": sample.points.shape[1], "n": case.n}
    for name, queries in {"train": rows_of(sample, rows), "fresh": fresh}.items():

        def errors(points, queries=queries):
            off = case.distance(points, queries, job.seed)
            return {
                "manifold": float(np.sqrt(np.mean(off**2))),
                "clean": root_mean_square(points - queries.clean),
            }

        X, pca = queries.points, {}
        for k, (mean, E) in local_pca_planes(sample.points, X, d).items():
            inside = E @ (E.swapaxes(1, 2) @ (X - mean)[..., None])
            pca[k] = errors(mean + inside[..., 0])
        result[name] = {"nothing": errors(X), "ours": errors(m.project(X)), "local_pca": pca}
    return result


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], CASES, 3, argv, models_option())
    jobs = [
        Job(CASES[name], seed, args.manifold) for seed in range(args.seeds) for name in args.cases
    ]
    store = Store("projection", args.results)
    return run_jobs(partial(measure, models=args.models), jobs, store, workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
