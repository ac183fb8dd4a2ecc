"""Time and memory of a frame: in forward passes per tangent column, and how it grows with n, D, k.

Every case runs alone in a process of its own, so that its peak memory is its own; the training does
not matter and is cut short. Run with nothing else on the machine

    python examples/benchmarks/frame_cost.py
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import Case, Job, Store, parse_args, run_jobs
from fresh_process import in_fresh_process, run_script
from sklearn.base import clone

from alignlearn import LyapunovManifold
from alignlearn._arrays import row_chunks
from alignlearn.datasets import make_random_manifold
from alignlearn.derivatives import ALL_COLUMNS, pull_back, push_forward
from alignlearn.models import Diffusion
from alignlearn.tangent import random_frame

# (rows n, features D, columns asked for); up to D = 128 all D columns are carried in any case.
GRID = {
    "n": [(250, 20, 20), (1000, 20, 20), (4000, 20, 20)],
    "D": [(1000, 3, 3), (1000, 20, 20), (1000, 50, 50), (1000, 100, 100)],
    "k": [(1000, 200, 10), (1000, 200, 30)],
}
SHAPES = sorted({shape for shapes in GRID.values() for shape in shapes})
# Images of 28 x 28 and of 32 x 32 x 3 pixels; few rows, so that the data with their true frames fit
# into memory. The time per point does not depend on how many there are.
LARGE = [(100, 784, 30), (100, 3072, 30)]
N_TRAIN_LARGE = 500
NOISE = 0.01  # without it the manifolds span fewer dimensions than D, and the network is smaller
REPEATS = 15


def peak_mb() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def forget_peak() -> None:
    """Let the peak start again from the present memory, where Linux allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def seconds(call) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_here(
    n: int, D: int, k: int, *, n_train: int = 5000, repeats: int = REPEATS, threads: int = 1
) -> dict:
    """Cost of one tangent column and of whole frames of an otherwise default estimator."""
    torch.set_num_threads(threads)
    d = min(10, D - 1)
    sample = make_random_manifold(max(n_train, n), d, D, noise=NOISE, random_state=0)
    model = Diffusion(max_iter=1)
    m = LyapunovManifold(n_components=k, model=model, n_reference=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m.fit(sample.points)
    X = sample.points[:n]
    m.tangent_space(X[:2], k)  # first calls import and compile
    forget_peak()
    before = peak_mb()
    frame_s = seconds(lambda: m.tangent_space(X, k))
    memory = peak_mb() - before

    # The same chunks of rows that LyapunovManifold takes.
    x, flow = m.model_.encode(X), m._reader().flow(m.window_)
    carried = D if D <= ALL_COLUMNS else min(D, k + m.n_oversamples)
    chunks = list(row_chunks(n, m.model_._bytes_per_column() * carried))
    columns = random_frame(x, carried, torch.Generator().manual_seed(0))
    step = flow.step(0)

    def lift(move):
        for chunk in chunks:
            rows = x[chunk]
            move(step, rows, columns.T[:, None, :].expand(carried, *rows.shape).contiguous())

    def forward():
        with torch.no_grad():
            step(x)

    calls = {
        "forward": forward,
        "push": partial(lift, push_forward),
        "pull": partial(lift, pull_back),
    }
    times = {name: [] for name in calls}
    for repeat in range(repeats + 2):  # in turn, so that a busy moment hits all of them
        for name, call in calls.items():
            # A forward pass is short: the mean of several.
            inner = 10 if name == "forward" else 1
            spent = seconds(lambda call=call, inner=inner: [call() for _ in range(inner)]) / inner
            if repeat >= 2:
                times[name].append(spent)
    t = {name: median(values) for name, values in times.items()}
    return {
        "n": n,
        "D": D,
        "columns": carried,
        "threads": threads,
        "width": max(p.shape[0] for p in m.model_.denoiser_.parameters()),
        "n_paths": m.n_paths,
        "n_steps": m.n_steps,
        "chunk_rows": chunks[0].stop,
        "forward_ms": 1e3 * t["forward"],
        "push_per_column": t["push"] / carried / t["forward"],
        "pull_per_column": t["pull"] / carried / t["forward"],
        "spread": float(np.ptp(np.quantile(times["push"], [0.25, 0.75])) / t["push"]),
        "frame_s": frame_s,
        "frame_mb": memory,
        "memory_before_mb": before,
    }


def measure(job: Job) -> dict:
    """`measure_here` in a fresh process."""
    return in_fresh_process(__file__, job.options)


def make_jobs(shapes, manifold: LyapunovManifold, **options) -> list[Job]:
    """One job for every (n, D, k)."""
    jobs = []
    for n, D, k in shapes:
        make = partial(make_random_manifold, dim=min(10, D - 1), n_features=D)
        case = Case(f"n{n}-D{D}-k{k}", f"{n} rows in R^{D}", make, n, NOISE)
        jobs.append(Job(case, 0, clone(manifold), {"n": n, "D": D, "k": k, **options}))
    return jobs


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("all",), 1, argv)
    jobs = make_jobs(SHAPES, args.manifold)
    jobs += make_jobs(LARGE, args.manifold, n_train=N_TRAIN_LARGE)
    return run_jobs(measure, jobs, Store("frame_cost", args.results), workers=1)


if __name__ == "__main__":
    run_script(main, measure_here)
