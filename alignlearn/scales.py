"""Spectrum and dimension of a fitted manifold as functions of scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alignlearn.frames import FrameReader


class ScaleSpectrum(NamedTuple):
    """Spectrum by scale, the finest scale first.

    Attributes
    ----------
    windows : ndarray of shape (n_scales, 2)
        Noise levels of each window, per feature, in the units of the data.
    exponents : ndarray of shape (n_samples, n_scales, k)
        Lyapunov exponents over each window.
    dimension : ndarray of shape (n_samples, n_scales)
        Sum of ``1 + exponent``, each between 0 and 1.
    """

    windows: np.ndarray
    exponents: np.ndarray
    dimension: np.ndarray


def scale_spectrum(
    frames: FrameReader, X: np.ndarray, n_columns: int, s_min: float, n_scales: int
) -> ScaleSpectrum:
    """Of rows X (n, D), over windows equally long in log noise from `s_min` to the largest noise.

    Parameters
    ----------
    frames : FrameReader
    X : ndarray of shape (n, D)
    n_columns : int
        Number k of exponents.
    s_min : float
        In units of the data's standard deviation.
    n_scales : int
        Number of windows.

    Returns
    -------
    ScaleSpectrum
    """
    model = frames.model
    edges = np.geomspace(s_min, model.noise_range_[1], n_scales + 1)
    windows = np.stack([edges[:-1], edges[1:]], axis=1)
    exponents = np.stack(
        [frames.exponents(X, n_columns, (float(a), float(b))) for a, b in windows], axis=1
    )
    dimension = np.clip(1 + exponents, 0, 1).sum(axis=2)
    return ScaleSpectrum(windows * np.exp(model.scaling_.log_unit), exponents, dimension)
