"""Which frames to take by default: process, paths and window, all on the same fitted models.

The probability-flow ODE and reverse diffusion with inverted, frozen noise averaged over 1, 4, 8 or
16 paths; windows that end at s_min = .02 or .05 and start at 3 or 10 times that or at the largest
noise; the paper's one-pass QR sweep; the one-time score Jacobian, plain and averaged over noised
copies, as what remains without a flow. Development seeds, apart from those of tangents.py. Run

    python examples/benchmarks/extraction.py --workers 2
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import torch
from common import (
    CASES,
    MAIN,
    Job,
    Store,
    fit_timed,
    frame_at,
    jacobian_tangents,
    parse_args,
    run_jobs,
    share_right,
)

from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion
from alignlearn.tangent import qr_sweep

N_POINTS = 250  # training points at which the variants are compared
SEEDS = (100, 101)
S_MIN = (0.02, 0.05)
RATIOS = (3.0, 10.0, math.inf)  # s_max / s_min; inf is the whole run
N_PATHS = (1, 4, 8, 16)
JACOBIAN_SCALES = (0.02, 0.05, 0.1, 0.2, 0.5)
STEPS_PER_DECADE = 8


def variants(whole: float) -> list[dict]:
    """Options of every frame compared; `whole` is the model's largest noise level."""
    found = []
    for s_min in S_MIN:
        for ratio in RATIOS:
            s_max = min(ratio * s_min, whole)
            window = {"s_min": s_min, "ratio": "whole" if math.isinf(ratio) else int(ratio)}
            n_steps = max(4, math.ceil(STEPS_PER_DECADE * math.log10(s_max / s_min) - 1e-9))
            window |= {"s_max": s_max, "n_steps": n_steps}
            found.append({"process": "ODE", **window})
            # Over the whole run only the ends of the list: the paths are long.
            paths = (1, 8) if math.isinf(ratio) else N_PATHS
            found += [
                {"process": f"SDE, {p} path{'s' * (p > 1)}", "n_paths": p, **window} for p in paths
            ]
            if s_min == S_MIN[0] and ratio > 3:
                found += [{"process": f"QR sweep, {kind}", **window} for kind in ("ODE", "SDE")]
    return found


def sweep_vectors(m, x: torch.Tensor, options: dict, d: int, seed: int) -> np.ndarray:
    """The paper's sweep with d columns (more would not change the first d) on one trajectory."""
    schedule = VarianceExploding(*m.model_.noise_range_)
    stochastic = options["process"].endswith("SDE")
    solver = ReverseDiffusion(schedule) if stochastic else ExponentialMidpoint(schedule)
    window, n_steps = (options["s_min"], options["s_max"]), options["n_steps"]
    flow = m.model_.flow(solver=solver, n_steps=n_steps, window=window)
    generator = torch.Generator().manual_seed(seed)
    noising = None
    if stochastic:
        shape = (n_steps, 1, x.shape[1])
        noising = torch.randn(shape, generator=generator, dtype=torch.float64).to(x)
    with torch.no_grad():
        trajectory = flow.trajectory(x, noising)
    return qr_sweep(flow, trajectory, d, generator=generator).vectors.double().cpu().numpy()


def measure(job: Job) -> dict:
    """Error, share of right dimensions and seconds of every variant on one fitted model."""
    n_points = min(N_POINTS, job.case.n)
    sample = job.case.sample(job.seed)
    m, result = fit_timed(job.manifold, sample.points, job.seed)
    rows = np.sort(np.random.default_rng(job.seed).permutation(job.case.n)[:n_points])
    X, truth, d = sample.points[rows], job.case.truth(sample)[rows], sample.dimension
    x, ode = m.model_.encode(X), ExponentialMidpoint(VarianceExploding(*m.model_.noise_range_))
    result["variants"] = []

    def note(options, vectors, start, right=None):
        seconds = time.perf_counter() - start
        error = job.case.error(vectors[..., :d], truth)
        outcome = {"error": error, "right": right, "seconds": seconds, "n": n_points}
        result["variants"].append({**options, **outcome})

    for options in [{"process": "default"}, *variants(m.model_.noise_range_[1])]:
        start = time.perf_counter()
        if options["process"].startswith("QR"):
            note(options, sweep_vectors(m, x, options, d, job.seed), start)
            continue
        if options["process"] != "default":
            m.set_params(
                solver=ode if options["process"] == "ODE" else None,
                n_paths=options.get("n_paths", 1),
                n_steps=options["n_steps"],
                window=(options["s_min"], options["s_max"]),
            )
        frame = frame_at(m, X)
        note(options, frame.vectors, start, share_right(frame, d))
    for n_draws in (0, 8):
        name = f"Jacobian, mean of {n_draws} noised copies" if n_draws else "Jacobian, at the point"
        for s in JACOBIAN_SCALES:
            start = time.perf_counter()
            vectors = jacobian_tangents(m.model_, X, d, s, n_draws=n_draws, seed=job.seed)
            note({"process": name, "s": s}, vectors, start)
    return result


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], MAIN, len(SEEDS), argv)
    jobs = [
        Job(CASES[name], seed, args.manifold)
        for seed in range(SEEDS[0], SEEDS[0] + args.seeds)
        for name in args.cases
    ]
    return run_jobs(measure, jobs, Store("extraction", args.results), workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
