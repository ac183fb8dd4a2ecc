"""Intrinsic dimension with the defaults; FLIPD's and ID-DIFF's estimates on the same models. Run

python examples/benchmarks/dimension.py --workers 2 [--cases 'bm/*/1000' mixture]
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from common import N_QUERY, Job, Store, fit_timed, run_jobs, scales_of
from dimension_cases import CASES, ESTIMATES, parse_args, truth
from kept_models import FOLDER, KeptDiffusion, keeping, missing_seconds, models_option

MANY_FEATURES = 128  # beyond, everything is measured at fewer points
N_QUERY_MANY = 100
N_POINTS = {"flipd": (300, 50), "normal_bundle": (50, 10)}  # up to MANY_FEATURES, and beyond


def query_rows(n: int, D: int, seed: int) -> np.ndarray:
    """Training points at which dimensions are compared, the same for all estimators."""
    n_query = min(n, N_QUERY if D <= MANY_FEATURES else N_QUERY_MANY)
    return np.random.default_rng(seed).permutation(n)[:n_query]


def describe(sample) -> dict:
    """What is true: the dimensions that occur, and the number of features."""
    return {"d": np.unique(truth(sample)).tolist(), "D": sample.points.shape[1]}


def measure(job: Job, models: Path = FOLDER) -> dict:
    """Our dimension of the sample and at points, and both estimates at every noise level."""
    KeptDiffusion.folder = models
    sample = job.case.sample(job.seed)
    m, result = fit_timed(keeping(job.manifold), sample.points, job.seed)
    missing = missing_seconds(m.model_)
    result["fit_s"] += missing["wall"]
    result["fit_cpu_s"] += missing["cpu"]
    result |= describe(sample)
    D = result["D"]
    rows = query_rows(len(sample.points), D, job.seed)
    X, d = sample.points[rows], truth(sample)[rows]
    start = time.process_time()
    pointwise = m.dimension(X)
    result |= {
        "n_query": len(rows),
        "right": float(np.mean(pointwise == d)),
        "mae": float(np.mean(np.abs(pointwise - d))),
        "pointwise_cpu_s": time.process_time() - start,
        "window": list(m.window_),
        "exponents": np.round(m.exponents_, 4).tolist(),
    }
    for name, estimate in ESTIMATES.items():
        n_points = N_POINTS[name][D > MANY_FEATURES]
        start = time.process_time()
        found = {s: estimate(m.model_, X[:n_points], s) for s in scales_of(m.model_)}
        result[name] = {
            s: {
                "mean": float(np.mean(values)),
                "median": float(np.median(values)),
                "mae": float(np.mean(np.abs(values - d[:n_points]))),
            }
            for s, values in found.items()
        }
        result[f"{name}_cpu_s"] = time.process_time() - start
    return result


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], 3, argv, models_option())
    jobs = [
        Job(CASES[name], seed, args.manifold) for seed in range(args.seeds) for name in args.cases
    ]
    store = Store("dimension", args.results)
    return run_jobs(partial(measure, models=args.models), jobs, store, workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
