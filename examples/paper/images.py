"""Images for Figures 2 and 5: data, the model and its process, vectors at generated images."""

from __future__ import annotations

import math
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.distance import cdist
from shared import frozen_noise, paper_process
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from alignlearn.datasets import load_idx
from alignlearn.flow import Flow, Trajectory
from alignlearn.models import Diffusion
from alignlearn.tangent import LyapunovFrame, lyapunov_frame, qr_sweep

OPTIONS = (
    ("--idx", {"type": Path, "help": "MNIST's train-images-idx3-ubyte, or .gz; default: digits"}),
    ("--max-iter", {"type": int, "default": 1000, "help": "training steps"}),
    ("--n-images", {"type": int, "default": 10000, "help": "images of an IDX file to train on"}),
)
S_MIN = 0.1  # noise left at the end, in standard deviations of the data
CARRIED = 101  # columns beyond 128 pixels: up to the paper's index 100


class Generated(NamedTuple):
    """Images that a trained model generated, and the vectors at them.

    Attributes
    ----------
    data : ndarray of shape (n, h, w)
        Real images.
    model : Diffusion
        Trained on them.
    flow : Flow
        The paper's process, in the model's coordinates.
    trajectory : Trajectory
        Of the generated images.
    images : ndarray of shape (m, h, w)
        Where it ends, in grey levels.
    frame : LyapunovFrame
        Converged vectors there.
    sweep : LyapunovFrame
        Those of one QR sweep.
    """

    data: np.ndarray
    model: Diffusion
    flow: Flow
    trajectory: Trajectory
    images: np.ndarray
    frame: LyapunovFrame
    sweep: LyapunovFrame

    @property
    def top(self) -> float:
        """Brightest grey level."""
        return float(self.data.max())

    def decode(self, x) -> np.ndarray:
        """Images (m, h, w) of rows in the coordinates of the flow at its end."""
        return self.model.decode(x).reshape(-1, *self.data.shape[1:])

    def vector(self, row: int, index: int) -> np.ndarray:
        """Lyapunov vector (h, w) at a generated image; indices count from 1, as in the paper."""
        return self.frame.vectors[row, :, index - 1].numpy().reshape(self.data.shape[1:])

    def moved(self, row: int, index: int) -> np.ndarray:
        """A generated image after a step along a vector; of the two signs the one that shows."""
        image, move = self.images[row], self.step * self.vector(row, index)
        both = [np.clip(image + move, 0, self.top), np.clip(image - move, 0, self.top)]
        return max(both, key=lambda picture: np.abs(picture - image).sum())

    @property
    def typical(self) -> list[int]:
        """Generated images, those nearest to a real one first."""
        data = self.data.reshape(len(self.data), -1).astype(float)
        return np.argsort(cdist(self.images.reshape(len(self.images), -1), data).min(1)).tolist()

    @property
    def step(self) -> float:
        """Length of a visible move: a third of the distance of images from their mean."""
        rows = self.data.reshape(len(self.data), -1).astype(float)
        return float(np.linalg.norm(rows - rows.mean(0), axis=1).mean() / 3)


@cache
def generated(idx: Path | None, max_iter: int, n_images: int, quick: bool) -> Generated:
    """Train on digits or an IDX file, generate, take the vectors; once for both figures."""
    data = load_digits().images if idx is None else load_images(idx)
    data = data[: 200 if quick else n_images]
    small = {"max_iter": 8, "width": 16, "n_blocks": 1} if quick else {"max_iter": max_iter}
    model = Diffusion(n_estimators=1, random_state=0, **small)
    m, n_steps = (4, 6) if quick else (16 if data[0].size <= 128 else 6, 300)
    return generate(data, model, m, n_steps)


def load_images(idx: Path) -> np.ndarray:
    """Images (n, h, w) of an IDX file."""
    data = load_idx(idx)
    if data.ndim != 3:
        raise SystemExit(f"expected images (n, h, w) in {idx}, got shape {data.shape}.")
    return data


def generate(
    data: np.ndarray, model: Diffusion, m: int, n_steps: int, s_min: float = S_MIN
) -> Generated:
    """Fit a model to images (n, h, w), generate m by the paper's process, take the vectors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(data.reshape(len(data), -1).astype(float))
    print(
        f"{len(data)} images of {data.shape[1]} x {data.shape[2]} pixels, trained {model.n_iter_} "
        f"of {model.max_iter} steps, held-out loss {model.loss_:.3f}, seed 0"
    )
    D, s_max = model.n_features_in_, model.noise_range_[1]
    flow = paper_process(model.denoiser(), n_steps, s_max, s_min)
    generator = torch.Generator().manual_seed(0)
    alpha = float(flow.solver.schedule.alpha(flow.times[0]))
    z = alpha * model.gaussian_.sample(m, s_max, generator)
    with torch.no_grad():
        trajectory = flow.orbit(z, frozen_noise(flow, m, D, generator).to(z))
    k = D if D <= 128 else min(D, CARRIED)
    end = float(flow.solver.schedule.alpha(flow.times[-1]))
    # In x / alpha, where a normal direction has -1: the schedule scales all directions alike.
    scale = math.log(end / alpha) / flow.elapsed
    frame, sweep = (
        LyapunovFrame(f.points.cpu(), f.vectors.cpu(), f.exponents.cpu() - scale)
        for f in (
            lyapunov_frame(flow, trajectory, k, generator=generator),
            qr_sweep(flow, trajectory, k, generator=generator),
        )
    )
    images = model.decode(trajectory.states[-1] / end).reshape(-1, *data.shape[1:])
    return Generated(data, model, flow, trajectory, images, frame, sweep)
