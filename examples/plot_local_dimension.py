"""
Pieces of different dimension
=============================

Data need not have one dimension. Here a curve, a disc and a solid ball of points lie side by side.
``dimension_`` can only name the most frequent answer, with a low confidence; ``dimension(X)``
counts the exponents above the gap at every point on its own.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion
from alignlearn.plotting import EmbeddingDisplay

rng = np.random.default_rng(0)
n = 600
t = rng.uniform(-1.5, 1.5, n)
curve = np.c_[t - 3.2, 0.5 * np.sin(3 * t), 0.5 * np.cos(3 * t)]
r, phi = np.sqrt(rng.uniform(0, 1, n)), rng.uniform(0, 2 * np.pi, n)
disc = 1.2 * np.c_[r * np.cos(phi), r * np.sin(phi), 0.3 * r * np.cos(phi)]
ball = 0.5 * rng.normal(size=(n, 3)) + [3.2, 0, 0]
X, true = np.vstack([curve, disc, ball]), np.repeat([1, 2, 3], n)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", ConvergenceWarning)
    model = Diffusion(max_iter=500, n_estimators=1)
    manifold = LyapunovManifold(model=model, random_state=0).fit(X)
for warning in caught:
    print(f"fit warned: {warning.message}")

# %%
# The count of the directions that survive, at every point.

found = manifold.dimension(X)
for d, piece in enumerate(["curve", "disc", "ball"], start=1):
    print(f"{piece}: {np.mean(found[true == d] == d):.0%} of the points have dimension {d}")

figure, ax = plt.subplots(figsize=(10, 3.6), layout="constrained")
seen = X[:, [0, 2]] + 0.3 * X[:, [1]]  # seen obliquely, from the front
EmbeddingDisplay(seen, labels=found, name="dimension found at the point").plot(ax=ax)
ax.set_axis_off()
plt.show()
