"""Errors in the generating process: how far samples move along the support and off it. Run

python examples/benchmarks/robustness.py --workers 2

One network of each family is trained on the same sample with the same budget, and generates with an
error of several sizes in every step. Lengths are in standard deviations of the data, the unit of
the errors. Where the support is and its normal are known in closed form.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
import torch
from common import Case, Job, Store, own_options, parse_args, run_jobs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold
from alignlearn._arrays import torch_threads
from alignlearn.boundary import KernelBoundary
from alignlearn.couplings import OptimalTransportCoupling
from alignlearn.datasets import make_moons_curve, make_sphere, make_torus
from alignlearn.models import Diffusion, FlowMatching
from alignlearn.paths import SchroedingerBridgePath, TrigonometricPath
from alignlearn.perturbations import ConstantError, OnMap, OnScore, OnVelocity, RandomSignError
from alignlearn.robustness import perturbed_generation
from alignlearn.schedules import Cosine, Rectified
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion, RungeKutta4, StochasticSolver
from alignlearn.sources import EightGaussians
from alignlearn.support_shift import energy_distance, normal_cosine
from alignlearn.tangent import lyapunov_frame

N_SAMPLES, N_FRAMES = 600, 300  # generated, and of these with Lyapunov vectors
SIZES = (0.1, 0.5, 1.0)  # of the error, besides none
NU, GAMMA = 0.05, 10.0  # of the SVM; gamma per squared standard deviation: a kernel .22 of it wide
NEAR = 0.1  # to the support, or three times the noise if that is more
# All take every step: 40 evaluations without improvement never come.
BUDGET = {"width": 64, "n_blocks": 2, "batch_size": 128, "max_iter": 1500, "n_iter_no_change": 40}


# ------------------------------------------------------------------------------------- targets


def nearest_on_sphere(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest points (n, D) of the unit sphere and the unit normals there."""
    points = X / np.linalg.norm(X, axis=1, keepdims=True)
    return points, points


def nearest_on_torus(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for the torus of radii 2 and 1."""
    core = np.c_[2 * X[:, :2] / np.linalg.norm(X[:, :2], axis=1, keepdims=True), np.zeros(len(X))]
    normals = nearest_on_sphere(X - core)[0]
    return core + normals, normals


def nearest_on_moons(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for two half circles; beyond an end, the end."""
    best = np.full(len(X), np.inf)
    points, normals = np.empty_like(X), np.empty_like(X)
    for center, up in (((0.0, 0.0), 1), ((1.0, 0.5), -1)):
        angle = np.arctan2(up * (X[:, 1] - center[1]), X[:, 0] - center[0])
        angle = np.where(angle < -np.pi / 2, np.pi, np.clip(angle, 0, np.pi))
        normal = np.c_[np.cos(angle), up * np.sin(angle)]
        length = np.linalg.norm(X - center - normal, axis=1)
        nearer = length < best
        points[nearer], normals[nearer] = (center + normal)[nearer], normal[nearer]
        best = np.minimum(best, length)
    return points, normals


def _case(name: str, title: str, make: Callable, noise: float = 0.0) -> Case:
    return Case(f"robust/{name}", title, make, 2000, noise)


CASES = {
    case.name: case
    for case in [
        _case("moons", "two moons, curve", make_moons_curve),
        _case("moons-noisy", "two moons, strip of noise .1", make_moons_curve, 0.1),
        _case("circle", "circle", partial(make_sphere, dim=1)),
        _case("sphere", "S^2", partial(make_sphere, dim=2)),
        _case("torus", "torus", make_torus),
    ]
}
NEAREST = {
    "robust/moons": nearest_on_moons,
    "robust/moons-noisy": nearest_on_moons,
    "robust/circle": nearest_on_sphere,
    "robust/sphere": nearest_on_sphere,
    "robust/torus": nearest_on_torus,
}


# -------------------------------------------------------------------------------------- models

MODELS = {
    "SGM": Diffusion(n_estimators=1, **BUDGET),
    "OT-CFM": FlowMatching(coupling=OptimalTransportCoupling(), **BUDGET),
    "CFM": FlowMatching(**BUDGET),
    "SB-CFM": FlowMatching(path=SchroedingerBridgePath(0.5), **BUDGET),
    "interpolant": FlowMatching(path=TrigonometricPath(), **BUDGET),
}
# The source of the paper's experiments, 5 and .1 ** .5 around moons that are three times as large.
SOURCES = ("Gaussian", "8 Gaussians")
OTHER_SOURCE = ("OT-CFM", "CFM", "SB-CFM", "interpolant")
EIGHT = EightGaussians(radius=5 / 3, scale=0.1**0.5 / 3)

FLOW_STEPS = 24  # of the flow matching family, each with four evaluations

# Ways to generate with a diffusion model. The straight clock is that of CFM, whose flow is the same
# for exact fields. A step of the SDE is of first order.
PROCESSES = {
    "SGM-ODE": (ExponentialMidpoint(Cosine()), 36),
    "SGM-SDE": (ReverseDiffusion(Cosine()), 48),
    "SGM-ODE, straight clock": (ExponentialMidpoint(Rectified()), 36),
}

KINDS = {
    "velocity": (RandomSignError, OnVelocity()),
    "score": (RandomSignError, OnScore()),
    "map": (RandomSignError, OnMap()),
    "velocity, constant": (ConstantError, OnVelocity()),
    "velocity, signs each step": (partial(RandomSignError, per_step=True), OnVelocity()),
}


def make_jobs(
    cases, seeds, models, kinds, sources=SOURCES, max_iter: int | None = None
) -> list[Job]:
    """All targets and models of the first seed, then of the next."""
    jobs = []
    for seed in seeds:
        for name in cases:
            for model_name in models:
                moons = CASES[name].make is make_moons_curve and model_name in OTHER_SOURCE
                for source in sources:
                    if source != "Gaussian" and not moons:
                        continue
                    model = clone(MODELS[model_name])
                    if source != "Gaussian":
                        model.set_params(source=EIGHT)
                    if max_iter is not None:
                        model.set_params(max_iter=max_iter)
                    options = {"model": model_name, "source": source, "kinds": list(kinds)}
                    jobs.append(Job(CASES[name], seed, LyapunovManifold(model=model), options))
    return jobs


# -------------------------------------------------------------------------------- measurements


def alignment(model, solver, n_steps: int, d: int, nearest: Callable, seed: int) -> np.ndarray:
    """Cosines (n,) of the d leading Lyapunov vectors with the normal at generated points."""
    flow = model.flow(solver=solver, n_steps=n_steps)
    generator = torch.Generator().manual_seed(seed)
    z, noise = model._draw_source(flow, N_FRAMES, generator), None
    if isinstance(solver, StochasticSolver):
        noise = torch.randn(flow.n_steps, *z.shape, generator=generator).to(z)
    with torch.no_grad():
        orbit = flow.orbit(z, noise)
    vectors = lyapunov_frame(flow, orbit, d).vectors
    alpha = float(model._schedule_of(flow.solver).alpha(flow.times[-1]))
    return normal_cosine(
        vectors.double().numpy(), nearest(model.decode(orbit.states[-1] / alpha))[1]
    )


class Ruler:
    """Measures samples against the true support and a one-class SVM of real data.

    The SVM holds `NU` of fresh real points to be outside. Its margin is ``f / ||w||``, the distance
    in feature space from the hyperplane through the origin.
    """

    def __init__(self, X: np.ndarray, fresh: np.ndarray, nearest: Callable, noise: float) -> None:
        self.nearest = nearest
        self.mean, self.unit = X.mean(axis=0), float(np.sqrt(X.var(axis=0).mean()))
        self.near = max(NEAR, 3 * noise / self.unit)
        boundary = KernelBoundary.fit(self.scaled(X), nu=NU, gamma=GAMMA)
        f = boundary.score(self.scaled(fresh))  # the SVM's own offset leaves many of these outside
        self.boundary = replace(boundary, offset=float(np.quantile(f, NU)))
        self.real_margin = float(f.mean())

    def scaled(self, X: np.ndarray) -> np.ndarray:
        """Rows in standard deviations of the data."""
        return (X - self.mean) / self.unit

    def height(self, X: np.ndarray) -> np.ndarray:
        """Signed distance (n,) from the support."""
        points, normals = self.nearest(X)
        off = (X - points) / self.unit
        return np.copysign(np.linalg.norm(off, axis=1), np.sum(off * normals, axis=1))

    def __call__(self, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
        """Root mean square moves along and off the support, and where the samples are now."""
        step = (self.nearest(after)[0] - self.nearest(before)[0]) / self.unit
        height, f = self.height(after), self.boundary.score(self.scaled(after))
        climbed = height - self.height(before)
        return {
            "along": float(np.sqrt(np.mean(np.sum(step**2, axis=1)))),
            "off": float(np.sqrt(np.mean(climbed**2))),
            "off_median": float(np.median(np.abs(climbed))),
            "distance": float(np.sqrt(np.mean(height**2))),
            "distance_median": float(np.median(np.abs(height))),
            "near": float(np.mean(np.abs(height) <= self.near)),
            "inside": float(np.mean(f >= self.boundary.offset)),
            "margin_kept": float(f.mean() / self.real_margin),
        }


def measure(job: Job) -> dict:
    """Every process of one trained model: alignment, and what errors of every size do."""
    with torch_threads(1), warnings.catch_warnings():  # the networks are small
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _measure(job)


def _measure(job: Job) -> dict:
    case, seed, nearest = job.case, job.seed, NEAREST[job.case.name]
    sample, fresh = case.sample(seed), case.fresh(seed, N_SAMPLES).points
    ruler = Ruler(sample.points, fresh, nearest, case.noise)
    start = time.perf_counter()
    model = clone(job.manifold.model).set_params(random_state=seed)
    with mock.patch("alignlearn.models.diffusion.find_shell", return_value=None):
        model.fit(sample.points)  # the same for all: FlowMatching is not told of spheres
    result = {"threads": 1, "fit_s": time.perf_counter() - start, "processes": {}}
    result |= {"steps": model.n_iter_, "held_out_loss": model.loss_}
    real = case.make(N_SAMPLES, noise=case.noise, random_state=30_000 + seed).points
    result["real_energy"] = energy_distance(ruler.scaled(real), ruler.scaled(fresh))
    result["real"] = ruler(real, real)
    processes = PROCESSES
    if isinstance(model, FlowMatching):
        processes = {job.options["model"]: (RungeKutta4(), FLOW_STEPS)}
    for name, (solver, n_steps) in processes.items():
        cosine = alignment(model, solver, n_steps, sample.tangents.shape[-1], nearest, seed)
        found = {
            "alignment": float(cosine.mean()),
            "alignment_95": float(np.quantile(cosine, 0.95)),
        }
        found["errors"] = {}
        for kind in job.options["kinds"]:
            if kind == "score" and name not in ("SGM-ODE", "SGM-SDE"):
                continue
            make, place = KINDS[kind]
            rows = {}
            for size in SIZES:
                options = {"n_samples": N_SAMPLES, "n_steps": n_steps, "random_state": seed}
                pair = perturbed_generation(model, make(size), place, solver=solver, **options)
                rows.setdefault("0", ruler(pair.unperturbed, pair.unperturbed))
                rows[f"{size:g}"] = ruler(pair.unperturbed, pair.perturbed)
            found["errors"][kind] = rows
            if "energy" not in found:
                found["energy"] = energy_distance(
                    ruler.scaled(pair.unperturbed), ruler.scaled(fresh)
                )
        result["processes"][name] = found
    return result


def main(argv=None) -> int:
    own = own_options()
    own.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    own.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["velocity", "score"])
    own.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    args = parse_args(__doc__.splitlines()[0], CASES, 5, argv, own)
    jobs = make_jobs(
        args.cases,
        range(args.seeds),
        args.models,
        args.kinds,
        args.sources,
        args.max_iter,
    )
    return run_jobs(measure, jobs, Store("robustness", args.results), workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
