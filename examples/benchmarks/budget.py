"""Accuracy against the training budget: what raising `max_iter` buys, on clean and noisy data.

Everything but `max_iter` stays at its default; 300 training points, the true d for the angles. Run

    python examples/benchmarks/budget.py --workers 2
"""

from __future__ import annotations

import sys

from common import CASES, Job, Store, parse_args, run_jobs
from networks import measure  # error and share of right dimensions at training points

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion

BUDGETS = (750, 1500, 3000, 6000, 12000)
SETS = ("random5", "random10", "random5-noisy", "random10-noisy")


def make_jobs(cases, seeds, budgets, manifold: LyapunovManifold) -> list[Job]:
    """One job for every budget, short ones first."""
    jobs = []
    for max_iter in budgets:
        model = Diffusion() if manifold.model is None else manifold.model
        model = Diffusion(**model.get_params(deep=False)).set_params(max_iter=max_iter)
        params = manifold.get_params(deep=False) | {"model": model}
        for seed in seeds:
            for case in cases:
                jobs.append(Job(case, seed, LyapunovManifold(**params), {"max_iter": max_iter}))
    return jobs


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], SETS, 3, argv)
    budgets = BUDGETS if args.max_iter is None else (args.max_iter,)
    cases = [CASES[name] for name in args.cases]
    jobs = make_jobs(cases, range(args.seeds), budgets, args.manifold)
    return run_jobs(measure, jobs, Store("budget", args.results), workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
