"""
What a Lyapunov vector is
=========================

A generative model turns noise into data step by step. Take two runs that start almost alike: where
do they end? Errors *along* the data survive, errors *across* are undone, because the model pulls
every run onto the data. So a small circle of starting points becomes a thin ellipse. Its long axis
is the first **Lyapunov vector**, here a tangent of the curve; the logarithms of its half-axes, in
units of what noise removal alone would do, are the **Lyapunov exponents**.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from alignlearn import LyapunovManifold
from alignlearn.models import KernelDiffusion
from alignlearn.solvers import ExponentialMidpoint

WINDOW = (0.03, 0.3)  # noise levels of the run, in units of the data's standard deviation


def closed_curve(phi):
    """Points (n, 2) of a clover leaf."""
    return (1 + 0.3 * np.cos(3 * phi))[:, None] * np.c_[np.cos(phi), np.sin(phi)]


X = closed_curve(np.random.default_rng(0).uniform(0, 2 * np.pi, 2000))

# The deterministic generating process (the probability-flow ODE), so that a start has one end.
manifold = LyapunovManifold(
    model=KernelDiffusion(), solver=ExponentialMidpoint(), window=WINDOW, random_state=0
).fit(X)
print("mean exponents:", manifold.exponents_.round(2), "- dimension", manifold.dimension_)

# %%
# Twelve points of the curve, the starts of the runs that end there, a small circle of other starts
# around each, and what the model makes of these circles.

model = manifold.model_
flow = model.flow(window=WINDOW, n_steps=24)
ends = closed_curve(2 * np.pi * np.arange(12) / 12 + 0.2)
phi = torch.linspace(0, 2 * torch.pi, 61, dtype=torch.float64)
circle = 0.15 * torch.stack([phi.cos(), phi.sin()], dim=1)  # (61, 2)

with torch.no_grad():
    starts = flow.pull(model.encode(ends))[:, None] + circle  # (12, 61, 2)
    images = flow.push(starts.reshape(-1, 2))
starts = model.decode(starts.reshape(-1, 2)).reshape(12, 61, 2)
images = model.decode(images).reshape(12, 61, 2)
frame = manifold.lyapunov_frame(ends)

figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
titles = ["noise: circles of errors", "data: the same errors, generated", "one of them, enlarged"]
for ax, curves, title in zip(axes, [starts, images, images], titles, strict=True):
    ax.plot(*X.T, ".", ms=1.5, color="0.75", zorder=0)
    for curve in curves:
        ax.fill(*curve.T, facecolor="#0072B255", edgecolor="#0072B2", lw=1.5)
    ax.set(title=title, aspect="equal", xticks=[], yticks=[])

i = 1
for j, colour in enumerate(["#D55E00", "#009E73"]):
    tip = ends[i] + 0.1 * frame.vectors[i, :, j]
    label = f"vector {j + 1}, exponent {frame.exponents[i, j]:.2f}"
    axes[2].annotate("", tip, ends[i], arrowprops={"color": colour, "width": 2, "headwidth": 9})
    axes[2].plot([], [], color=colour, lw=3, label=label)
axes[2].set(xlim=ends[i, 0] + [-0.16, 0.16], ylim=ends[i, 1] + [-0.16, 0.16])
axes[2].legend(loc="lower left")
plt.show()
