"""Figure 1: two moons with their exact score; what errors of the score do to what is generated.

python examples/paper/figure1.py [--out FOLDER] [--quick]
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from shared import (
    GREY,
    S_MIN,
    SmoothedDensity,
    Stopwatch,
    arguments,
    bare,
    cosines,
    draw_curves,
    draw_density,
    draw_vectors,
    frozen_noise,
    ode_process,
    paper_process,
    quantiles,
    save,
)

from alignlearn.curves import TWO_MOONS
from alignlearn.perturbations import ConstantError, OnScore, perturb
from alignlearn.support_shift import support_shift
from alignlearn.tangent import lyapunov_frame, qr_sweep

BOX = (-1.6, 2.6, -1.2, 1.7)
# Of the error on the score, L-infinity; the paper's epsilon is twice that (G.1).
SIZES = (0.01, 0.1, 0.5, 1.0, 2.0)
DRAWN = 0.5


def end(flow, z, noise):
    """Generated points (n, 2), in the units of the data."""
    alpha = float(flow.solver.schedule.alpha(flow.times[-1]))
    return (flow.push(z, noise) / alpha).numpy()


def displacements(name, density, flow, z, noise) -> dict[float, np.ndarray]:
    """Print how far errors move samples, along the moons and off them; the samples by size."""
    fine = density.levels[0]
    samples = {0.0: end(flow, z, noise)}
    print(f"\n{name}: displacement of {len(z)} samples: medians of its parts, then the share of")
    print("the squares that is tangential, root mean square distance to the moons, share off them")
    print("error   tangential  normal   share      distance           off the support")
    for size in SIZES:
        wrong = perturb(flow, ConstantError(size), OnScore(), n_features=2)
        samples[size] = end(wrong, z, noise)
        shift = support_shift(
            samples[0.0],
            samples[size],
            fine.nodes.numpy(),
            reference_frames=fine.tangents[..., None].numpy(),
        )
        d = shift.to_dict()
        print(
            f"{size:<7g} {np.median(shift.tangential):10.4f} {np.median(shift.normal):8.4f} "
            f"{shift.tangential_share:7.3f}   {d['distance_before']:.3f} -> "
            f"{d['distance_after']:.3f}   {shift.off_support_before:.3f} -> {shift.off_support:.3f}"
        )
    return samples


def vectors(name, moons, flow, z, noise, generator):
    """Print the alignment of the leading vectors with the moons; points and converged vectors."""
    trajectory = flow.orbit(z, noise)
    x = trajectory.states[-1] / flow.solver.schedule.alpha(flow.times[-1])
    fine = moons.levels[0]
    tangents = fine.tangents[fine.nearest(x)]
    sweep = qr_sweep(flow, trajectory, 1, generator=generator)
    frame = lyapunov_frame(flow, trajectory)
    print(f"\n{name}: |cos| between the leading Lyapunov vector and the tangent, {len(x)} points")
    print("one QR sweep (the paper):", quantiles(cosines(sweep.vectors[..., 0], tangents)))
    print("converged:               ", quantiles(cosines(frame.vectors[..., 0], tangents)))
    leading = frame.exponents[:, 0] * flow.elapsed
    print(
        f"leading exponent x time: from {leading.min():.2f} to {leading.max():.2f}, "
        f"{(leading > 0).double().mean():.1%} of the points expand"
    )
    return x.numpy(), frame.vectors[..., 0].numpy()


def draw_field(ax, moons, s: float, title: str) -> None:
    """Score field (lines) and density (contours) at noise s."""
    grid = torch.meshgrid(*(torch.linspace(*BOX[i : i + 2], 60) for i in (0, 2)), indexing="xy")
    points = torch.stack([g.double().flatten() for g in grid], -1)
    p = moons.log_density(points, s).exp().reshape(60, 60)
    u, v = moons.score(points, s).reshape(60, 60, 2).unbind(-1)
    ax.contourf(*grid, p, 8, cmap="Blues", alpha=0.8)
    ax.streamplot(
        *(a.numpy() for a in (*grid, u, v)), color=GREY, linewidth=0.6, density=1.1, arrowsize=0.7
    )
    bare(ax, title, BOX)


def main(argv=None) -> None:
    args = arguments(__doc__, argv)
    watch, generator = Stopwatch(), torch.Generator().manual_seed(0)
    n, n_steps, n_vectors = (40, 12, 20) if args.quick else (2000, 800, 400)
    moons = SmoothedDensity.of(*TWO_MOONS)
    sde = paper_process(moons.denoise, n_steps)
    ode = ode_process(moons.denoise, 12 if args.quick else 48)
    print("Figure 1: two moons, exact score, PaperCosine, noise 25 to 0.02, seed 0")
    z = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    noise = frozen_noise(sde, n, 2, generator)
    name = f"reverse SDE, {n_steps} Euler-Maruyama steps"
    samples = displacements(name, moons, sde, z, noise)
    few = slice(n_vectors)
    x, leading = vectors(name, moons, sde, z[few], noise[:, few], generator)
    name = f"probability-flow ODE, {ode.n_steps} steps"
    displacements(name, moons, ode, z, None)
    vectors(name, moons, ode, z[few], None, generator)
    # Errors made on the way shrink with the noise that is left: the same, four times further down.
    low = S_MIN / 4
    finer = SmoothedDensity.of(*TWO_MOONS, s_min=low)
    ode = ode_process(finer.denoise, ode.n_steps, s_min=low)
    displacements(f"the same down to noise {low:g}", finer, ode, z[: n // 2], None)

    figure, axes = plt.subplots(1, 5, figsize=(15, 2.7), layout="constrained")
    draw_field(axes[0], moons, 1.0, "score, density at noise 1")
    draw_field(axes[1], moons, 0.15, "score, density at noise 0.15")
    draw_density(axes[2], samples[0.0], BOX)
    bare(axes[2], "generated", BOX)
    draw_curves(axes[3], TWO_MOONS, color="#b9d7ea", lw=5)
    draw_vectors(axes[3], x[:60], leading[:60], 0.3)
    bare(axes[3], "leading Lyapunov vectors", BOX)
    draw_density(axes[4], samples[DRAWN], BOX)
    bare(axes[4], f"generated, error {DRAWN:g} on the score", BOX)
    save(figure, args.out, "figure1")
    print(f"{watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
