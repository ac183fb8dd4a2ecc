"""Time of one tangent column of a convolutional network, in forward passes, by every rule.

A diffusers UNet2DModel with attention and about a million weights, on rows that are images of
three channels. Every rule moves the same columns through the same network inside the library's
guards. The unit is a forward pass of the network on the same rows. Times are those of the process,
on one thread, the best of several turns, so that company on the machine matters less. Needs
diffusers

    python examples/benchmarks/column_cost.py
"""

from __future__ import annotations

import sys
import time
from functools import partial

import torch
from common import Case, Job, Store, parse_args, run_jobs

from alignlearn._arrays import torch_threads
from alignlearn.datasets import make_random_manifold
from alignlearn.derivatives import (
    CONVOLUTIONAL,
    CentralDifference,
    DoubleBackward,
    ForwardMode,
    ReverseMode,
    graph_bytes,
    preferred_derivative,
)
from alignlearn.guards import guarded

CHANNELS = 3
# (pixels across, rows at once, columns)
SHAPES = [(16, 1, 16), (16, 4, 16), (32, 1, 16), (32, 2, 16)]
REPEATS = 3
PUSHES = {
    "forward mode, all at once": ForwardMode(),
    "forward mode, 8 at once": CONVOLUTIONAL.push,
    "forward mode, one by one": ForwardMode(1),
    "backward twice, one by one": DoubleBackward(),
    "central differences": CentralDifference(),
}
PULLS = {
    "reverse mode, all at once": ReverseMode(),
    "reverse mode, 8 at once": ReverseMode(8),
    "reverse mode, one by one": CONVOLUTIONAL.pull,
}


def make_network(size: int, channels: tuple[int, ...]) -> torch.nn.Module:
    """Untrained, with attention on the middle level."""
    from diffusers import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=size,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            layers_per_block=1,
            block_out_channels=channels,
            norm_num_groups=8,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
    return network.requires_grad_(False).eval()


def seconds(call, inner: int) -> float:
    """Time of this process in one of `inner` calls."""
    start = time.process_time()
    for _ in range(inner):
        call()
    return (time.process_time() - start) / inner


def measure(job: Job) -> dict:
    """Cost of a column by every rule, in forward passes."""
    size, n, k = (job.options[name] for name in ("size", "n", "k"))
    network = make_network(size, tuple(job.options["channels"]))
    D = CHANNELS * size**2
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, D, generator=generator)
    E = torch.randn(k, n, D, generator=generator)

    def step(rows):
        return network(rows.view(-1, CHANNELS, size, size), 10).sample.flatten(1)

    def forward():
        with torch.no_grad():
            step(x)

    calls = {name: partial(lift, step, x, E) for name, lift in (PUSHES | PULLS).items()}
    best = dict.fromkeys(["forward", *calls], float("inf"))
    with torch_threads(1), guarded(step):
        forward()
        for _ in range(job.options["repeats"]):  # in turn, so that a busy moment hits all of them
            best["forward"] = min(best["forward"], seconds(forward, 8))
            for name, call in calls.items():
                best[name] = min(best[name], seconds(call, 1))
        graph = graph_bytes(step, x)
    derivative = preferred_derivative(network)
    return {
        "n": n,
        "size": size,
        "D": D,
        "columns": k,
        "threads": 1,
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "forward_ms": 1e3 * best["forward"],
        "graph_mb": graph / 2**20,
        "per_column": {name: best[name] / k / best["forward"] for name in calls},
        "chosen": [name for name, lift in (PUSHES | PULLS).items() if lift in derivative],
    }


def make_jobs(shapes, manifold, *, channels=(24, 48, 72), repeats: int = REPEATS) -> list[Job]:
    """One job for every (size, n, k)."""
    jobs = []
    for size, n, k in shapes:
        make = partial(make_random_manifold, dim=2, n_features=3)  # the network is untrained
        case = Case(f"{size}px-n{n}", f"{n} images of {size} x {size} x {CHANNELS}", make, n)
        options = {"size": size, "n": n, "k": k, "channels": list(channels), "repeats": repeats}
        jobs.append(Job(case, 0, manifold, options))
    return jobs


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("all",), 1, argv)
    jobs = make_jobs(SHAPES, args.manifold)
    return run_jobs(measure, jobs, Store("column_cost", args.results), workers=1)


if __name__ == "__main__":
    sys.exit(main())
