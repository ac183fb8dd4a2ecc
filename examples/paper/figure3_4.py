"""Figures 3 and 4: plane curves, learned and exact score, densities on the way, paths and vectors.

python examples/paper/figure3_4.py [--out FOLDER] [--quick]
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from shared import (
    BLUE,
    GREEN,
    RED,
    S_MAX,
    SmoothedDensity,
    Stopwatch,
    arguments,
    bare,
    cosines,
    draw_curves,
    draw_density,
    draw_vectors,
    frozen_noise,
    in_data_units,
    paper_process,
    quantiles,
    save,
)

from alignlearn.curves import TWO_MOONS, figure_eight
from alignlearn.models import Diffusion
from alignlearn.tangent import lyapunov_frame, qr_sweep

CURVES = {
    "moons": (TWO_MOONS, (-1.6, 2.6, -1.2, 1.7)),
    "eight": ((figure_eight,), (-1.5, 1.5, -1.1, 1.1)),
}
WIDE = (-3.2, 3.2, -3.2, 3.2)
NEAR_DATA = 0.1  # the paper's generating time 0.9, in the schedule's time


def learned(density, quick: bool):
    """Denoiser of a small network trained on points of the curve, in their units."""
    points = density.levels[0].sample(3000, torch.Generator().manual_seed(1)).numpy()
    model = Diffusion(
        max_iter=8 if quick else 1500,
        width=16 if quick else 64,
        n_blocks=1 if quick else 2,
        n_estimators=1,
        s_max=S_MAX / points.std(),
        random_state=0,
    ).fit(points)
    print(f"trained {model.n_iter_} steps on 3000 points: held-out loss {model.loss_:.3f}")
    return in_data_units(model)


def report(name, flow, density, trajectory, generator) -> np.ndarray:
    """Print distances and alignment at the ends; the converged vectors (n, 2, 2)."""
    alpha = flow.solver.schedule.alpha(flow.times[-1])
    x, fine = trajectory.states[-1] / alpha, density.levels[0]
    nearest = fine.nearest(x)
    distance = (x - fine.nodes[nearest]).norm(dim=1).numpy()
    print(f"{name}: distance of samples to the curve, median {np.median(distance):.4f}, ", end="")
    print(f"99 % {np.quantile(distance, 0.99):.4f}; |cos| of the leading vector to the tangent")
    frame = lyapunov_frame(flow, trajectory)
    sweep = qr_sweep(flow, trajectory, 1, generator=generator)
    tangents = fine.tangents[nearest]
    print("  one QR sweep:", quantiles(cosines(sweep.vectors[..., 0], tangents)))
    print("  converged:   ", quantiles(cosines(frame.vectors[..., 0], tangents)))
    top, low = (frame.exponents * flow.elapsed).median(0).values.tolist()
    print(f"  median log stretch {top:.2f} and {low:.2f}")
    return frame.vectors.numpy()


def draw_row(axes, name, flow, trajectory, shown, vectors, curves, box) -> None:
    """Densities at start, time .9 and end; two paths with their vectors."""
    i = int(torch.argmin((flow.times - NEAR_DATA).abs()))
    for ax, j, title in zip(axes, (0, i, -1), ("start", "time 0.9", "end"), strict=False):
        draw_density(ax, trajectory.states[j], WIDE if j == 0 else box)
        draw_curves(ax, curves)
        bare(ax, title, WIDE if j == 0 else box)
    axes[0].set_ylabel(f"{name} score", fontsize=10)
    ax = axes[3]
    draw_curves(ax, curves)
    for row in shown:
        path = trajectory.states[:, row].numpy()
        ax.plot(*path.T, color=BLUE, lw=0.5, alpha=0.7)
        for column, shade in ((1, "#8fd6bd"), (0, GREEN)):
            v = vectors[row, :, column]
            draw_vectors(ax, path[-1:], v[None], 0.7, color=shade, lw=3.2 - column, zorder=3)
    bare(ax, "paths and Lyapunov vectors", (-2.6, 2.6, -2.0, 2.0))


def main(argv=None) -> None:
    args = arguments(__doc__, argv)
    watch = Stopwatch()
    n, n_steps, n_vectors = (30, 12, 10) if args.quick else (2000, 500, 200)
    for label, (curves, box) in CURVES.items():
        print(f"\nFigures 3 and 4: {label}, PaperCosine, {n_steps} Euler-Maruyama steps, seed 0")
        density = SmoothedDensity.of(*curves)
        figure, axes = plt.subplots(2, 4, figsize=(11, 5), layout="constrained")
        denoisers = {"learned": learned(density, args.quick), "exact": density.denoise}
        for row, (name, denoise) in zip(axes, denoisers.items(), strict=True):
            generator = torch.Generator().manual_seed(0)
            flow = paper_process(denoise, n_steps)
            z = torch.randn(n, 2, dtype=torch.float64, generator=generator)
            noise = frozen_noise(flow, n, 2, generator)
            with torch.no_grad():
                trajectory = flow.orbit(z, noise)
            few = trajectory._replace(states=trajectory.states[:, :n_vectors])
            vectors = report(f"{name} score", flow, density, few, generator)
            draw_row(row, name, flow, trajectory, (1, 4), vectors, curves, box)
        lines = [plt.Line2D([], [], color=c, lw=2) for c in (RED, BLUE, GREEN, "#8fd6bd")]
        names = ["data manifold", "reverse path", "leading vector", "second vector"]
        figure.legend(lines, names, fontsize=9, loc="outside lower center", ncols=4)
        save(figure, args.out, f"figure3_4_{label}")
    print(f"{watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
