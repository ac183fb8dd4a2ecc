"""
Columns with different units: a pipeline
========================================

alignlearn scales the data by one number, so that angles and lengths stay those of the data. If the
columns have different units, lengths mean nothing: a column in metres hides beside one in
millimetres. Put a ``StandardScaler`` in front, as before PCA or a nearest-neighbour search, and ask
everything of the pipeline's last step. Here two wheels turn independently of each other; a pen on
the first is recorded in millimetres, one on the second in metres.
"""

import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_flat_torus
from alignlearn.models import Diffusion
from alignlearn.plotting import SpectrumDisplay

X = make_flat_torus(1500, 2, random_state=0).points  # x of the two pens, y of the two pens
X[:, 1::2] /= 1000

manifold = LyapunovManifold(model=Diffusion(max_iter=800, n_estimators=1), random_state=0)
plain = clone(manifold).fit(X)
pipeline = make_pipeline(StandardScaler(), manifold).fit(X)
scaled = pipeline[-1]

# %%
# As it is, the table is one circle, and the second wheel is too small to be seen. Behind the scaler
# there are two directions to go.

figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained", sharey=True)
SpectrumDisplay.from_estimator(plain, ax=axes[0]).ax_.set_title("as it is", loc="right")
SpectrumDisplay.from_estimator(scaled, ax=axes[1]).ax_.set_title(
    "behind a StandardScaler", loc="right"
)
plt.show()

# %%
# Tangent vectors behind the scaler are those of scaled columns. Multiplied by ``scale_`` they point
# along the data in the columns' own units, no longer orthonormal.

Z = pipeline[:-1].transform(X[:3])
directions = scaled.tangent_space(Z) * pipeline[0].scale_[:, None]
print(directions.shape, "at the first three rows")
