"""Training throughput of the default network, as a share of what plain matrix products reach.

The matrix products of one step of `Diffusion`, forward and backward, are read off PyTorch's
dispatcher; a product (m, k) @ (k, n) counts 2 m k n operations, everything else (SiLU, norms, loss,
random draws, AdamW, moving average, held-out evaluations) counts zero operations but takes its
time. The same products alone, on arrays of the same shapes and layouts, are the limit. The time of
a step is that of `Diffusion().fit`, between its evaluations, the default schedule. Run with nothing
else on the machine

    python examples/benchmarks/training_speed.py
"""

from __future__ import annotations

import copy
import sys
import time
from functools import partial
from statistics import median

import torch
from common import CASES, Case, Job, Store, parse_args, run_jobs
from sklearn.base import clone
from torch.utils._python_dispatch import TorchDispatchMode

from alignlearn._arrays import torch_threads
from alignlearn.datasets import make_random_manifold
from alignlearn.denoising import denoising_loss, draw_noise_levels
from alignlearn.models import Diffusion
from alignlearn.models.denoisers import PreconditionedDenoiser
from alignlearn.training import evaluation_interval

# With a little noise where the manifold alone spans fewer dimensions than D: the network has D.
SETS = {
    "torus": CASES["torus"],
    "random5": CASES["random5"],
    "random10-mild": CASES["random10-mild"],
    "random10-784": Case(
        "random10-784",
        "10 in R^784, noise .045",
        partial(make_random_manifold, dim=10, n_features=784),
        1000,
        0.045,
    ),
}
THREADS = (1, 2)
N_INTERVALS = 6  # evaluation intervals timed, after one to warm up
SECONDS = 5.0  # of matrix products


class Clock:
    """scikit-learn callback: the time of every evaluation, and an end to training after enough."""

    def __init__(self, n_evaluations: int) -> None:
        self.n_evaluations = n_evaluations
        self.times: list[float] = []

    def setup(self, estimator, context):
        """Nothing to prepare."""

    def teardown(self, estimator, context):
        """Nothing to clear."""

    def on_fit_task_begin(self, estimator, context, **_):
        """Nothing to note."""

    def on_fit_task_end(self, estimator, context, **_):
        """Note the time of an evaluation; True ends training."""
        if context.task_name == "evaluation":
            self.times.append(time.perf_counter())
        return len(self.times) >= self.n_evaluations


class MatrixProducts(TorchDispatchMode):
    """Shapes and strides of the two factors of every matrix product executed inside."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Note the factors and go on."""
        aten = torch.ops.aten
        if func.overloadpacket in (aten.mm, aten.addmm, aten.bmm, aten.baddbmm):
            self.products.append(tuple((tuple(a.shape), a.stride()) for a in args[-2:]))
        return func(*args, **(kwargs or {}))


def network_of(model: Diffusion) -> PreconditionedDenoiser:
    """The first network of a fitted model."""
    found = (part for part in model.denoiser_.modules() if isinstance(part, PreconditionedDenoiser))
    return next(found)


def products_of_step(model: Diffusion) -> list[tuple]:
    """Factors of every matrix product of one training step of one network of a fitted model."""
    denoiser = copy.deepcopy(network_of(model)).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    shape = (model.batch_size, denoiser.network.decode.out_features)
    x, z = (torch.randn(shape, generator=generator) for _ in range(2))
    s = draw_noise_levels(len(x), model.noise_range_, generator)
    with MatrixProducts() as mode:
        denoising_loss(denoiser, x, s, z).backward()
    return mode.products


def flop(products: list[tuple]) -> int:
    """Multiplications and additions of products (..., m, k) @ (..., k, n): 2 m k n each."""
    total = 0
    for (shape, _), (other, _) in products:
        total += 2 * torch.Size(shape).numel() * other[-1]
    return total


def seconds_of_products(products: list[tuple], seconds: float = SECONDS) -> float:
    """Median time of all the products, one after the other, on arrays of the same layout."""

    def like(shape, stride):
        return torch.empty_strided(shape, stride).normal_()

    arrays = [(like(*a), like(*b)) for a, b in products]
    outputs = [a @ b for a, b in arrays]
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        for (a, b), out in zip(arrays, outputs, strict=True):
            torch.matmul(a, b, out=out)
        times.append(time.perf_counter() - start)
    return median(times)


def seconds_per_step(
    model: Diffusion, X, n_intervals: int = N_INTERVALS
) -> tuple[float, Diffusion]:
    """Seconds of a step of a network, evaluations included; the model, its training cut short."""
    clock = Clock(n_intervals + 2)  # the first interval warms up
    fitted = clone(model).set_callbacks(clock).fit(X)
    spent = [b - a for a, b in zip(clock.times[1:], clock.times[2:], strict=False)]
    return median(spent) / evaluation_interval(model.max_iter), fitted


def measure(job: Job) -> dict:
    """Seconds of a step and of its matrix products, and their rates."""
    X, threads = job.case.sample(job.seed).points, job.options["threads"]
    model = Diffusion() if job.manifold.model is None else clone(job.manifold.model)
    with torch_threads(threads):
        step_s, fitted = seconds_per_step(model.set_params(random_state=job.seed), X)
        products = products_of_step(fitted)
        product_s = seconds_of_products(products, job.options.get("seconds", SECONDS))
    return {
        "n": len(X),
        "D": X.shape[1],
        "threads": threads,
        "batch_size": fitted.batch_size,
        "n_parameters": sum(p.numel() for p in network_of(fitted).parameters()),
        "n_products": len(products),
        "mflop": flop(products) / 1e6,
        "step_ms": 1e3 * step_s,
        "products_ms": 1e3 * product_s,
        "gflops": flop(products) / step_s / 1e9,
        "gflops_products": flop(products) / product_s / 1e9,
        "share": product_s / step_s,
    }


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], SETS, 1, argv)
    jobs = [
        Job(SETS[name], seed, args.manifold, {"threads": threads})
        for seed in range(args.seeds)
        for name in args.cases
        for threads in THREADS
    ]
    return run_jobs(measure, jobs, Store("training_speed", args.results), workers=1)


if __name__ == "__main__":
    sys.exit(main())
