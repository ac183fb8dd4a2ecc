"""
Coordinates of a manifold: unrolling the Swiss roll
===================================================

``transform`` gives every point coordinates on the manifold, by gluing its tangent spaces together.
The points here are noisy; before they are placed, they are projected onto the manifold, so that the
noise does not reach the coordinates. Beside it is scikit-learn's Isomap with its own defaults,
which measures distances over the noisy points; the benchmarks have it, and others, at their best
number of neighbours.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.manifold import Isomap

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_swiss_roll
from alignlearn.models import Diffusion
from alignlearn.plotting import EmbeddingDisplay

sample = make_swiss_roll(1500, noise=0.4, random_state=0)
X, (t, height) = sample.points, sample.parameters.T
arc = (t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2  # length along the roll
truth = np.c_[arc - arc.min(), height]

model = Diffusion(max_iter=1000, n_estimators=1)
manifold = LyapunovManifold(model=model, random_state=0).fit(X)
embeddings = {
    "LyapunovManifold": manifold.embedding_,
    "Isomap at its defaults": Isomap(n_components=2).fit_transform(X),
}
print("dimension", manifold.dimension_)

# %%
# Coloured by the length along the roll, which neither method knows. Both are in the units of the
# data: an unrolled rectangle is as long and as high as the true one. R² says how well the true
# coordinates are a linear function of those found.

figure = plt.figure(figsize=(13, 5.5), layout="constrained")
grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.6))
values = {"values": truth[:, 0], "name": "true length along the roll"}
data = EmbeddingDisplay(X, **values, axis_names=["x", "y", "z"])
data.plot(ax=figure.add_subplot(grid[:, 0], projection="3d")).ax_.set_title("1500 noisy points")
data.ax_.view_init(elev=12, azim=-72)
data.colorbar_.remove()
for row, (name, Y) in enumerate(embeddings.items()):
    score = LinearRegression().fit(Y, truth).score(Y, truth)
    print(f"{name}: R² {score:.3f}")
    display = EmbeddingDisplay(Y, **values).plot(ax=figure.add_subplot(grid[row, 1]))
    display.ax_.set_title(f"{name}: R² {score:.3f}")
plt.show()

# %%
# New points are placed without a new fit, and coordinates lead back to points: a straight line in
# the coordinates is a curve on the roll.

fresh = make_swiss_roll(5, noise=0.4, random_state=0, sample_state=1).points
Y = manifold.transform(fresh)
print("from the new points to where their coordinates lead:")
print(np.linalg.norm(manifold.inverse_transform(Y) - fresh, axis=1).round(2))
