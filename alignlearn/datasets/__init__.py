"""Samples of manifolds that come with the truth: tangent frames and dimension.

Every ``make_*`` writes a chart ``u -> x(u)`` and its Jacobian as formulas, so the frames are exact,
and returns a `ManifoldSample`.

========================  =================  ==================
set                       dimension d        coordinates D
========================  =================  ==================
`make_helix`              1                  3
`make_moons_curve`        1                  2
`make_torus`              2                  3
`make_swiss_roll`         2                  3
`make_s_curve`            2                  3
`make_twin_peaks`         2                  3
`make_severed_sphere`     2                  3
`make_moebius_band`       2                  3
`make_paraboloid`         dim                dim + 1
`make_sphere`             dim                dim + 1
`make_flat_torus`         dim                2 dim
`make_rotations`          3                  9
`make_affine_subspace`    dim                n_features
`make_gaussian`           dim                dim
`make_hypercube`          dim                dim
`make_random_manifold`    dim                n_features
`make_blob_images`        1 to 5, default 2  image_size squared
`make_stroke_images`      1 to 4, default 3  image_size squared
`make_blob_scenes`        1 to 4 an object   image_size squared
`make_square_scenes`      1 to 4 an object   image_size squared
========================  =================  ==================

`torus_tangents` gives the frames of the torus at noisy points too. `load_idx` reads files of the
format of MNIST, `load_image_patches` cuts patches of photographs: real images, without the truth.

The sets share these options, which their own pages do not repeat:

n_samples : int, default=1000
    Number of points n.
n_features : int or None, default=None
    Turn the set into ``R^n_features`` by a random orthonormal map (distances and angles stay). None
    keeps the D coordinates of the table. Images have no such option; `make_affine_subspace` and
    `make_random_manifold` lie in any ``R^n_features`` by themselves, and there it is an int.
noise : float, default=0.0
    Standard deviation of isotropic Gaussian noise added in all coordinates, in data units.
random_state : int, RandomState or None, default=None
    Fixes the manifold (every random constant, the orthonormal map) and the sample.
sample_state : int, RandomState or None, default=None
    Draws other points *of the same manifold*: keep an int ``random_state`` and change this. None:
    ``random_state`` decides. ``n_features`` and ``noise`` do not change which points are drawn.
"""

from alignlearn.datasets._sample import ManifoldSample
from alignlearn.datasets.curves import make_helix, make_moons_curve
from alignlearn.datasets.homogeneous import make_flat_torus, make_rotations, make_sphere
from alignlearn.datasets.idx import load_idx
from alignlearn.datasets.images import make_blob_images, make_stroke_images
from alignlearn.datasets.linear import (
    make_affine_subspace,
    make_gaussian,
    make_hypercube,
    make_random_manifold,
)
from alignlearn.datasets.patches import load_image_patches
from alignlearn.datasets.scenes import make_blob_scenes, make_square_scenes
from alignlearn.datasets.sheets import (
    make_s_curve,
    make_severed_sphere,
    make_swiss_roll,
    make_twin_peaks,
)
from alignlearn.datasets.surfaces import (
    make_moebius_band,
    make_paraboloid,
    make_torus,
    torus_tangents,
)

__all__ = [
    "ManifoldSample",
    "load_idx",
    "load_image_patches",
    "make_affine_subspace",
    "make_blob_images",
    "make_blob_scenes",
    "make_flat_torus",
    "make_gaussian",
    "make_helix",
    "make_hypercube",
    "make_moebius_band",
    "make_moons_curve",
    "make_paraboloid",
    "make_random_manifold",
    "make_rotations",
    "make_s_curve",
    "make_severed_sphere",
    "make_sphere",
    "make_square_scenes",
    "make_stroke_images",
    "make_swiss_roll",
    "make_torus",
    "make_twin_peaks",
    "torus_tangents",
]
