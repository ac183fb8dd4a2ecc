"""Tangent error and dimension with the defaults, against baselines that are tuned in hindsight.

Against local PCA at every k and the one-time score Jacobian of the same model at every scale, at
300 training points and 300 fresh points of the same manifold. Run

    python examples/benchmarks/tangents.py --workers 2
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from common import (
    CASES,
    N_QUERY,
    Job,
    Store,
    fit_timed,
    frame_at,
    jacobian_tangents,
    local_pca_tangents,
    parse_args,
    run_jobs,
    scales_of,
    share_right,
)
from kept_models import FOLDER, KeptDiffusion, keeping, missing_seconds, models_option


def measure(job: Job, models: Path = FOLDER) -> dict:
    """Errors in degrees and shares of right dimensions, at training and at fresh points."""
    KeptDiffusion.folder = models
    n_query = min(N_QUERY, job.case.n)
    train, fresh = job.case.sample(job.seed), job.case.fresh(job.seed, n_query)
    m, result = fit_timed(keeping(job.manifold), train.points, job.seed)
    missing = missing_seconds(m.model_)
    result["fit_s"] += missing["wall"]
    result["fit_cpu_s"] += missing["cpu"]
    rows = np.sort(np.random.default_rng(job.seed).permutation(job.case.n)[:n_query])
    truths = {"train": job.case.truth(train)[rows], "fresh": job.case.truth(fresh)}
    queries = {"train": train.points[rows], "fresh": fresh.points}
    d = result["d"] = train.dimension
    result |= {"D": train.points.shape[1], "n_query": n_query}
    for name, X in queries.items():

        def error(vectors, truth=truths[name]):
            return job.case.error(vectors, truth)

        start = time.perf_counter()
        frame = frame_at(m, X)
        frame_s, vectors = time.perf_counter() - start, m.tangent_space(X, d)
        start = time.perf_counter()
        pca = {k: error(E) for k, E in local_pca_tangents(train.points, X, d).items()}
        pca_s, start = time.perf_counter() - start, time.perf_counter()
        jacobian = {s: error(jacobian_tangents(m.model_, X, d, s)) for s in scales_of(m.model_)}
        result[name] = {
            "lyapunov": error(vectors),
            "right": share_right(frame, d),
            "exponents": frame.exponents.mean(axis=0).round(4).tolist(),
            "local_pca": pca,
            "jacobian": jacobian,
            "frame_s": frame_s,
            "local_pca_s": pca_s,
            "jacobian_s": time.perf_counter() - start,
        }
    return result


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], CASES, 5, argv, models_option())
    jobs = [
        Job(CASES[name], seed, args.manifold) for seed in range(args.seeds) for name in args.cases
    ]
    store = Store("tangents", args.results)
    return run_jobs(partial(measure, models=args.models), jobs, store, workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
