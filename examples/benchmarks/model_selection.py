"""Selecting models without the truth: do scores on held-out rows find the most accurate tangents?

The same data are fitted by several small networks and budgets. Every fit is scored at 150 fresh
points, which need no truth, and its tangent error there is measured with it. Run

    python examples/benchmarks/model_selection.py --workers 2
"""

from __future__ import annotations

import sys
from functools import partial
from statistics import median

import numpy as np
from common import Case, Job, Store, fit_timed, parse_args, run_jobs
from formats import by_case, number, spread
from formats import table as markdown
from scipy.stats import spearmanr

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_random_manifold, make_swiss_roll, make_torus
from alignlearn.metrics import largest_angle
from alignlearn.models import Diffusion
from alignlearn.scoring import (
    alignment_score,
    denoising_score,
    dimension_score,
    log_likelihood_score,
)

CASES = {
    case.name: case
    for case in [
        Case("selection/torus", "torus in R^3, noise .1", make_torus, 400, 0.1, is_torus=True),
        Case(
            "selection/roll",
            "swiss roll, clean",
            make_swiss_roll,
            400,
            angle=largest_angle,
        ),
        Case(
            "selection/random3",
            "3 in R^10, noise .05",
            partial(make_random_manifold, dim=3, n_features=10),
            500,
            0.05,
        ),
    ]
}
# (max_iter, width, n_estimators); the largest budget comes last.
CONFIGURATIONS = (
    (60, 32, 1),
    (200, 64, 1),
    (200, 32, 2),
    (600, 16, 1),
    (700, 64, 1),
)
N_FRESH = 150
SCORES = {
    "denoising_score": denoising_score,
    "log_likelihood_score": log_likelihood_score,
    "alignment_score": alignment_score,
    "dimension_score": dimension_score,
}


def make_jobs(cases, seeds, configurations) -> list[Job]:
    """One job for every configuration."""
    jobs = []
    for seed in seeds:
        for case in cases:
            for max_iter, width, n_estimators in configurations:
                options = {"max_iter": max_iter, "width": width, "n_estimators": n_estimators}
                manifold = LyapunovManifold(model=Diffusion(**options), n_paths=4, n_reference=40)
                jobs.append(Job(case, seed, manifold, options))
    return jobs


def measure(job: Job) -> dict:
    """Scores and true error at fresh points."""
    sample, fresh = job.case.sample(job.seed), job.case.fresh(job.seed, N_FRESH)
    m, result = fit_timed(job.manifold, sample.points, job.seed)
    vectors = m.tangent_space(fresh.points, sample.dimension)
    result["error"] = job.case.error(vectors, job.case.truth(fresh))
    result["scores"] = {name: score(m, fresh.points) for name, score in SCORES.items()}
    return result


def agreement(scores: list[float], errors: list[float]) -> tuple[float, float]:
    """Rank correlation of scores and accuracy (0 if all scores are equal), and the regret.

    The regret is the error of the model with the best score, the mean of them in a tie, less that
    of the best model.
    """
    scores, errors = np.asarray(scores), np.asarray(errors)
    constant = np.ptp(scores) == 0 or np.ptp(errors) == 0
    correlation = 0.0 if constant else float(spearmanr(scores, -errors).statistic)
    return correlation, float(errors[scores == scores.max()].mean() - errors.min())


def selection_table(records: list[dict]) -> str:
    """Rank correlation and regret of every score, over the configurations of a data set."""
    rows = []
    for group in by_case(records).values():
        by_seed: dict[int, list[dict]] = {}
        for record in group:
            by_seed.setdefault(record["seed"], []).append(record)
        fits = [[r["result"] for r in fits] for fits in by_seed.values()]
        errors = [[x["error"] for x in results] for results in fits]
        largest = [
            max(fits, key=lambda r: r["options"]["max_iter"])["result"]["error"]
            for fits in by_seed.values()
        ]
        lowest = [min(values) for values in errors]
        rules = {
            name: [
                agreement([x["scores"][name] for x in results], values)
                for results, values in zip(fits, errors, strict=True)
            ]
            for name in SCORES
        }
        rows.append(
            [
                group[0]["title"],
                group[0]["settings"]["data"]["n"],
                f"{number(median(lowest))} to {number(median(map(max, errors)))}",
                *(
                    f"{median(c for c, _ in found):.2f} ({min(c for c, _ in found):.2f}); "
                    f"{spread([regret for _, regret in found])}"
                    for found in rules.values()
                ),
                spread([e - low for e, low in zip(largest, lowest, strict=True)]),
                spread([float(np.mean(e)) - low for e, low in zip(errors, lowest, strict=True)]),
            ]
        )
    header = ["data", "n", "best to worst model", *(f"`{name}`" for name in SCORES)]
    header += ["largest `max_iter`: regret", "any: mean regret"]
    return markdown(header, rows)


SELECTION_TABLES = {"model-selection": ("model_selection", selection_table)}


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], CASES, 3, argv)
    configurations = CONFIGURATIONS
    if args.max_iter is not None:
        configurations = [(args.max_iter, 8, 1), (args.max_iter + 1, 8, 1)]
    jobs = make_jobs([CASES[name] for name in args.cases], range(args.seeds), configurations)
    store = Store("model_selection", args.results)
    return run_jobs(measure, jobs, store, workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
