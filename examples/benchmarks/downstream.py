"""Digits classified by their five nearest neighbours in an embedding, cross-validated. Run

python examples/benchmarks/downstream.py --workers 2 [--methods alignlearn PCA Isomap]

Embedding and classifier are one Pipeline, so that the embedding is fitted inside each of five folds
and test digits pass through `transform`. Ours with its defaults; peers at every number of
neighbours.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import sklearn
from common import Case, Job, Store, parse_args, run_jobs, settings_of
from embedders import PEERS, available, compile_umap
from embedding_cases import NEIGHBORS, make_digits
from kept_models import (
    FOLDER,
    KeptDiffusion,
    keeping,
    missing_seconds,
    models_option,
    remembered_geometry,
)
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

DIMENSIONS = (2, 5, 8, 10)
CASES = {"digits": Case("digits", "digits", make_digits, 1797)}
METHODS = ("pixels", "PCA", "alignlearn", "Isomap", "LLE", "LTSA", "UMAP")


@dataclass(frozen=True)
class DownstreamJob(Job):
    """A method and a dimension; only ours depends on the settings of our estimator."""

    @property
    def settings(self) -> dict:
        """Data, method and what it is tried with."""
        data = super().settings["data"]
        if self.options["method"] == "alignlearn":
            return {"data": data, **settings_of(self.manifold)}
        return {"data": data, "sklearn": sklearn.__version__, "neighbors": NEIGHBORS}


def embeddings(job: Job):
    """The embeddings to try, by number of neighbours; None where there is no such choice."""
    method, d = job.options["method"], job.options["d"]
    if method == "pixels":
        return {None: "passthrough"}
    if method == "PCA":
        return {None: PCA(d, random_state=job.seed)}
    if method == "alignlearn":
        ours = clone(keeping(job.manifold))
        return {None: ours.set_params(n_components=d, random_state=job.seed)}
    make = PEERS[method]
    return {k: make(n_neighbors=k, n_components=d, random_state=job.seed) for k in NEIGHBORS}


def measure(job: Job, models: Path = FOLDER) -> dict:
    """Mean accuracy over the folds, for every number of neighbours."""
    KeptDiffusion.folder = models
    X, y = job.case.sample(job.seed).points, load_digits().target[: job.case.n]
    folds = StratifiedKFold(5, shuffle=True, random_state=job.seed)
    accuracy, failures = {}, {}
    if job.options["method"] == "UMAP":
        compile_umap()
    start, missing = time.process_time(), 0.0
    with remembered_geometry() as remembered_seconds:
        for k, embedding in embeddings(job).items():
            pipeline = make_pipeline(embedding, KNeighborsClassifier(5))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = cross_validate(
                        pipeline, X, y, cv=folds, error_score="raise", return_estimator=True
                    )
                    accuracy[str(k)] = float(np.mean(found["test_score"]))
                    for fitted in found["estimator"]:
                        missing += missing_seconds(getattr(fitted[0], "model_", None))["cpu"]
                except Exception as error:
                    failures[str(k)] = f"{type(error).__name__}: {error}"
        missing += remembered_seconds()
    return {
        "accuracy": accuracy,
        "failures": failures,
        "cpu_s": time.process_time() - start + missing,
    }


def main(argv=None) -> int:
    own = models_option()
    own.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    args = parse_args(__doc__.splitlines()[0], CASES, 3, argv, own)
    methods = available(args.methods)
    jobs = [
        DownstreamJob(CASES["digits"], seed, args.manifold, {"method": method, "d": d})
        for seed in range(args.seeds)
        for method in methods
        for d in ((64,) if method == "pixels" else DIMENSIONS)
    ]
    store = Store("downstream", args.results)
    failed = run_jobs(partial(measure, models=args.models), jobs, store, workers=args.workers)
    return int(failed > 0 or len(methods) < len(args.methods))


if __name__ == "__main__":
    sys.exit(main())
