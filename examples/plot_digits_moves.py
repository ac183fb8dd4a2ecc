"""
A digit along its Lyapunov vectors
==================================

Images of one kind fill little of pixel space. Moving a digit along its leading Lyapunov vectors
keeps it a digit and changes how it is written; the same step along one of the last vectors leaves
the data at once. scikit-learn's digits, 8 x 8 pixels; the model is trained for a tenth of the
default budget, and the picture of the whole one is what ``python -m alignlearn demo`` draws.
"""

import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion
from alignlearn.plotting import ImageMovesDisplay

X = load_digits().data

# Digits have no one clear dimension, which `fit` says; here only the vectors are wanted.
warnings.simplefilter("ignore", ConvergenceWarning)
manifold = LyapunovManifold(
    model=Diffusion(max_iter=600, n_estimators=1),
    window=(0.2, 2.0),  # coarse scales: what makes a digit, not its pixels' noise
    n_reference=50,
    random_state=0,
).fit(X)
print("exponents 1, 10, 30, 60:", manifold.exponents_[[0, 9, 29, 59]].round(2))

# %%
# Two digits, every step equally long: 24 grey levels over all 64 pixels.

for row in (3, 5):
    display = ImageMovesDisplay.from_estimator(
        manifold, X[row], (8, 8), [1, 2, 3, 5, 10, 30, 60], step=24, value_range=(0, 16)
    )
    display.figure_.suptitle("A digit moved by the same length along its Lyapunov vectors")
plt.show()
