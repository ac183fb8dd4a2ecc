"""Figures 7 and 8: flow matching from eight Gaussians to two moons, with errors; its alignment.

python examples/paper/figure7_8.py [--targets strip curve] [--out FOLDER] [--quick]
"""

from __future__ import annotations

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.spatial import KDTree
from shared import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SmoothedDensity,
    Stopwatch,
    arguments,
    bare,
    cosines,
    draw_curves,
    draw_density,
    draw_vectors,
    quantiles,
    save,
)

from alignlearn.couplings import OptimalTransportCoupling
from alignlearn.curves import lower_moon, upper_moon
from alignlearn.flow import Flow
from alignlearn.models import FlowMatching
from alignlearn.paths import TrigonometricPath
from alignlearn.perturbations import FieldError, OnVelocity, perturb
from alignlearn.solvers import Heun
from alignlearn.sources import EightGaussians
from alignlearn.tangent import lyapunov_frame, qr_sweep

BOX = (-5.2, 6.8, -3.8, 5.0)
SIZES = (0.0, 0.5, 1.0)
SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
OFF = 0.15  # farther from the support than this, in the units of the data, is off it
SMOOTHED = 0.15  # noise at which the score of the strip is taken

TARGETS = {"strip": 0.6, "curve": 0.0}  # how far the curve is moved along the diagonal
EIGHT = {"source": EightGaussians()}
MODELS = {
    # Its velocity is nearly constant along paths; how it stretches a Gaussian is learned last.
    "OT-CFM": EIGHT | {"coupling": OptimalTransportCoupling(), "max_iter": 3000},
    "CFM": EIGHT,
    "interpolant": EIGHT | {"path": TrigonometricPath()},
    "diffusion": {},  # Gaussian source, independent pairs: its probability-flow ODE
}


def _moon(curve):
    return lambda u: 3 * curve(u) - 1  # the scale of TorchCFM's tutorials


MOONS = (_moon(upper_moon), _moon(lower_moon))


class Target(NamedTuple):
    """Two moons: the curve, or the strip that it sweeps if moved along the diagonal.

    Attributes
    ----------
    shift : float
        Length of the move in each coordinate.
    support : ndarray of shape (m, 2)
        Points of the support, closer to each other than `OFF`.
    tangents : ndarray of shape (m, 2)
        Of the curve through them.
    smoothed : SmoothedDensity
        For the score.
    """

    shift: float
    support: np.ndarray
    tangents: np.ndarray
    smoothed: SmoothedDensity

    @classmethod
    def make(cls, shift: float) -> Target:
        fine = SmoothedDensity.of(*MOONS, s_min=0.05, shift=shift).levels[0]
        smoothed = SmoothedDensity.of(*MOONS, s_min=SMOOTHED, shift=shift)
        return cls(shift, fine.nodes.numpy(), fine.tangents.numpy(), smoothed)

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Points (n, 2) as TorchCFM draws them."""
        rng = np.random.default_rng(seed)
        u = torch.from_numpy(rng.uniform(size=n))
        x = torch.where(torch.from_numpy(rng.random((n, 1)) < 0.5), MOONS[0](u), MOONS[1](u))
        return x.numpy() + self.shift * rng.uniform(size=(n, 1))

    def across(self, x: np.ndarray) -> np.ndarray:
        """Directions (n, 2) off the support: normals of the curve, the score of the strip."""
        if not self.shift:
            tangents = self.tangents[KDTree(self.support).query(x)[1]]
            return tangents[:, ::-1] * [-1.0, 1.0]
        rows = torch.from_numpy(x).split(1000)
        return torch.cat([self.smoothed.score(part, SMOOTHED) for part in rows]).numpy()


class Model(NamedTuple):
    """A trained model and its flow, in the model's coordinates."""

    model: FlowMatching
    flow: Flow

    @classmethod
    def train(cls, name: str, X: np.ndarray, quick: bool) -> Model:
        watch = Stopwatch()
        budget = {"max_iter": 1200, "width": 64, "n_blocks": 2} | MODELS[name]
        if quick:
            budget |= {"max_iter": 2, "width": 16, "n_blocks": 1}
        model = FlowMatching(**budget, random_state=0).fit(X)
        print(f"  {name}: {model.n_iter_} steps in {watch:.0f} s, held-out loss {model.loss_:.3f}")
        return cls(model, model.flow(solver=Heun(), n_steps=2 if quick else 16))

    def start(self, n: int, seed: int) -> torch.Tensor:
        """Points of the source (n, 2) in the coordinates of the flow, at t = 1."""
        rng, model = np.random.default_rng(seed), self.model
        x = model.source_.sample(n, 2, rng)
        like = model.gaussian_.basis
        if model.source_.scales_with_data:
            return torch.from_numpy(x).to(like)
        return model.scaling_.to_model(x, like)

    def points(self, x: torch.Tensor) -> np.ndarray:
        """Points of the end (n, 2) in the units of the data."""
        return self.model.decode(x / float(self.model.path_.alpha(self.flow.times[-1])))

    def generate(self, z: torch.Tensor, error) -> np.ndarray:
        """Samples (n, 2) with a constant error (2,) on the velocity, in the units of the data."""
        # t runs from noise to data downwards: the error of dx/dt has the other sign.
        chi = -torch.tensor(error) / float(np.exp(self.model.scaling_.log_unit))
        wrong = FieldError(lambda x, t: chi.to(x).expand_as(x))
        flow = perturb(self.flow, wrong, OnVelocity(), n_features=2)
        with torch.no_grad():
            return self.points(flow.push(z))


def figure7(label, target, models, n, out) -> None:
    """Densities under errors; distances to the support, over the four signs of an error."""
    print(f"\nFigure 7, {label}: {n} samples, error on the velocity; mean over four signs (range)")
    print(f"model        error  median distance      farther than {OFF} from the support")
    tree = KDTree(target.support)
    figure, axes = plt.subplots(len(models), 3, figsize=(6.6, 6.9), layout="constrained")
    for row, (name, model) in zip(axes, models.items(), strict=True):
        z = model.start(n, seed=1)
        for ax, size in zip(row, SIZES, strict=True):
            drawn = [model.generate(z, size * np.array(sign)) for sign in SIGNS[: 4 if size else 1]]
            away = np.array([tree.query(x)[0] for x in drawn])
            median, off = np.median(away, axis=1), (away > OFF).mean(axis=1)
            print(
                f"{name:12s} {size:<5g}  {median.mean():.3f} ({median.min():.3f} - "
                f"{median.max():.3f})  {off.mean():.3f} ({off.min():.3f} - {off.max():.3f})"
            )
            draw_density(ax, drawn[0], BOX)
            bare(ax, f"error {size:g}" if name == "OT-CFM" else "", BOX)
        row[0].set_ylabel(name, fontsize=10)
    save(figure, out, f"figure7_{label}")


def vectors(model: Model, z: torch.Tensor, converged: bool):
    """End points, leading vectors (n, 2) and log stretches (n,), in chunks."""
    points, leading, stretch = [], [], []
    for part in z.split(1000):
        with torch.no_grad():
            trajectory = model.flow.orbit(part)
        if converged:
            frame = lyapunov_frame(model.flow, trajectory)
        else:
            generator = torch.Generator().manual_seed(0)
            frame = qr_sweep(model.flow, trajectory, 1, generator=generator)
        points.append(model.points(trajectory.states[-1]))
        leading.append(frame.vectors[..., 0].double().numpy())
        stretch.append(frame.exponents[:, 0].numpy() * model.flow.elapsed)
    return np.concatenate(points), np.concatenate(leading), np.concatenate(stretch)


def figure8(label, target, models, n, out) -> None:
    """Leading vectors beside the score; histograms of their cosine, two algorithms."""
    across = "score" if target.shift else "normal"
    print(
        f"\nFigure 8, {label}: |cos| of the leading vector and the {across}, {n} points; 0: aligned"
    )
    figure, axes = plt.subplots(
        2, len(models), figsize=(11, 5), layout="constrained", height_ratios=[1.2, 1]
    )
    for (top, bottom), (name, model) in zip(axes.T, models.items(), strict=True):
        z = model.start(n, seed=2)
        watch = Stopwatch()
        x, leading, stretch = vectors(model, z, converged=True)
        seconds = f"{watch:.0f} s ({watch.processor():.0f} s of processor time)"
        swept, swept_stretch = vectors(model, z, converged=False)[1:]
        direction = target.across(x)
        found = {
            "one QR sweep": cosines(swept, direction),
            "converged": cosines(leading, direction),
        }
        print(f"{name}: {n} converged vectors in {seconds}, {torch.get_num_threads()} thread(s)")
        for algorithm, cos in found.items():
            share = f"below 0.1: {(cos < 0.1).mean():.3f}, above 0.5: {(cos > 0.5).mean():.3f}"
            print(f"  {algorithm:13s} {share}; {quantiles(cos, (0.5, 0.9, 0.99))}")
        agree = quantiles(cosines(swept, leading), (0.05, 0.25, 0.5))
        print(f"  |cos| between the two algorithms: {agree}")
        positive = [f"{(s > 0).mean():.3f}" for s in (swept_stretch, stretch)]
        print(f"  leading exponent positive: one QR sweep {positive[0]}, converged {positive[1]}")
        shown = slice(70)
        unit = direction[shown] / np.linalg.norm(direction[shown], axis=1, keepdims=True)
        draw_curves(top, MOONS, color="0.85", lw=1)
        draw_vectors(top, x[shown], unit, 0.8, color=BLUE, lw=1.3)
        draw_vectors(top, x[shown], leading[shown], 0.9, color=RED, lw=1.3)
        bare(top, name, (-4.6, 5.6, -3.2, 3.6))
        edges = np.linspace(0, 1, 41)
        for (algorithm, cos), colour in zip(found.items(), (ORANGE, GREY), strict=True):
            style = {"histtype": "step", "lw": 1.8} if algorithm != "converged" else {"alpha": 0.7}
            bottom.hist(cos, edges, density=True, color=colour, label=algorithm, **style)
        bottom.set(xlabel=f"|cos(leading vector, {across})|", xlim=(0, 1), yscale="log")
        bottom.set(ylim=(0.02, 60))
    lines = [plt.Line2D([], [], color=c, lw=2) for c in (RED, BLUE, ORANGE, GREY)]
    names = ["leading vector, converged", across, "one QR sweep", "converged"]
    figure.legend(lines, names, fontsize=9, loc="outside lower center", ncols=4)
    axes[1, 0].set_ylabel("density (log)")
    save(figure, out, f"figure8_{label}")


def main(argv=None) -> None:
    one = {"choices": TARGETS, "nargs": "+", "default": list(TARGETS)}
    args = arguments(__doc__, argv, ("--targets", one))
    watch = Stopwatch()
    n_7, n_8 = (60, 80) if args.quick else (2000, 40000)
    for label in args.targets:
        print(f"\nTarget: two moons, the {label}; 10,000 points, batches of 256, seed 0")
        target = Target.make(TARGETS[label])
        X = target.sample(200 if args.quick else 10000, seed=0)
        models = {name: Model.train(name, X, args.quick) for name in MODELS}
        figure7(label, target, models, n_7, args.out)
        figure8(label, target, models, n_8, args.out)
    print(f"{watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
