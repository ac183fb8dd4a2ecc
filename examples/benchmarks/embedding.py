"""Embeddings by `LyapunovManifold` with its defaults, on the data and by the measures of the peers.

Also what is lost on the way there and back: ``inverse_transform(transform(X))`` against X. Run

    python examples/benchmarks/embedding.py --workers 2

Trained models are kept in `kept_models.FOLDER`; their training is charged to every row.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from common import Job, Store, parse_args, run_jobs
from embedding_cases import CASES, Task
from kept_models import FOLDER, KeptDiffusion, keeping, missing_seconds, models_option
from sklearn.base import clone

from alignlearn import LyapunovManifold


def root_mean_square(difference: np.ndarray) -> float:
    """Of the lengths of the rows."""
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=1))))


def round_trip(m: LyapunovManifold, points: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """RMS distance of ``inverse_transform(transform(points))`` to the points and to the clean."""
    back = m.inverse_transform(m.transform(points))
    return {"points": root_mean_square(back - points), "clean": root_mean_square(back - clean)}


def measure(job: Job, models: Path = FOLDER) -> dict:
    """Scores of the embedding; the error of the way back; what the estimator says of itself."""
    KeptDiffusion.folder = models
    task = Task(job.case, job.seed)
    m = clone(keeping(job.manifold)).set_params(random_state=job.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = task.measure(lambda X: (m, m.fit_transform(X)))
    for kind, seconds in missing_seconds(m.model_).items():
        scores["fit_s"][kind] += seconds
    X = task.train.points
    result = {
        "n": job.case.n,
        "d": job.case.d,
        "D": X.shape[1],
        "spread": float(np.sqrt(X.var(axis=0).mean())),
        "scores": scores,
        "dimension": m.dimension_,
        "noise_level": m.noise_level_,
        "warnings": sorted({str(w.message) for w in caught}),
        "round_trip": {"train": round_trip(m, X, task.train.clean)},
    }
    if task.fresh is not None:
        result["round_trip"]["fresh"] = round_trip(m, task.fresh.points, task.fresh.clean)
    return result


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], CASES, 3, argv, models_option())
    jobs = [
        Job(CASES[name], seed, clone(args.manifold).set_params(n_components=CASES[name].d))
        for seed in range(args.seeds)
        for name in args.cases
    ]
    store = Store("embedding", args.results)
    return run_jobs(partial(measure, models=args.models), jobs, store, workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
