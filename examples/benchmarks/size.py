"""How time and memory of frames grow with n, D and k, and where the time goes. Run

    python examples/benchmarks/size.py

Every cell runs in a process of its own with one thread. Times are CPU times, which other programs
on the machine disturb less than the wall clock. Training changes no cost and is cut to one step.
One network instead of the default's two; about a chunk of rows where a row is dear, since rows cost
alike, which the sweep over n shows.
"""

from __future__ import annotations

import contextlib
import ctypes
import tempfile
import threading
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from common import Case, Job, Store, parse_args, run_jobs
from fresh_process import in_fresh_process, run_script
from torch.utils._python_dispatch import TorchDispatchMode

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_random_manifold
from alignlearn.flow import Flow
from alignlearn.frames import FrameQuestion, FrameReader
from alignlearn.models import Diffusion
from alignlearn.streaming import stream

# (n, D, k). A narrow network and two paths in the sweep over n, the default's width and paths else.
SWEEPS = {
    "n": [(1000, 10, 10), (10_000, 10, 10), (100_000, 10, 10)],
    "D": [(64, 10, 10), (64, 32, 10), (64, 100, 10), (64, 300, 10), (32, 1000, 10), (14, 3072, 10)],
    "k": [(16, 1000, 2), (16, 1000, 8), (16, 1000, 24), (16, 1000, 64)],
    "corner": [(14, 3072, 2), (4, 3072, 64)],
}
NARROW = {"width": 32, "n_blocks": 1}
N_TRAIN = 500

# Names of PyTorch's operations by what they are for; what is left is elementwise and copying.
SHARES = {
    "products": ("addmm", "mm", "bmm", "baddbmm", "_addmm_activation"),
    "qr": ("linalg_qr", "geqrf", "orgqr", "linalg_householder_product"),
    "svd": ("_linalg_svd", "_linalg_eigh", "linalg_svd", "linalg_eigh"),
}


class PeakMemory(threading.Thread):
    """Peak of the anonymous memory in MB, that is without the pages of mapped files (Linux)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        with contextlib.suppress(OSError, AttributeError):  # what was freed goes back to the system
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._over = threading.Event()
        self.before = self.peak = self.now()

    @staticmethod
    def now() -> float:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
        return float("nan")

    def run(self) -> None:
        while not self._over.wait(0.005):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self.join()
        self.peak = max(self.peak, self.now())


def reader_of(X: np.ndarray, narrow: bool) -> FrameReader:
    """Reads frames as `LyapunovManifold` does, without the measurements that its `fit` makes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Diffusion(max_iter=1, n_estimators=1, random_state=0, **(NARROW if narrow else {}))
        model.fit(X)
    default = LyapunovManifold()
    return FrameReader(
        model,
        solver=None,
        n_steps=default.n_steps,
        n_paths=2 if narrow else None,
        n_oversamples=default.n_oversamples,
        n_iter=default.n_iter,
        path_seed=0,
        n_jobs=None,
    )


class Clock(TorchDispatchMode):
    """CPU time of every operation that PyTorch runs, by its name; below vmap, jvp and vjp."""

    def __init__(self) -> None:
        super().__init__()
        self.spent = Counter()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        start = time.thread_time()
        result = op(*args, **(kwargs or {}))
        self.spent[op.overloadpacket.__name__] += time.thread_time() - start
        return result


def shares_of(call) -> dict[str, float]:
    """Shares of the CPU time of a call, by kind of operation, and of trajectories with theirs."""
    states_to, spent = Flow.states_to, Counter()

    def timed(*args, **kwargs):
        start = time.thread_time()
        result = states_to(*args, **kwargs)
        spent["trajectories"] += time.thread_time() - start
        return result

    with mock.patch.object(Flow, "states_to", timed):
        start = time.thread_time()
        call()
        spent["all"] = time.thread_time() - start
    with Clock() as clock:  # apart: looking at every operation slows the short ones
        call()
    for name, seconds in clock.spent.items():
        kinds = [kind for kind, names in SHARES.items() if name in names]
        spent[kinds[0] if kinds else "elementwise"] += seconds
    return {name: seconds / spent["all"] for name, seconds in spent.items() if name != "all"}


def measure_here(
    n: int, D: int, k: int, *, narrow: bool = False, out: bool = False, n_train: int = N_TRAIN
) -> dict:
    """CPU time and memory of `n` frames of `k` vectors in R^D, to an array or to a file."""
    torch.set_num_threads(1)
    X = make_random_manifold(n_train, min(5, D - 1), D, noise=0.01, random_state=0).points
    reader = reader_of(X, narrow)
    question = FrameQuestion(reader, k, reader.model.window_, ("vectors",))
    chunk_rows = next(question.chunks(10**9)).stop
    question.answer(X[:1])  # first calls import and compile
    shares = shares_of(partial(question.answer, X[: min(n, chunk_rows)]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "X.npy"
        stored = np.lib.format.open_memmap(file, "w+", float, (n, D))
        for start in range(0, n, n_train):
            stored[start : start + n_train] = X[: n - start]
        target = [Path(folder) / "out.npy"] if out else None
        del stored
        rows = reader.rows(np.load(file, mmap_mode="r"))
        with PeakMemory() as memory:
            start = time.process_time(), time.perf_counter()
            stream(question, rows, question.types, target)
            cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
    return {
        "n": n,
        "D": D,
        "k": k,
        "columns": question.columns,
        "threads": 1,
        "narrow": narrow,
        "out": out,
        "chunk_rows": chunk_rows,
        "cpu_s": cpu,
        "frame_wall_s": wall,
        "frame_mb": memory.peak - memory.before,
        "shares": shares,
    }


def measure(job: Job) -> dict:
    """`measure_here` in a fresh process."""
    return in_fresh_process(__file__, job.options)


def make_jobs(sweeps=SWEEPS, **options) -> list[Job]:
    """One job for every cell; in the sweep over n one in memory and one with ``out=``."""
    jobs = []
    for sweep, shapes in sweeps.items():
        for n, D, k in shapes:
            make = partial(make_random_manifold, dim=min(5, D - 1), n_features=D)
            case = Case(f"size-{sweep}-n{n}-D{D}-k{k}", f"{n} rows in R^{D}", make, N_TRAIN, 0.01)
            for out in [False, True] if sweep == "n" else [False]:
                cell = {"n": n, "D": D, "k": k, "narrow": sweep == "n", "out": out, **options}
                jobs.append(Job(case, 0, LyapunovManifold(), cell))
    return jobs


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("all",), 1, argv)
    return run_jobs(measure, make_jobs(), Store("size", args.results), workers=1)


if __name__ == "__main__":
    run_script(main, measure_here)
