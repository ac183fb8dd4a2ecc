"""
Dimension depends on scale
==========================

A ribbon is a line from afar, a surface close up, and a volume for someone who sees its thickness.
Which of these is *the* dimension is a question about scale, and the Lyapunov spectrum answers it
scale by scale: ``scale_spectrum`` takes the exponents over windows of noise levels, and a
direction counts by how much of it survives the noise.
"""

import matplotlib.pyplot as plt
import numpy as np

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion
from alignlearn.plotting import ScaleDisplay

rng = np.random.default_rng(0)
n, width, thickness = 2000, 0.5, 0.015
angle = rng.uniform(0, 2 * np.pi, n)
X = np.c_[np.cos(angle), np.sin(angle), width * rng.uniform(-0.5, 0.5, n)]
X += thickness * rng.normal(size=X.shape)

model = Diffusion(max_iter=800, n_estimators=1)
manifold = LyapunovManifold(model=model, n_reference=50, random_state=0).fit(X)

# %%
# The windows come in the units of the data, so the ribbon's own measures can be drawn beside them:
# below the thickness it tends to 3 dimensions, between thickness and width to 2, above the width
# to 1, and beyond its radius to a point.

figure = plt.figure(figsize=(12, 4.5), layout="constrained")
ax = figure.add_subplot(1, 2, 1, projection="3d")
ax.scatter(*X.T, s=2, color="#0072B2")
ax.set(title="a ribbon", zlim=(-0.6, 0.6))
ax.set_box_aspect((2, 2, 1.2), zoom=1.5)
ax.set_axis_off()

ax = figure.add_subplot(1, 2, 2)
display = ScaleDisplay.from_estimator(manifold, X[:100], n_scales=8, ax=ax)
for value, name in [(thickness, "thickness"), (width, "width"), (1.0, "radius")]:
    ax.axvline(value, color="0.3", ls=":", lw=1)
    ax.text(value, 0.05, f" {name}", color="0.3")
plt.show()

for (low, high), dimension in zip(display.windows, display.dimension.mean(axis=0), strict=True):
    print(f"scales {low:.3f} to {high:.3f}: dimension {dimension:.2f}")
