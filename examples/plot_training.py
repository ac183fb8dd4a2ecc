"""
Has the model learned enough?
=============================

The tangent spaces are as good as the model, and ``max_iter`` is what it costs. Too little of it
shows in the held-out loss, which still falls, in exponents across the data that are far from the
floor at -1, and in most cases in a warning of ``fit``. The same torus with four budgets; beside
each stands the angle to the true planes, which a user does not have. The third budget is the
treacherous one: the dimension is right, nothing warns, and yet the planes are far off.
"""

import warnings

import matplotlib.pyplot as plt
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_torus
from alignlearn.metrics import normal_angle
from alignlearn.models import Diffusion

sample = make_torus(1000, random_state=0)
X, fresh = sample.points, make_torus(200, random_state=0, sample_state=1)

figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
for max_iter, colour in zip([50, 150, 400, 1000], plt.cm.viridis([0, 0.3, 0.6, 0.85]), strict=True):
    manifold = LyapunovManifold(
        model=Diffusion(max_iter=max_iter, n_estimators=1), n_reference=60, random_state=0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        manifold.fit(X)
    (history,) = manifold.model_.histories_
    angle = normal_angle(manifold.tangent_space(fresh.points, 2), fresh.tangents).mean()
    first_clause = str(caught[0].message).split(":")[0] if caught else "none"
    print(f"{max_iter:5d} steps: loss {manifold.model_.loss_:.3f}, angle {angle:4.1f}°")
    print(f"      warning: {first_clause}")
    label = f"{max_iter} steps: {angle:.1f}°"
    axes[0].plot(history.steps, history.held_out_loss, ".-", color=colour, label=label)
    axes[1].plot([1, 2, 3], manifold.exponents_, "o-", color=colour)

axes[0].set(
    xscale="log", xlabel="step", ylabel="held-out loss (1: no structure found)", title="training"
)
axes[0].legend(title="mean angle to the truth", frameon=False)
axes[1].axhline(-1, color="0.4", ls="--", lw=1)
axes[1].set(xticks=[1, 2, 3], ylim=(-1.08, 0.08), title="spectrum", ylabel="Lyapunov exponent")
axes[1].set_xlabel("index of the direction, most stretched first")
plt.show()
