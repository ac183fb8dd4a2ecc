"""GaussianModel: the closed form, baseline and oracle."""

from __future__ import annotations

import torch

from alignlearn._arrays import resolve_device
from alignlearn._callbacks import with_callbacks
from alignlearn._params import check_noise_range
from alignlearn.flow import Denoiser
from alignlearn.models.base import GenerativeModel


class GaussianModel(GenerativeModel):
    """Diffusion model of the Gaussian with the data's mean and covariance; no training.

    Its tangent spaces are the principal components, the same at every point: the linear baseline,
    and the oracle of the library's tests: ``sigma_i^2 = (c_i + s_min^2) / (c_i + s_max^2)``.

    Parameters
    ----------
    s_min, s_max : float, default=0.01, 10
        Range of noise levels in units of the data's standard deviation.
    window : (float, float), default=(0.02, 0.2)
        Noise levels over which Lyapunov vectors are taken by default.
    device : str or torch.device, optional
        None is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Used by `sample`.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.models import GaussianModel
    >>> X = np.random.default_rng(0).normal(size=(500, 3)) * [3.0, 2.0, 1.0]
    >>> GaussianModel(random_state=0).fit(X).sample(2).shape
    (2, 3)
    """

    def __init__(
        self, *, s_min=0.01, s_max=10.0, window=(0.02, 0.2), device=None, random_state=None
    ):
        self.s_min = s_min
        self.s_max = s_max
        self.window = window
        self.device = device
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y=None):
        """Estimate mean and covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or iterable of such blocks
            Rows of an `np.memmap` stay on disk.
        y : Ignored

        Returns
        -------
        self : GaussianModel
        """
        context = self._init_callback_context().call_on_fit_task_begin(estimator=self)
        check_noise_range(self.s_min, self.s_max, self.window)
        self._fit_scaled_rows(X, torch.float64, resolve_device(self.device))
        self.noise_range_ = (float(self.s_min), float(self.s_max))
        self.window_ = tuple(self.window)
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    def denoiser(self) -> Denoiser:
        """Posterior mean of the Gaussian, ``c_i / (c_i + s^2) y_i`` on each principal axis."""
        return self.gaussian_.denoise
