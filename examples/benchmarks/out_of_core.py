"""Memory and time of a fit to rows on disk, in memory, and in blocks.

Every fit runs alone in a fresh process, with few steps of a small network: reading, statistics and
the gathering of batches are what differs. Files are written to a temporary folder, up to 4 GB, and
removed. Run

    python examples/benchmarks/out_of_core.py
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from common import Case, Job, Store, parse_args, run_jobs
from fresh_process import in_fresh_process, run_script
from sklearn.base import clone

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion

D = 100
# Rows of 400 bytes: 0.5, 2 and 4 GB; in memory only what leaves room for others.
ROWS = {
    "memory": (1_250_000, 5_000_000),
    "disk": (1_250_000, 5_000_000, 10_000_000),
    "blocks": (1_250_000,),
}
MODEL = {"max_iter": 200, "width": 32, "n_blocks": 1, "validation_fraction": 0.001}
BLOCK = 50_000


def rows_in_blocks(n: int, seed: int = 0) -> Iterator[np.ndarray]:
    """A curved 5-dimensional manifold with a little noise in R^100, float32, block by block."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((5, 20)), rng.standard_normal((20, D), dtype=np.float32)
    noise = 0.05 * rng.standard_normal((BLOCK, D), dtype=np.float32)  # the same in every block
    for start in range(0, n, BLOCK):
        u = rng.uniform(-1, 1, size=(min(BLOCK, n - start), 5))
        yield np.sin(u @ A).astype(np.float32) @ B + noise[: len(u)]


@contextmanager
def memory_peaks() -> Iterator[dict]:
    """Peaks within the block, MB: of memory of the process' own, and with pages of files.

    Pages of a file that is mapped count as resident until the system wants them back; they are not
    memory that the process needs. Sampled every 10 ms, where /proc tells.
    """
    peaks, done = {"own_mb": 0.0, "resident_mb": 0.0}, threading.Event()

    def sample():
        while not done.wait(0.01):
            with suppress(OSError):  # not on Linux: the peaks stay 0
                status = Path("/proc/self/status").read_text()
                values = dict(line.split(":", 1) for line in status.splitlines())
                for name, key in (("own_mb", "RssAnon"), ("resident_mb", "VmRSS")):
                    peaks[name] = max(peaks[name], int(values[key].split()[0]) / 1024)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def measure_here(how: str, n: int, path: str, model: dict, threads: int = 1) -> dict:
    """Fit in this process."""
    torch.set_num_threads(threads)

    def fit(X):
        start, cpu = time.perf_counter(), time.process_time()
        fitted = Diffusion(**model, n_estimators=1, device="cpu", random_state=0).fit(X)
        return fitted, time.perf_counter() - start, time.process_time() - cpu

    fit(np.concatenate(list(rows_in_blocks(200))))  # what the first fit imports
    with memory_peaks() as nothing:
        time.sleep(0.05)
    with memory_peaks() as peaks:
        if how == "blocks":
            X = rows_in_blocks(n)
        else:
            X = np.load(path, mmap_mode="r" if how == "disk" else None)
        fitted, seconds, cpu_seconds = fit(X)
    return {
        "how": how,
        "n": n,
        "D": D,
        "data_mb": n * D * 4 / 2**20,
        "before_mb": nothing["own_mb"],
        **peaks,
        "fit_s": seconds,
        "fit_cpu_s": cpu_seconds,
        "steps": fitted.n_iter_,
        "held_out_loss": fitted.loss_,
        "threads": threads,
    }


def measure(job: Job) -> dict:
    """Write the rows, and `measure_here` in a fresh process."""
    how, n = job.options["how"], job.options["n"]
    model = job.manifold.model.get_params(deep=False)
    model = {name: model[name] for name in MODEL}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        if how != "blocks":
            file = np.lib.format.open_memmap(path, "w+", np.float32, (n, D))
            for i, block in enumerate(rows_in_blocks(n)):
                file[i * BLOCK : i * BLOCK + len(block)] = block
            file.flush()
            del file
        arguments = {"how": how, "n": n, "path": str(path), "model": model}
        return in_fresh_process(__file__, arguments)


def make_jobs(rows: dict[str, tuple[int, ...]], manifold: LyapunovManifold) -> list[Job]:
    """One job for every way and size."""
    return [
        Job(
            Case(f"{how}-{n}", f"{n} rows, {how}", rows_in_blocks, n),
            0,
            clone(manifold),
            {"how": how, "n": n},
        )
        for how, sizes in rows.items()
        for n in sizes
    ]


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("all",), 1, argv)
    model = MODEL if args.max_iter is None else MODEL | {"max_iter": args.max_iter}
    jobs = make_jobs(ROWS, LyapunovManifold(model=Diffusion(**model)))
    return run_jobs(measure, jobs, Store("out_of_core", args.results), workers=1)


if __name__ == "__main__":
    run_script(main, measure_here)
