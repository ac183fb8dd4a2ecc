"""Statements of the paper that are no figure: eq. (2) - (4), Theorem 4.3, Lemma 4.4, Prop. 4.1.

python examples/paper/statements.py [--out FOLDER] [--quick]
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from shared import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    SmoothedDensity,
    Stopwatch,
    arguments,
    cosines,
    frozen_noise,
    ode_process,
    paper_process,
    quantiles,
    save,
)
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold, ManifoldSupport
from alignlearn.curves import TWO_MOONS
from alignlearn.datasets import make_moons_curve
from alignlearn.derivatives import jacobian
from alignlearn.flow import Flow
from alignlearn.models import KernelDiffusion
from alignlearn.perturbations import ConstantError, OnScore, perturb
from alignlearn.response import (
    alignment_diagnostics,
    density_response,
    field_error,
    frame_scores,
    path_scores,
)
from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import Exponential
from alignlearn.tangent import log_volume, lyapunov_frame, qr_frames


def smooth_flow(moons, n_steps: int, s_min: float) -> Flow:
    """The probability-flow ODE from noise 2, first order: its steps are far from infinitesimal."""
    schedule = VarianceExploding(s_min, 2.0)
    solver = Exponential(schedule)
    return Flow.from_denoiser(
        moons.denoise, schedule, solver, n_steps=n_steps, s_max=2, s_min=s_min
    )


def off_curve(moons, n: int, s: float, generator):
    """Points (n, 2) of the moons with noise s."""
    x = moons.levels[0].sample(n, generator)
    return x + s * torch.randn(n, 2, dtype=torch.float64, generator=generator)


def swirl(y, t):
    """An error field that is neither constant nor a gradient."""
    return torch.stack([torch.sin(2 * y[:, 1]), torch.cos(2 * y[:, 0])], -1)


def log_density(flow, moons, x, eps: float):
    """Log density (n,) at x of what the process with eps times the swirl in its field makes."""
    wrong = replace(flow, field=lambda y, t: flow.field(y, t) + eps * swirl(y, t))
    trajectory = wrong.trajectory(x)
    return moons.log_density(trajectory.states[0], 2.0) - log_volume(wrong, trajectory)


def response(moons, x, steps) -> None:
    """Eq. (2): change of the log density at fixed points, three ways."""

    print(f"\nEq. (2): d log rho(x) / d eps at {len(x)} points; error relative to the difference")
    print("quotient of the perturbed process's own density, root mean squares")
    print("steps   amended    as printed")
    for n_steps in steps:
        flow = smooth_flow(moons, n_steps, 0.2)
        ends = [log_density(flow, moons, x, eps) for eps in (1e-4, -1e-4)]
        truth = (ends[0] - ends[1]) / 2e-4
        trajectory, chi = flow.trajectory(x), field_error(flow, swirl)
        scores = path_scores(flow, trajectory, moons.score(trajectory.states[0], 2.0))
        amended = density_response(flow, trajectory, scores, chi).sum(0)
        printed = torch.zeros_like(amended)
        for i in range(flow.n_steps):
            y = trajectory.states[i]
            divergence = jacobian(chi(i), y).diagonal(dim1=-2, dim2=-1).sum(-1)
            printed -= divergence + (chi(i)(y) * scores[i]).sum(-1)
        errors = [float((v - truth).norm() / truth.norm()) for v in (amended, printed)]
        print(f"{n_steps:5d}   {errors[0]:.1e}    {errors[1]:.1e}")


def score_components(moons, x, n_steps) -> None:
    """Eq. (3) - (4) against the score itself; Definition 4.2 at the end points."""
    flow = smooth_flow(moons, n_steps, 0.1)
    trajectory = flow.trajectory(x)
    generator = torch.Generator().manual_seed(0)
    start = torch.linalg.qr(torch.randn(2, 1, dtype=torch.float64, generator=generator)).Q
    score = moons.score(trajectory.states[0], 2.0)
    p = frame_scores(flow, trajectory, score, start)[-1]
    s = path_scores(flow, trajectory, score)[-1]
    E = qr_frames(flow, trajectory, start)[0][-1]
    gap = (torch.einsum("nd,ndk->nk", s, E) - p).abs().max() / s.norm(dim=1).median()
    print(f"\nEq. (3) - (4), {n_steps} steps: largest difference of s_N E_N from the recursion,")
    print(f"relative to the median |s_N|: {gap:.1e}")
    frame = lyapunov_frame(flow, trajectory)
    print("Definition 4.2: |cos| of the score and the leading vector (0 is aligned)")
    for name, vector in (("one QR sweep", E[..., 0]), ("converged", frame.vectors[..., 0])):
        print(f"  {name:13s}", quantiles(cosines(s, vector), (0.5, 0.9, 0.99)))


def theorem(moons, z, noise, sde, ode):
    """Theorem 4.3's quantities, in thirds of the process; what is drawn, by process."""
    drawn = {}
    for name, flow, xi in (("reverse SDE", sde, noise), ("ODE", ode, None)):
        trajectory = flow.orbit(z, xi)
        found = alignment_diagnostics(
            flow, trajectory, 1, generator=torch.Generator().manual_seed(0)
        )
        thirds = [slice(i * flow.n_steps // 3, (i + 1) * flow.n_steps // 3) for i in range(3)]
        print(
            f"\nTheorem 4.3, {name}, {flow.n_steps} steps: medians over {len(z)} points and steps,"
        )
        print("in three parts of the process; for a unit of log noise")
        ratio = flow.solver.schedule.ratio(flow.times).log()
        length = (ratio[:-1] - ratio[1:])[:, None]
        # y = x / alpha: without the scale of the schedule, which stretches all directions alike
        alpha_t = flow.solver.schedule.alpha(flow.times)
        scale = (alpha_t[1:] / alpha_t[:-1])[:, None]
        rates = {
            "log alpha (in the frame)": (found.alpha / scale).log() / length,
            "log beta (across it)": (found.beta / scale).log() / length,
            "cross, normal to tangent": found.cross_tangent / length,
            "cross, tangent to normal": found.cross_normal / length,
            "second derivative (ii)": found.second / length,
        }
        for label, values in rates.items():
            parts = "  ".join(f"{values[part].median():8.3f}" for part in thirds)
            print(f"  {label:26s} {parts}")
        rest = found.alpha.log().flip(0).cumsum(0).flip(0)  # of the steps from t on
        above = (rest[: -flow.n_steps // 3] > 0).double().mean(1)
        print(f"  (i) log of the product of alpha over all steps: median {rest[0].median():.2f};")
        print(
            f"      product from t on above 1: at most {above.max():.2f} of the points, t in the "
        )
        print("      first two thirds")
        steps = (found.alpha > 1).double().mean()
        order = (found.alpha >= found.beta).double().mean()
        print(f"  1 >= alpha: {1 - steps:.2f} of steps; alpha >= beta: {order:.2f} of steps")
        drawn[name] = (ratio[:-1].exp().numpy(), rates)
    return drawn


def regularity(moons, z, noise, sde) -> None:
    """Lemma 4.4: alignment under errors of the score."""
    fine = moons.levels[0]
    print("\nLemma 4.4, reverse SDE: leading converged vector under an error on the score")
    print("error   |cos| to the tangent where the sample ends   angle to the vector without (deg)")
    reference = None
    for size in (0.0, 1e-3, 1e-2, 0.1, 0.5, 1.0):
        flow = perturb(sde, ConstantError(size), OnScore(), n_features=2)
        trajectory = flow.orbit(z, noise)
        vector = lyapunov_frame(flow, trajectory).vectors[..., 0]
        reference = vector if reference is None else reference
        x = trajectory.states[-1] / flow.solver.schedule.alpha(flow.times[-1])
        angle = np.degrees(np.arccos(np.minimum(cosines(vector, reference), 1)))
        to_tangent = quantiles(cosines(vector, fine.tangents[fine.nearest(x)]), (0.05, 0.5))
        print(f"{size:<7g} {to_tangent}   median {np.median(angle):.3f}")


def margins(quick: bool) -> None:
    """Proposition 4.1 on the moons: the report of `ManifoldSupport`."""
    X = make_moons_curve(100 if quick else 600, noise=0.02, random_state=0).points
    small = {"n_paths": 2, "n_reference": 20} if quick else {}
    manifold = LyapunovManifold(model=KernelDiffusion(), random_state=0, **small)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        support = ManifoldSupport(manifold, gamma=4.0, random_state=0).fit(X)
    print("\nProposition 4.1, two moons with noise 0.02, KernelDiffusion, gamma = 4")
    print(support.margin_report_)


def main(argv=None) -> None:
    args = arguments(__doc__, argv)
    watch, generator = Stopwatch(), torch.Generator().manual_seed(0)
    n, n_steps = (20, 12) if args.quick else (200, 500)
    coarse = SmoothedDensity.of(*TWO_MOONS, s_min=0.1)
    print("Two moons, exact score, seed 0")
    x = off_curve(coarse, n, 0.2, generator)
    response(coarse, x, (16,) if args.quick else (16, 32, 64))
    score_components(coarse, off_curve(coarse, n, 0.1, generator), 8 if args.quick else 48)
    moons = SmoothedDensity.of(*TWO_MOONS)
    sde = paper_process(moons.denoise, n_steps)
    ode = ode_process(moons.denoise, 12 if args.quick else 48)
    z = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    noise = frozen_noise(sde, n, 2, generator)
    drawn = theorem(moons, z, noise, sde, ode)
    regularity(moons, z, noise, sde)
    margins(args.quick)

    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
    for ax, (name, (s, rates)) in zip(axes, drawn.items(), strict=True):
        styles = zip(rates.items(), (GREEN, RED, BLUE, "#56B4E9", ORANGE), strict=True)
        for (label, values), colour in styles:
            ax.plot(s, values.median(1).values, color=colour, lw=1.5, label=label)
        ax.set(xscale="log", xlabel="noise", title=name, ylim=(-2.6, 2.6))
        ax.invert_xaxis()
    axes[0].set_ylabel("median, per unit of log noise")
    axes[0].legend(fontsize=7, loc="upper left")
    save(figure, args.out, "statements")
    print(f"{watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
