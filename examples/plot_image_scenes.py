"""
Images are more than rows of numbers
====================================

Two blobs that move about: four degrees of freedom among 256 pixels, with known tangent spaces. Told
the shape of the image, ``Diffusion`` learns with a small U-Net what is near in the image; without
it the network sees 256 unrelated columns, and learns from so few images hardly anything. Each of
the four true moves of an image is projected onto the tangent space that either model has found:
what is left of it is what the model knows of that move.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_blob_scenes
from alignlearn.metrics import tangent_error
from alignlearn.models import Diffusion

X = make_blob_scenes(2000, n_objects=2, random_state=0).points
fresh = make_blob_scenes(4, n_objects=2, random_state=0, sample_state=1)
models = {
    "U-Net": Diffusion(image_shape=(16, 16), width=24, batch_size=32, max_iter=600),
    "rows of numbers": Diffusion(n_estimators=1, max_iter=300),
}

warnings.simplefilter("ignore", ConvergenceWarning)  # so little training, as `fit` would say
tangents = {"truth": fresh.tangents}
for name, model in models.items():
    manifold = LyapunovManifold(
        4, model, window=(0.1, 1.0), n_paths=2, n_reference=4, random_state=0
    ).fit(X)
    tangents[name] = manifold.tangent_space(fresh.points, 4)
    angle = tangent_error(tangents[name], fresh.tangents).mean()
    print(f"{name}: held-out loss {manifold.model_.loss_:.2f}, angle to the truth {angle:.0f}°")

# %%
# The image, its four moves (a blob right or down, red is brighter and blue darker), and what either
# model keeps of them.

row, moves = 0, fresh.tangents[0]
figure, axes = plt.subplots(3, 5, figsize=(8, 5), layout="constrained")
for line, (name, E) in zip(axes, tangents.items(), strict=True):
    kept = E[row] @ (E[row].T @ moves)  # (256, 4)
    line[0].set_ylabel(name)
    for ax, move, true in zip(line[1:], kept.T, moves.T, strict=True):
        top = np.abs(true).max()
        ax.imshow(move.reshape(16, 16), cmap="RdBu_r", vmin=-top, vmax=top)
        ax.set_xlabel(f"{np.linalg.norm(move):.2f} kept" if name != "truth" else "")
    if name == "truth":
        line[0].imshow(fresh.points[row].reshape(16, 16), cmap="gray")
    else:
        line[0].set_frame_on(False)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
plt.show()
