"""The frame against the code one would write first: a Jacobian per point and step, multiplied.

The obvious code loops over points, paths and steps, takes the whole Jacobian of the solver step
with `torch.func.jacrev` and multiplies; one rung up, `vmap` does that for many points at once. All
three follow the very trajectories that `LyapunovManifold` took and end in the same mean over paths,
so that they must agree; only ours also pays for the trajectories. Beside them what a forward pass
for every column takes. One thread, a lightly trained model. The loop is timed at a few points and
scaled to all of them, which the record says. Run with nothing else on the machine

    python examples/benchmarks/frame_speed.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median
from unittest import mock

import numpy as np
import torch
from common import CASES, Job, Store, fit_timed, parse_args, run_jobs
from torch import Tensor

import alignlearn.frames
from alignlearn import LyapunovManifold
from alignlearn._arrays import torch_threads
from alignlearn.flow import Flow, Trajectory
from alignlearn.metrics import principal_angles
from alignlearn.models import Diffusion
from alignlearn.tangent import LyapunovFrame

N_POINTS, N_OBVIOUS = 1000, 20
MAX_ITER = 200  # the training matters only in that the spectrum must not be that of a random net
REPEATS = 3


@contextmanager
def recorded():
    """List of the (flow, trajectories) of every frame taken inside, in the library's row chunks."""
    calls: list[tuple[Flow, list[Trajectory]]] = []
    library = alignlearn.frames.lyapunov_frame

    def record(flow, trajectories, *args, **kwargs):
        calls.append((flow, list(trajectories)))
        return library(flow, calls[-1][1], *args, **kwargs)

    with mock.patch.object(alignlearn.frames, "lyapunov_frame", record):
        yield calls


def row_step(flow: Flow, i: int) -> Callable[[Tensor], Tensor]:
    """Step i of a single row (D,)."""
    return lambda x: flow.step(i)(x[None])[0]


def mean_frame(dF: Tensor, elapsed: float) -> tuple[Tensor, Tensor]:
    """Frame of the log-Euclidean mean of ``dF dF^T`` over paths, dF (P, n, D, D)."""
    U, S, _ = torch.linalg.svd(dF.double())
    mean = (U * (S.log() / elapsed)[..., None, :] @ U.mT).mean(0)
    exponents, vectors = torch.linalg.eigh(mean)
    return vectors.flip(-1), exponents.flip(-1)


def obvious_frame(flow: Flow, trajectories: list[Trajectory]) -> tuple[Tensor, Tensor]:
    """A Python loop over points, paths and steps with a whole Jacobian in each."""
    n, D = trajectories[0].states.shape[1:]
    frames = []
    for row in range(n):
        paths = []
        for trajectory in trajectories:
            dF = torch.eye(D).to(trajectory.states)
            for i in range(flow.n_steps):
                dF = torch.func.jacrev(row_step(flow, i))(trajectory.states[i, row]) @ dF
            paths.append(dF[None])
        frames.append(mean_frame(torch.stack(paths), flow.elapsed))
    vectors, exponents = zip(*frames, strict=True)
    return torch.cat(vectors), torch.cat(exponents)


def batched_frame(flow: Flow, trajectories: list[Trajectory]) -> tuple[Tensor, Tensor]:
    """The same with all rows at once: `vmap` of `jacrev`."""
    paths = []
    for trajectory in trajectories:
        n, D = trajectory.states.shape[1:]
        dF = torch.eye(D).to(trajectory.states).expand(n, D, D)
        for i in range(flow.n_steps):
            jacobian = torch.func.vmap(torch.func.jacrev(row_step(flow, i)))
            dF = jacobian(trajectory.states[i]) @ dF
        paths.append(dF)
    return mean_frame(torch.stack(paths), flow.elapsed)


def forward_passes(flow: Flow, trajectories: list[Trajectory]) -> None:
    """Every step of every path without a derivative, each row as often as it has columns."""
    with torch.no_grad():
        for trajectory in trajectories:
            for i, x in enumerate(trajectory.states[: flow.n_steps]):
                flow.step(i)(x.repeat_interleave(x.shape[1], dim=0))


def timed(call) -> tuple[float, object]:
    """Seconds and result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def disagreement(ours: LyapunovFrame, other: tuple[Tensor, Tensor], d: int) -> dict:
    """Largest principal angle (degrees) between the d leading vectors; exponents."""
    vectors, exponents = (part.cpu().numpy() for part in other)
    angles = np.degrees(principal_angles(ours.vectors[..., :d], vectors[..., :d])[:, -1])
    return {
        "angle_median": float(np.median(angles)),
        "angle_max": float(angles.max()),
        "exponents_max": float(np.abs(ours.exponents - exponents).max()),
    }


def measure(job: Job) -> dict:
    """Seconds of the three codes, one thread, and how far the slow ones are from ours."""
    n, n_obvious = job.options["n"], job.options["n_obvious"]
    sample = job.case.sample(job.seed)
    X, d = sample.points[:n], sample.dimension
    with torch_threads(1):
        m, result = fit_timed(job.manifold, sample.points, job.seed)
        with recorded() as few:
            ours_few = m.lyapunov_frame(X[:n_obvious])
        with recorded() as chunks:
            ours = m.lyapunov_frame(X)
        flow, trajectories = few[0]
        obvious_frame(flow, [Trajectory(t.states[:, :1], None) for t in trajectories])  # warm up
        ours_s = median(timed(lambda: m.lyapunov_frame(X))[0] for _ in range(REPEATS))
        batched_s, batches = timed(lambda: [batched_frame(*chunk) for chunk in chunks])
        passes_s = median(
            timed(lambda: [forward_passes(*chunk) for chunk in chunks])[0] for _ in range(REPEATS)
        )
        obvious_s, loops = timed(lambda: [obvious_frame(*chunk) for chunk in few])
    batched, obvious = (tuple(map(torch.cat, zip(*x, strict=True))) for x in (batches, loops))
    return result | {
        "d": d,
        "D": X.shape[1],
        "n": n,
        "threads": 1,
        "n_paths": len(trajectories),
        "n_steps": flow.n_steps,
        "chunk_rows": chunks[0][1][0].states.shape[1],
        "ours_s": ours_s,
        "passes_s": passes_s,
        "batched_s": batched_s,
        "obvious_measured_n": n_obvious,
        "obvious_measured_s": obvious_s,
        "obvious_s": obvious_s * n / n_obvious,  # linear: the points are done one after the other
        "batched": disagreement(ours, batched, d),
        "obvious": disagreement(ours_few, obvious, d),
    }


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("random10-mild",), 1, argv)
    manifold = args.manifold
    if manifold.model is None:
        manifold = LyapunovManifold(model=Diffusion(max_iter=MAX_ITER))
    options = {"n": N_POINTS, "n_obvious": N_OBVIOUS}
    jobs = [
        Job(CASES[name], seed, manifold, options)
        for seed in range(args.seeds)
        for name in args.cases
    ]
    return run_jobs(measure, jobs, Store("frame_speed", args.results), workers=1)


if __name__ == "__main__":
    sys.exit(main())
