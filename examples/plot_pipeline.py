"""
Columns with different units: a pipeline
========================================

alignlearn scales the data by one number, so that angles and lengths stay those of the data. If the
columns have different units, lengths mean nothing: a column in metres hides beside one in
millimetres. Put a ``StandardScaler`` in front, as before PCA or a nearest-neighbour search, and
ask everything of the pipeline's last step.
"""

import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_s_curve
from alignlearn.models import Diffusion
from alignlearn.plotting import SpectrumDisplay

X = make_s_curve(1000, random_state=0).points
X[:, 2] /= 1000  # the height in metres, the other two columns in millimetres

manifold = LyapunovManifold(model=Diffusion(max_iter=800, n_estimators=1), random_state=0)
plain = clone(manifold).fit(X)
pipeline = make_pipeline(StandardScaler(), manifold).fit(X)
scaled = pipeline[-1]

# %%
# Without the scaler the S is a flat rectangle: its third direction has died before the model
# looks. The number of dimensions is the same, 2, but the tangent spaces are all the same plane.

figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
for ax, manifold, title in zip(axes, [plain, scaled], ["as it is", "StandardScaler"], strict=True):
    SpectrumDisplay.from_estimator(manifold, ax=ax).ax_.set_title(title)
plt.show()

# %%
# Tangent vectors of the pipeline are in scaled columns; multiply the rows by ``scale_`` to have
# them in the data's.

Z = pipeline[:-1].transform(X[:3])
vectors = scaled.tangent_space(Z) * pipeline[0].scale_[:, None]
print(vectors.shape)
