"""Tangent spaces read off a diffusers U-Net that was trained with diffusers' own loss. Run

    python examples/benchmarks/pretrained.py

A small U-Net with attention learns the noise in images with known degrees of freedom, as a DDPM, is
written by `save_pretrained`, and comes back through `alignlearn.doors.from_diffusers`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import (
    NEIGHBORS,
    Case,
    Job,
    Store,
    digest,
    fit_timed,
    local_pca_tangents,
    parse_args,
    run_jobs,
    share_right,
)
from formats import by_case, number, percent, spread, table

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_blob_images
from alignlearn.doors import from_diffusers

FOLDER = Path(__file__).resolve().parent / "models"  # not in the repository
N_QUERY = 20
MANIFOLD = {"n_reference": 10, "n_paths": 2}  # else the defaults
CASES = {
    case.name: case
    for case in [
        Case("blob-2", "8 x 8, moved", partial(make_blob_images, image_size=8), 4000),
        Case(
            "blob-3",
            "8 x 8, moved, scaled",
            partial(make_blob_images, image_size=8, scale=True),
            4000,
        ),
    ]
}


def make_network(image_size: int, channels: tuple[int, int]):
    """A U-Net with two resolutions and attention on the coarser."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=image_size,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=channels,
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


def train(X: np.ndarray, folder: Path, *, channels, max_iter: int, seed: int) -> float:
    """Train a DDPM on images X (n, D) in [0, 1] and write it to a folder; seconds of CPU.

    The loss of diffusers' own training scripts: the squared error of the predicted noise at steps
    drawn uniformly, on images in [-1, 1].
    """
    from diffusers import DDPMScheduler

    start, side = time.process_time(), round(X.shape[1] ** 0.5)
    with torch.random.fork_rng():  # diffusers draws weights from the global generator
        torch.manual_seed(seed)
        network = make_network(side, channels)
    generator = torch.Generator().manual_seed(seed)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    images = torch.from_numpy(2 * X - 1).float().reshape(-1, 1, side, side)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_iter)
    network.train()
    for step in range(max_iter):
        rows = images[torch.randint(len(images), (64,), generator=generator)]
        noise = torch.randn(rows.shape, generator=generator)
        steps = torch.randint(1000, (len(rows),), generator=generator)
        predicted = network(scheduler.add_noise(rows, noise, steps), steps).sample
        loss = torch.nn.functional.mse_loss(predicted, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    network.eval().save_pretrained(folder, safe_serialization=True)
    scheduler.save_pretrained(folder / "scheduler")
    return time.process_time() - start


def measure(job: Job) -> dict:
    """Train or find the network, then compare its tangent spaces with local PCA."""
    sample = job.case.sample(job.seed)
    d, options = sample.dimension, job.options
    kept = FOLDER / f"diffusers-{digest([job.settings, options, job.seed])}"
    seconds = kept / "seconds.txt"
    if not seconds.exists():
        spent = train(sample.points, kept, **options, seed=job.seed)
        seconds.write_text(str(spent))
    model = from_diffusers(kept, shift=0.5, scale=0.5)
    manifold = LyapunovManifold(model=model, **MANIFOLD)
    m, state = fit_timed(manifold, sample.points, job.seed)
    fresh = job.case.fresh(job.seed, N_QUERY)
    found = {}
    for name, X, truth in (
        ("train", sample.points[:N_QUERY], sample.tangents[:N_QUERY]),
        ("fresh", fresh.points, fresh.tangents),
    ):
        start = time.perf_counter()
        frame = m.lyapunov_frame(X)
        pca = local_pca_tangents(sample.points, X, d, NEIGHBORS)
        found[name] = {
            "frame_s": time.perf_counter() - start,
            "lyapunov": job.case.error(frame.vectors[:, :, :d], truth),
            "local_pca": {str(k): job.case.error(v, truth) for k, v in pca.items()},
            "right": share_right(frame, d),
        }
    return {
        **state,
        **found,
        "d": d,
        "n_parameters": sum(p.numel() for p in model.network.network.parameters()),
        "training_cpu_s": float(seconds.read_text()),
        "exponents": m.exponents_.tolist(),
        "noise_range": m.model_.noise_range_,
        "window": m.window_,
    }


def make_jobs(cases, seeds: int, manifold: LyapunovManifold, **options) -> list[Job]:
    """One job for every case and seed."""
    options = {"channels": (16, 32), "max_iter": 3000} | options
    return [Job(CASES[name], seed, manifold, options) for name in cases for seed in range(seeds)]


def pretrained_table(records: list[dict]) -> str:
    """The network, its tangent spaces and dimension, and local PCA at its best."""
    rows = []
    for group in by_case(records).values():
        found = [r["result"] for r in group]
        for points, label in {"train": "training", "fresh": "fresh"}.items():
            pca = [min(x[points]["local_pca"].values()) for x in found]
            first = points == "train"
            rows.append(
                [
                    group[0]["title"] if first else "",
                    found[0]["d"] if first else "",
                    number(found[0]["n_parameters"] / 1e3) if first else "",
                    spread([x["training_cpu_s"] for x in found]) if first else "",
                    spread([x["held_out_loss"] for x in found]) if first else "",
                    ", ".join(str(x["dimension"]) for x in found) if first else "",
                    label,
                    percent([x[points]["right"] for x in found]),
                    f"**{spread([x[points]['lyapunov'] for x in found])}**",
                    spread(pca),
                ]
            )
    header = [
        "images",
        "d",
        "weights / 1000",
        "training, s of CPU",
        "`loss_`",
        "`dimension_`",
        "points",
        "with the right d",
        "tangent error, degrees",
        "local PCA, best k",
    ]
    return table(header, rows)


PRETRAINED_TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "pretrained": ("pretrained", pretrained_table)
}


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], CASES, 1, argv)
    steps = {} if args.manifold.model is None else {"max_iter": args.manifold.model.max_iter}
    jobs = make_jobs(args.cases, args.seeds, args.manifold, **steps)
    return run_jobs(measure, jobs, Store("pretrained", args.results), workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
