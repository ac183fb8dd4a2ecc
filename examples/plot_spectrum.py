"""
Reading a spectrum
==================

The exponents of all directions, sorted, are the *Lyapunov spectrum* of the data. A direction along
the data has an exponent near 0, one across them falls to the floor at -1, and the gap between the
two is the intrinsic dimension. What the spectrum looks like on five kinds of data, with the same
small model (one network, 500 steps) for all of them.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_random_manifold
from alignlearn.models import Diffusion
from alignlearn.plotting import DimensionDisplay, SpectrumDisplay

rng = np.random.default_rng(0)


def mixture(n=500, D=8):
    """A line, and apart from it a cube of dimension 4, in random positions in R^8."""
    Q = np.linalg.qr(rng.normal(size=(D, 5)))[0]
    line = rng.uniform(-2, 2, (n, 1)) @ Q[:, :1].T
    cube = rng.normal(size=(n, 4)) @ Q[:, 1:].T + 2
    return np.vstack([line, cube])


cases = {
    "clear gap: 3-manifold in R^8": make_random_manifold(1500, 3, 8, random_state=0).points,
    "noise of .05 in all directions": make_random_manifold(
        1500, 3, 8, noise=0.05, random_state=0
    ).points,
    "no gap: every variance half the one before": rng.normal(size=(1500, 8)) * 0.7 ** np.arange(8),
    "full-dimensional: a cloud that fills R^8": rng.normal(size=(1500, 8)),
    "mixture: a line and a 4-dimensional piece": mixture(),
}

# %%
# Where the spectrum does not speak for itself, ``fit`` warns; the text is printed beside the
# answer.

figure, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
for ax, (title, X) in zip(axes.flat, cases.items(), strict=False):
    manifold = LyapunovManifold(model=Diffusion(max_iter=500, n_estimators=1), random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        manifold.fit(X)
    estimate = manifold.dimension_estimate_
    print(f"{title}\n  dimension {estimate.dimension}, confidence {estimate.confidence:.0%}")
    for warning in caught:
        print(f"  warning: {warning.message}")
    SpectrumDisplay.from_estimator(manifold, ax=ax)
    ax.set(title=f"{title}\ndimension_ is {estimate.dimension}", ylim=(-1.1, 0.1))
    ax.get_legend().remove()
axes.flat[2].legend(loc="center left", frameon=False)

# The mixture again, as a histogram: each point has a dimension of its own.
DimensionDisplay.from_estimator(manifold, X, ax=axes.flat[-1])
axes.flat[-1].set_title("the mixture, point by point", pad=24)
plt.show()
