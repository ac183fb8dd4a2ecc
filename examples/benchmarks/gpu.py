"""One NVIDIA GPU: steps of training, frames, tangent columns, factorisations, and its limits. Run

    python examples/benchmarks/gpu.py

Times are of the wall clock, the device waited for, nothing else on it. The limits are measured
beside them: a float32 product of 8192 x 8192 matrices without TF32, and a copy. Columns need
diffusers.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from unittest import mock

import numpy as np
import torch
from column_cost import CHANNELS, PULLS, PUSHES, make_network
from common import Case, Job, Store, parse_args, run_jobs
from formats import number, table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from training_speed import seconds_per_step

from alignlearn import LyapunovManifold
from alignlearn._linalg import cholesky_qr, jacobi
from alignlearn.datasets import make_blob_scenes, make_random_manifold
from alignlearn.denoising import DenoisingLoss
from alignlearn.derivatives import preferred_derivative
from alignlearn.frames import FrameQuestion, FrameReader
from alignlearn.guards import guarded
from alignlearn.models import Diffusion
from alignlearn.streaming import stream

NOISE = 0.01  # without it the manifolds span fewer dimensions than D, and the network is smaller
IMAGE = 32  # pixels across
STEPS = {  # features, rows of a step
    "vectors of 50": (50, 256),
    "vectors of 1000": (1000, 256),
    "images, 32 a step": (IMAGE**2, 32),
    "images, 256 a step": (IMAGE**2, 256),
}
FRAMES = [  # rows, features, vectors; of images through the U-Net
    (1000, 10, 10),
    (10_000, 10, 10),
    (100_000, 10, 10),
    (10_000, 50, 50),
    (100_000, 50, 50),
    (10_000, 1000, 10),
    (1000, 3072, 2),
    (1000, 3072, 64),
    (64, IMAGE**2, 32),
]
FACTORED = [(1000, 50, 50), (1000, 128, 128), (300, 1024, 42), (100, 3072, 40)]
COLUMNS = [(16, 16), (128, 16)]  # images at once, columns
KERNELS = {  # names of kernels by what they are for
    "products": ("gemm", "gemv", "cutlass", "conv", "wgrad", "dgrad", "xmma", "nchw", "implicit"),
    "factorisations": (
        *("potr", "trsm", "syev", "jacobi", "geqr", "larf", "rotate", "sytr", "ormtr", "ormqr"),
        *("laed", "steqr", "stedc"),
    ),
}


def once(call: Callable) -> float:
    """Time of a call, the device waited for."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def seconds(call: Callable, repeats: int = 3) -> float:
    """Mean time of a call when it has been made once."""
    call()
    return once(lambda: [call() for _ in range(repeats)]) / repeats


def flop(call: Callable) -> int:
    """Multiplications and additions of the products and convolutions of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def limits() -> dict:
    """What the device reaches: products in TFLOP/s, copies in TB/s, read and written."""
    a, b = torch.randn(2, 8192, 8192, device="cuda")
    x, y = torch.empty(2, 2**28, device="cuda")
    return {
        "device": torch.cuda.get_device_name(),
        "product_tflops": 2e-12 * 8192**3 / seconds(lambda: a @ b, 10),
        "copy_tbs": 2e-12 * x.numel() * x.element_size() / seconds(lambda: y.copy_(x), 10),
    }


def data(D: int, n: int, image: bool):
    """Rows to train on, and the model for them."""
    if image:
        X = make_blob_scenes(n, n_objects=5, image_size=IMAGE, random_state=0).points
        return X, Diffusion(image_shape=(IMAGE, IMAGE), random_state=0)
    X = make_random_manifold(n, min(5, D - 1), D, noise=NOISE, random_state=0).points
    return X, Diffusion(random_state=0)


def measure_training(D: int, batch: int) -> dict:
    """Milliseconds of a step, evaluations included: asked for by Python, and played back."""
    X, model = data(D, 5000, image := D == IMAGE**2)
    model.set_params(batch_size=batch, n_estimators=1)
    plainly = mock.patch("alignlearn.training.Replay", lambda work, *_: work)
    result = {}
    for way, patched in {"one by one": plainly, "played back": nullcontext()}.items():
        with patched:
            step_s, fitted = seconds_per_step(model, X, 4)
        result[way] = 1e3 * step_s
    member = fitted.denoiser_.requires_grad_(True)
    generator = torch.Generator("cuda").manual_seed(0)
    loss = DenoisingLoss(fitted.encode(X), fitted.noise_range_, batch, generator)
    result["gflop"] = 1e-9 * flop(lambda: loss(member).backward())
    if not image:
        start = time.perf_counter()
        whole = Diffusion(random_state=0).fit(X)
        torch.cuda.synchronize()
        result["fit_s"] = time.perf_counter() - start
        result["fit_steps"] = sum(history.steps[-1] for history in whole.histories_)
    return result


def shares_of(call: Callable) -> dict:
    """Share of the wall time in which the device works, and of that by kind of kernel."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        wall = 1e6 * (time.perf_counter() - start)
    spent = dict.fromkeys([*KERNELS, "other"], 0.0)
    for event in profiler.key_averages():
        name = event.key.lower()
        kind = next((k for k, names in KERNELS.items() if any(x in name for x in names)), "other")
        spent[kind] += event.self_device_time_total
    busy = max(sum(spent.values()), 1e-9)
    return {"busy": busy / wall, "kinds": {kind: t / busy for kind, t in spent.items()}}


def measure_frames(n: int, D: int, k: int) -> dict:
    """Time, memory and arithmetic of frames of a model that was hardly trained."""
    X, model = data(D, 500, image := D == IMAGE**2)
    m = LyapunovManifold()  # its defaults, without the measurements that its `fit` makes
    reader = FrameReader(
        model.set_params(max_iter=1, n_estimators=1).fit(X),
        solver=None,
        n_steps=m.n_steps,
        n_paths=m.n_paths,
        n_oversamples=m.n_oversamples,
        n_iter=m.n_iter,
        path_seed=0,
        n_jobs=None,
    )
    question = FrameQuestion(reader, k, model.window_, ("vectors",))
    X, few = X[np.arange(n) % len(X)], min(n, 1000, 200_000 // D)

    def frames(n_rows: int):
        stream(question, reader.rows(X[:n_rows]), question.types)

    some, one_by_one = partial(frames, few), mock.patch("alignlearn.frames.ReplayedLift", _itself)
    with one_by_one:
        slowly, counted = seconds(some, 1), flop(some) * n / few
    quickly = seconds(some, 1)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    wall = once(partial(frames, n))
    peak = torch.cuda.max_memory_allocated() - before
    return {
        "wall_s": wall,
        "gain": slowly / quickly,
        "peak_gb": peak / 2**30,
        "tflop": 1e-12 * counted,
        "image": image,
    } | shares_of(some)


def _itself(lift: Callable) -> Callable:
    """A lift that is not played back."""
    return lift


def measure_columns(n: int, k: int) -> dict:
    """Cost of a tangent column of a diffusers U-Net by every rule, in forward passes."""
    network = make_network(IMAGE, (24, 48, 72)).cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (n, CHANNELS * IMAGE**2)
    x = torch.randn(shape, generator=generator, device="cuda")
    E = torch.randn((k, *shape), generator=generator, device="cuda")

    def step(rows):
        return network(rows.view(-1, CHANNELS, IMAGE, IMAGE), 10).sample.flatten(1)

    def forward():
        with torch.no_grad():
            step(x)

    with guarded(step):
        forward_s = seconds(forward, 10)
        rules = {
            name: seconds(partial(lift, step, x, E)) for name, lift in (PUSHES | PULLS).items()
        }
        tflop = 1e-12 * flop(forward)
    derivative = preferred_derivative(network)
    return {
        "forward_ms": 1e3 * forward_s,
        "tflops": tflop / forward_s,
        "per_column": {name: spent / k / forward_s for name, spent in rules.items()},
        "chosen": [name for name, lift in (PUSHES | PULLS).items() if lift in derivative],
    }


def measure_factors(n: int, D: int, k: int) -> dict:
    """Milliseconds of the library's factorisations and of PyTorch's, n matrices (D, k)."""
    generator = torch.Generator("cuda").manual_seed(0)
    E = torch.randn((n, D, k), generator=generator, device="cuda")
    R = torch.linalg.qr(E.double()).R
    calls = {
        "torch.linalg.qr": lambda: torch.linalg.qr(E),
        "cholesky_qr": lambda: cholesky_qr(E),
        "torch.linalg.svd": lambda: torch.linalg.svd(R),
        "jacobi": lambda: jacobi(R),
    }
    found = {name: 1e3 * seconds(call, 1) for name, call in calls.items()}
    U, S = jacobi(R)
    error = (S - torch.linalg.svdvals(R)).abs().amax() / S.amax()
    return {"ms": found, "error": float(error)}


MEASURES = {
    "training": measure_training,
    "frames": measure_frames,
    "columns": measure_columns,
    "factors": measure_factors,
}


def measure(job: Job) -> dict:
    """One of the four, beside the limits."""
    options = dict(job.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return limits() | MEASURES[options.pop("what")](**options)


def make_jobs() -> list[Job]:
    """Jobs of all tables."""
    cells = [(name, {"what": "training", "D": D, "batch": b}) for name, (D, b) in STEPS.items()]
    cells += [
        (f"{n} x {k} in R^{D}", {"what": "frames", "n": n, "D": D, "k": k}) for n, D, k in FRAMES
    ]
    cells += [(f"{n} images, {k} columns", {"what": "columns", "n": n, "k": k}) for n, k in COLUMNS]
    cells += [
        (f"{n} matrices {D} x {k}", {"what": "factors", "n": n, "D": D, "k": k})
        for n, D, k in FACTORED
    ]
    make = partial(make_random_manifold, dim=5, n_features=50)
    return [
        Job(
            Case(f"gpu-{options['what']}-{title}", title, make, 5000),
            0,
            LyapunovManifold(),
            options,
        )
        for title, options in cells
    ]


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("all",), 1, argv)
    jobs = make_jobs() if torch.cuda.is_available() else []
    if not jobs:
        print("no NVIDIA GPU, or a PyTorch without CUDA: nothing is measured here", file=sys.stderr)
    return run_jobs(measure, jobs, Store("gpu", args.results), workers=1)


# ------------------------------------------------------------------------------------------ tables


def _results(records: list[dict], what: str) -> list[tuple[dict, dict]]:
    return [(r, r["result"]) for r in records if r["options"]["what"] == what]


def limits_line(records: list[dict]) -> str:
    """The device and what it reaches."""
    found = [r["result"] for r in records]
    if not found:
        return "*Not run yet.*"
    names = ", ".join(sorted({x["device"] for x in found}))
    products, copies = (max(x[name] for x in found) for name in ("product_tflops", "copy_tbs"))
    return (
        f"{names}: float32 products {number(products)} TFLOP/s, copies {number(copies)} TB/s read "
        "and written."
    )


def training_table(records: list[dict]) -> str:
    """A step of training, asked for by Python and played back, and the whole default fit."""
    found, rows = _results(records, "training"), []
    if not found:
        return "*Not run yet.*"
    for r, x in found:
        before, after = x["one by one"], x["played back"]
        rate = x["gflop"] / after
        fit = f"{number(x['fit_s'])} ({x['fit_steps']} steps)" if "fit_s" in x else ""
        share = f"{number(rate)} ({100 * rate / x['product_tflops']:.0f} %)"
        rows.append(
            [r["title"], number(before), f"**{number(after)}**", number(before / after), share, fit]
        )
    header = ["a step of", "kernel by kernel, ms", "played back, ms", "ratio"]
    return table([*header, "TFLOP/s (of products alone)", "default fit, s"], rows)


def frames_table(records: list[dict]) -> str:
    """Time of frames, arithmetic reached, and what the device does."""
    found, rows = _results(records, "frames"), []
    if not found:
        return "*Not run yet.*"
    for r, x in found:
        rate, o = x["tflop"] / x["wall_s"], r["options"]
        rows.append(
            [
                o["n"],
                f"{o['D']}{', U-Net' if x['image'] else ''}",
                o["k"],
                number(x["wall_s"]),
                f"**{number(1e3 * x['wall_s'] / o['n'])}**",
                number(x["gain"]),
                number(x["peak_gb"]),
                f"{number(rate)} ({100 * rate / x['product_tflops']:.0f} %)",
                f"{100 * x['busy']:.0f} %",
                *(f"{100 * share:.0f} %" for share in x["kinds"].values()),
            ]
        )
    header = ["rows", "D", "vectors", "s", "ms a row", "times as fast played back", "peak, GB"]
    header += [
        "TFLOP/s (of products alone)",
        "device busy",
        *(f"of it {kind}" for kind in [*KERNELS, "other"]),
    ]
    return table(header, rows)


def columns_table(records: list[dict]) -> str:
    """Forward passes that a column costs, by rule."""
    found = _results(records, "columns")
    if not found:
        return "*Not run yet.*"
    rows = []
    for name in PUSHES | PULLS:
        chosen = any(name in x["chosen"] for _, x in found)
        cells = [f"{x['per_column'][name]:.2f}" for _, x in found]
        rows.append([name, *(f"**{c}**" if chosen else c for c in cells)])
    for label, value in (
        ("a forward pass, ms", lambda x: number(x["forward_ms"])),
        (
            "its TFLOP/s (of products alone)",
            lambda x: f"{number(x['tflops'])} ({100 * x['tflops'] / x['product_tflops']:.0f} %)",
        ),
    ):
        rows.append([label, *(value(x) for _, x in found)])
    return table(["rule", *(r["title"] for r, _ in found)], rows)


def factors_table(records: list[dict]) -> str:
    """Milliseconds of factorisations."""
    found = _results(records, "factors")
    if not found:
        return "*Not run yet.*"
    names = list(found[0][1]["ms"])
    rows = [
        [r["title"], *(number(x["ms"][name]) for name in names), f"{x['error']:.0e}"]
        for r, x in found
    ]
    header = [f"`{name}`, ms" for name in names]
    return table(["matrices", *header, "largest difference of a singular value"], rows)


GPU_TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "gpu-limits": ("gpu", limits_line),
    "gpu-training": ("gpu", training_table),
    "gpu-frames": ("gpu", frames_table),
    "gpu-columns": ("gpu", columns_table),
    "gpu-factors": ("gpu", factors_table),
}


if __name__ == "__main__":
    sys.exit(main())
