"""
A model that exists already
===========================

``PretrainedModel`` reads tangent spaces off any denoising network: it wants to know what the
network predicts, on which path, and how it counts time. Here the network is a stand-in for one that
was trained elsewhere and takes a fraction of a second: it knows the noise in images of a blob,
counts steps from 0 to 999 as a DDPM does, and sees pixels in [-1, 1]. The manifold is known, all
places of one blob, so that the tangent spaces can be compared with the truth.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from alignlearn import LyapunovManifold
from alignlearn.clocks import LinearClock
from alignlearn.datasets import make_blob_images
from alignlearn.doors import from_edm
from alignlearn.metrics import tangent_error
from alignlearn.models import PretrainedModel
from alignlearn.plotting import ImageMovesDisplay
from alignlearn.predictions import NoisePrediction
from alignlearn.tabulated import Tabulated

SIDE = 10
images = make_blob_images(1500, image_size=SIDE, random_state=0)
X = images.points  # one row per image, pixels in [0, 1]
known = torch.tensor(2 * X - 1, dtype=torch.float32)  # as the network saw them


def denoiser(y, sigma):
    """Images (n, 1, SIDE, SIDE) without their noise: the mean of what is known, by distance."""
    rows, s2 = y.flatten(1), sigma[:, None] ** 2
    weights = torch.softmax((rows @ known.T - (known**2).sum(1) / 2) / s2, dim=1)
    return (weights @ known).reshape(y.shape)


# %%
# The network itself predicts noise, in the coordinates of a variance-preserving diffusion. That is
# all there is to say about it; ``loss_`` is the check: 1 would be a network that knows nothing.

table = Tabulated.from_alphas_cumprod(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))


def network(x, step):
    t = step.double() / 999
    alpha, sigma = (v.float()[:, None, None, None] for v in (table.alpha(t), table.sigma(t)))
    return (x - alpha * denoiser(x / alpha, (sigma / alpha).flatten())) / sigma


units = {"shape": (1, SIDE, SIDE), "shift": 0.5, "scale": 0.5, "window": (0.2, 1.0)}
model = PretrainedModel(network, NoisePrediction(), table, clock=LinearClock(999), **units)
manifold = LyapunovManifold(model=model, n_reference=10, n_paths=2, random_state=0).fit(X)
error = tangent_error(manifold.tangent_space(X[:5], 2), images.tangents[:5]).mean()
print(f"loss {manifold.model_.loss_:.2f}, exponents {manifold.exponents_[:5].round(2)}")
print(f"dimension {manifold.dimension_}, tangent spaces {error:.1f} degrees from the true ones")

# %%
# The same network as a denoiser that is told the noise level, which is how EDM and k-diffusion call
# theirs, has the same frames: conventions change nothing.

twin = LyapunovManifold(
    model=from_edm(denoiser, sigma_min=0.02, **units), n_reference=10, n_paths=2, random_state=0
).fit(X)
between = tangent_error(twin.tangent_space(X[:5], 2), manifold.tangent_space(X[:5], 2))
print(f"largest angle between the two: {between.max():.3f} degrees")

# %%
# Along the two leading vectors the blob moves; along the others it becomes something else.

display = ImageMovesDisplay.from_estimator(
    manifold, X[5], (SIDE, SIDE), [1, 2, 3, 5, 20, 100], step=1.0, value_range=(0, 1)
)
display.figure_.suptitle("A blob moved by the same length along its Lyapunov vectors")
plt.show()
