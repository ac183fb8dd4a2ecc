"""
Tangent planes of a surface
===========================

The first two Lyapunov vectors at a point of a surface in space span its tangent plane. Below they
are drawn as little squares on a torus whose points are noisy, and coloured by their angle to the
true planes. Beside it is local PCA at a common number of neighbours; the benchmarks have it at the
best one, chosen in hindsight. The model has never seen the points at which it is asked.
"""

import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from sklearn.neighbors import NearestNeighbors

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_torus
from alignlearn.metrics import normal_angle
from alignlearn.models import Diffusion

X = make_torus(1000, noise=0.05, random_state=0).points
fresh = make_torus(250, noise=0.05, random_state=0, sample_state=1)

model = Diffusion(max_iter=800, n_estimators=1)
manifold = LyapunovManifold(model=model, random_state=0).fit(X)
print("dimension", manifold.dimension_, "- noise found:", round(manifold.noise_level_, 3))

# %%
# Both methods are given the dimension 2 and asked at 250 new points.

near = NearestNeighbors(n_neighbors=15).fit(X).kneighbors(fresh.points, return_distance=False)
centred = X[near] - X[near].mean(axis=1, keepdims=True)
frames = {
    "Lyapunov vectors": manifold.tangent_space(fresh.points, n_components=2),
    "local PCA, 15 neighbours": np.linalg.svd(centred)[2][:, :2].swapaxes(1, 2),
}

figure = plt.figure(figsize=(12, 5), layout="constrained")
corners = 0.28 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
for i, (name, vectors) in enumerate(frames.items(), start=1):
    angles = normal_angle(vectors, fresh.tangents)  # degrees, (250,)
    print(f"{name}: {angles.mean():.1f} degrees on average, {np.quantile(angles, 0.9):.1f} at 90 %")
    ax = figure.add_subplot(1, 2, i, projection="3d")
    squares = fresh.points[:, None] + np.einsum("ca,nda->ncd", corners, vectors)
    patches = Poly3DCollection(squares, edgecolor="k", linewidth=0.2)
    patches.set(array=angles, clim=(0, 25), cmap="viridis")
    ax.add_collection3d(patches)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), zlim=(-1.5, 1.5), title=f"{name}: mean {angles.mean():.1f}°")
    ax.set_box_aspect((2, 2, 1), zoom=1.35)
    ax.view_init(elev=48)
    ax.set_axis_off()
figure.colorbar(patches, ax=figure.axes, label="angle to the true plane, degrees", shrink=0.7)
plt.show()
