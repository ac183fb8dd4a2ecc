"""Time and peak memory of the alignment alone, from true tangent spaces: what n costs.

    python examples/benchmarks/embedding_size.py

Each size runs in a process of its own, one thread, so that its peak memory is its own.
"""

import multiprocessing
import resource
import time

import numpy as np
import torch

from alignlearn.datasets import make_random_manifold, make_swiss_roll
from alignlearn.embedding import align_tangent_spaces, default_n_neighbors

SETS = {
    "Swiss roll, d = 2 (sparse factors)": lambda n: make_swiss_roll(n, random_state=0),
    "5 in R^20, d = 5 (dense factor)": lambda n: make_random_manifold(n, 5, 20, random_state=0),
}
SIZES = 2000, 5000, 10_000, 20_000


def measure(name, n, connection):
    """Align n points and send wall time in s and peak memory in GB."""
    torch.set_num_threads(1)
    sample = SETS[name](n)
    start = time.perf_counter()
    align_tangent_spaces(
        sample.clean,
        sample.tangents,
        sample.dimension,
        default_n_neighbors(sample.dimension),
        lambda a, b: np.zeros(len(a)),
        np.ones(n),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    connection.send((time.perf_counter() - start, peak))


def main():
    """Print the table."""
    context = multiprocessing.get_context("spawn")
    print("| data | n | time, s | peak memory of the process, GB |\n| --- | --- | --- | --- |")
    for name in SETS:
        for n in SIZES:
            ours, theirs = context.Pipe()
            process = context.Process(target=measure, args=(name, n, theirs))
            process.start()
            theirs.close()
            seconds, peak = ours.recv()
            process.join()
            print(f"| {name} | {n} | {seconds:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
