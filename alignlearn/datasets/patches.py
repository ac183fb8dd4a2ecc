"""Patches of the two photographs that come with scikit-learn: real images, no truth."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.utils import check_random_state

from alignlearn.datasets._sample import check_integer


def load_image_patches(n_samples=5000, *, patch_size=8, color=False, random_state=None):
    """Square patches of ``china.jpg`` and ``flower.jpg`` at random places, half of each.

    Parameters
    ----------
    n_samples, patch_size : int, default=5000, 8
        Number of patches, pixels per side.
    color : bool, default=False
        Three channels; otherwise their mean.
    random_state : int, RandomState or None, default=None
        Draws the places.

    Returns
    -------
    X : ndarray of shape (n_samples, C * patch_size ** 2)
        Brightness between 0 and 1; rows are images of shape (C, patch_size, patch_size), C = 3 or
        1, flattened with the channels first, as ``Diffusion(image_shape=...)`` takes them.

    Raises
    ------
    ValueError
        If a number is not a positive integer, or the patch larger than the photographs.
    ImportError
        If Pillow is not installed, which scikit-learn reads them with.

    Examples
    --------
    >>> from alignlearn.datasets import load_image_patches
    >>> load_image_patches(100, patch_size=16, color=True, random_state=0).shape
    (100, 768)
    """
    n_samples = check_integer("n_samples", n_samples)
    size = check_integer("patch_size", patch_size)
    rng, parts = check_random_state(random_state), []
    for i, image in enumerate(load_sample_images().images):
        if size > min(image.shape[:2]):
            raise ValueError(
                f"expected patch_size <= {min(image.shape[:2])}, the height of the photographs, "
                f"got {size}"
            )
        n = (n_samples + 1 - i) // 2
        if n:
            pixels = image / 255 if color else image.mean(axis=2, keepdims=True) / 255
            patches = extract_patches_2d(pixels, (size, size), max_patches=n, random_state=rng)
            patches = patches.reshape(n, size, size, -1)
            parts.append(patches.transpose(0, 3, 1, 2).reshape(n, -1))
    return np.concatenate(parts)
