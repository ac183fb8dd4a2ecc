"""From one worker to two on two cores, through loky and dask: time, speed-up, the same bits. Run

    python examples/benchmarks/workers.py

Best with nothing else on the machine. Where that cannot be had, CPU times say what two free cores
would give: each worker reports what it spent on every chunk.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from common import Case, Job, Store, parse_args, run_jobs
from fresh_process import in_fresh_process, run_script
from joblib import Parallel, delayed, parallel_config
from size import reader_of
from sklearn import config_context

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_random_manifold
from alignlearn.frames import FrameQuestion
from alignlearn.streaming import Question, stream

N, D, K = 800, 20, 5
MEMORY = 4  # MiB: 35 chunks
CELLS = [(backend, workers) for backend in ("loky", "dask") for workers in (1, 2)]


@dataclass(frozen=True)
class Timed:
    """A question that also answers in which process, and in how much of its CPU time."""

    question: Question

    def chunks(self, n_rows: int) -> Iterator[slice]:
        return self.question.chunks(n_rows)

    def answer(self, X: np.ndarray) -> tuple[np.ndarray, ...]:
        torch.set_num_threads(1)
        start = time.process_time()
        [answer] = self.question.answer(X)
        return answer, np.array([os.getpid(), time.process_time() - start])


def dask_workers(stack: ExitStack, n: int) -> None:
    """As many processes of dask, here, with a thread each."""
    from distributed import Client, LocalCluster

    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
    cluster = stack.enter_context(
        LocalCluster(n_workers=n, host="127.0.0.1", silence_logs=50, **options)
    )
    stack.enter_context(Client(cluster))
    stack.enter_context(parallel_config("dask"))


def cpu_of_this_process() -> float:
    """Seconds, threads included and children not."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure_here(backend: str, workers: int, n: int = N, memory: float = MEMORY) -> dict:
    """Time of frames at `n` points by so many workers; one of loky's is this process."""
    torch.set_num_threads(1)
    X = make_random_manifold(n, 5, D, noise=0.01, random_state=0).points
    reader = reader_of(X, narrow=False)
    question = FrameQuestion(reader, K, reader.model.window_, ("vectors",))
    spent: Counter[int] = Counter()

    def finish(vectors: np.ndarray, process: np.ndarray) -> tuple[np.ndarray]:
        spent[int(process[0])] += float(process[1])
        return (vectors,)

    with ExitStack() as stack:
        stack.enter_context(config_context(working_memory=memory))
        if backend == "dask":
            dask_workers(stack, workers)
        else:
            stack.enter_context(parallel_config(backend, inner_max_num_threads=1))
        warm_up = [delayed(Timed(question).answer)(X[:2]) for _ in range(4 * workers)]
        Parallel(n_jobs=workers, batch_size=1)(warm_up)  # workers import
        start, cpu = time.perf_counter(), cpu_of_this_process()
        rows = reader.rows(X)
        n_chunks = sum(1 for _ in question.chunks(n))
        options = {"finish": finish, "n_jobs": workers}
        [vectors] = stream(Timed(question), rows, question.types, **options)
        wall, cpu = time.perf_counter() - start, cpu_of_this_process() - cpu
    cpu -= spent.get(os.getpid(), 0.0)  # loky with one worker
    return {
        "backend": backend,
        "workers": workers,
        "n": n,
        "n_chunks": n_chunks,
        "threads": 1,
        "frames_s": wall,
        "worker_cpu_s": sorted(spent.values()),
        "rest_cpu_s": cpu,
        "sha256": hashlib.sha256(vectors).hexdigest(),
    }


def measure(job: Job) -> dict:
    """`measure_here` in a fresh process."""
    return in_fresh_process(__file__, job.options)


def make_jobs(cells=CELLS, **options) -> list[Job]:
    """One job for every backend and number of workers."""
    make = partial(make_random_manifold, dim=5, n_features=D)
    case = Case("workers", f"5 in R^{D}", make, N, 0.01)
    return [
        Job(case, 0, LyapunovManifold(), {"backend": backend, "workers": workers, **options})
        for backend, workers in cells
    ]


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("all",), 1, argv)
    return run_jobs(measure, make_jobs(), Store("workers", args.results), workers=1)


if __name__ == "__main__":
    run_script(main, measure_here)
