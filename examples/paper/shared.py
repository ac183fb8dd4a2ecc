"""What the paper's figures share: its process, exact densities on curves, colours, files."""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image
from torch import Tensor

from alignlearn.curves import CurveDensity
from alignlearn.flow import Flow, denoiser_field
from alignlearn.schedules import PaperCosine, Schedule
from alignlearn.solvers import EulerMaruyama, ExponentialMidpoint

FIGURES = Path(__file__).parent / "figures"

# Okabe & Ito's colours, told apart with any colour vision; the paper's names for them.
BLUE, RED, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#777777"
INK = LinearSegmentedColormap.from_list("ink", ["white", "#9ecae1", "#0072B2", "#08306b"])

# The paper starts where noise is all there is and ends a little before the data (G.1, G.3).
S_MAX, S_MIN = 25.0, 0.02


def arguments(description: str, argv, *more: tuple[str, dict]) -> argparse.Namespace:
    """Options of every script: where pictures go, tiny sizes, and those of its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder of the pictures")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    for name, options in more:
        parser.add_argument(name, **options)
    args = parser.parse_args(argv)
    torch.set_num_threads(1 if args.quick else torch.get_num_threads())
    return args


def save(figure, folder: Path, name: str) -> Path:
    """Write a figure as a PNG with few colours, small enough for a repository."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    plt.close(figure)
    path = folder / f"{name}.png"
    Image.open(buffer).convert("RGB").quantize(128).save(path, optimize=True)
    print(f"wrote {path.name}, {path.stat().st_size / 1024:.0f} KB")
    return path


class Stopwatch:
    """Seconds since it was made: ``f"{watch:.0f}"``."""

    def __init__(self) -> None:
        self.start, self.cpu_start = time.perf_counter(), time.process_time()

    def processor(self) -> float:
        """Seconds of all threads on processors: what counts on a machine that is shared."""
        return time.process_time() - self.cpu_start

    def __format__(self, spec: str) -> str:
        return format(time.perf_counter() - self.start, spec)


# ------------------------------------------------------------------------------------- processes


class SmoothedDensity(NamedTuple):
    """A density with fewer nodes where there is more noise: right to 1e-5, and many times faster.

    Attributes
    ----------
    levels : tuple of CurveDensity
        From fine to coarse.
    finest : tuple of float
        Smallest noise that each of them can be asked for, ascending.
    """

    levels: tuple[CurveDensity, ...]
    finest: tuple[float, ...]

    @classmethod
    def of(cls, *curves, s_min: float = S_MIN, shift: float = 0.0) -> SmoothedDensity:
        """Uniform on curves; or on the strip that they sweep when moved by up to (shift, shift)."""
        finest = tuple(s_min * 5**i for i in range(4))
        levels = []
        for s in finest:
            level = CurveDensity.from_curves(*curves, s_min=s)
            levels.append(_swept(level, shift, s) if shift else level)
        return cls(tuple(levels), finest)

    def at(self, s: Tensor | float) -> CurveDensity:
        """The level for noise s."""
        # A grid that ends at s_min does so up to rounding.
        return self.levels[sum(float(s) >= 0.999999 * level for level in self.finest[1:])]

    def denoise(self, y: Tensor, s: Tensor | float) -> Tensor:
        """Posterior mean, see `CurveDensity.denoise`."""
        return self.at(s).denoise(y.double(), s).to(y)

    def score(self, y: Tensor, s: Tensor | float) -> Tensor:
        """Score of the density smoothed by noise s."""
        return self.at(s).score(y, s)

    def log_density(self, y: Tensor, s: Tensor | float) -> Tensor:
        """Logarithm of the density smoothed by noise s."""
        return self.at(s).log_density(y, s)


def _swept(density: CurveDensity, shift: float, s: float) -> CurveDensity:
    """The density moved by u (shift, shift), u uniform on [0, 1], by Gauss-Legendre in u."""
    roots, weights = np.polynomial.legendre.leggauss(max(8, round(4 * shift / s)))
    moves = torch.from_numpy((roots + 1) / 2 * shift)[:, None, None]
    log_weights = torch.from_numpy(np.log(weights / 2))[:, None] + density.log_weights
    nodes = (density.nodes + moves).flatten(0, 1)
    tangents = density.tangents.expand(len(roots), -1, -1).flatten(0, 1)
    return CurveDensity(nodes, log_weights.flatten(), tangents)


def paper_process(
    denoise, n_steps: int, s_max: float = S_MAX, s_min: float = S_MIN, schedule=None
) -> Flow:
    """Euler-Maruyama on the paper's cosine schedule, steps equal in time (appendix G.1)."""
    schedule: Schedule = PaperCosine() if schedule is None else schedule
    ends = schedule.time(torch.tensor([s_max, s_min], dtype=torch.float64)).tolist()
    times = torch.linspace(*ends, n_steps + 1, dtype=torch.float64)
    solver = EulerMaruyama(schedule)
    elapsed = solver.log_contraction(n_steps, s_max, s_min)
    return Flow(denoiser_field(denoise, schedule), solver, times, elapsed)


def ode_process(denoise, n_steps: int, s_max: float = S_MAX, s_min: float = S_MIN) -> Flow:
    """The probability-flow ODE of the same schedule."""
    schedule = PaperCosine()
    solver = ExponentialMidpoint(schedule)
    return Flow.from_denoiser(denoise, schedule, solver, n_steps=n_steps, s_max=s_max, s_min=s_min)


def frozen_noise(flow: Flow, n: int, dimension: int, generator) -> Tensor:
    """Standard normal draws (n_steps, n, D)."""
    return torch.randn(flow.n_steps, n, dimension, dtype=torch.float64, generator=generator)


def in_data_units(model):
    """Denoiser ``(y, s)`` of a fitted model in the units of its data."""
    unit, denoise = float(np.exp(model.scaling_.log_unit)), model.denoiser()
    center = torch.from_numpy(model.scaling_.to_data(torch.zeros(1, model.n_features_in_)))

    def den(y: Tensor, s: Tensor) -> Tensor:
        z = ((y - center.to(y)) / unit).float()
        return denoise(z, torch.as_tensor(s) / unit).to(y) * unit + center.to(y)

    return den


# --------------------------------------------------------------------------------------- numbers


def cosines(a, b) -> np.ndarray:
    """``|cos|`` between rows of a (n, D) and b (n, D)."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.minimum(np.abs((a * b).sum(1)) / lengths, 1.0)


def quantiles(values, at=(0.01, 0.05, 0.5)) -> str:
    """Quantiles as text."""
    return ", ".join(f"{q:.0%} {v:.4f}" for q, v in zip(at, np.quantile(values, at), strict=True))


# -------------------------------------------------------------------------------------- pictures


def bare(ax, title: str = "", box=None) -> None:
    """Equal axes without ticks."""
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
    if box is not None:
        ax.set(xlim=box[:2], ylim=box[2:])


def draw_density(ax, x, box, n_bins: int = 90) -> None:
    """Histogram of points (n, 2)."""
    x = np.asarray(x)
    bins = [np.linspace(*box[:2], n_bins), np.linspace(*box[2:], n_bins)]
    counts = np.sqrt(np.histogram2d(x[:, 0], x[:, 1], bins)[0])  # thin places show too
    style = {"cmap": INK, "vmax": max(0.8 * counts.max(), 1.0), "interpolation": "nearest"}
    ax.imshow(counts.T, origin="lower", extent=box, **style)


def draw_curves(ax, curves, **style) -> None:
    """Plane curves as lines."""
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    for curve in curves:
        ax.plot(*curve(u).T.numpy(), **({"color": RED, "lw": 1} | style))


def draw_vectors(ax, x, vectors, length: float, **style) -> None:
    """Line segments (a vector's sign means nothing) centred at points (n, 2)."""
    x, half = np.asarray(x), 0.5 * length * np.asarray(vectors)
    ends = np.stack([x - half, x + half, np.full_like(x, np.nan)], axis=1).reshape(-1, 2)
    ax.plot(*ends.T, **({"color": "black", "lw": 1.2} | style))
