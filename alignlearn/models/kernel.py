"""KernelDiffusion: the exact score of the smoothed training points, without training."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch

from alignlearn._arrays import resolve_device
from alignlearn._callbacks import with_callbacks
from alignlearn._params import check_integers, check_noise_range
from alignlearn.flow import Denoiser
from alignlearn.models.base import GenerativeModel


class KernelDiffusion(GenerativeModel):
    """Diffusion model whose denoiser is exact for the empirical distribution.

    ``Den(y, s) = sum_i softmax_i(-|y - x_i|^2 / 2 s^2) x_i``, a kernel regression. Instant and good
    at small intrinsic dimension; it memorises, so it is poor for the dimension itself. The
    smallest noise level is a neighbour distance, below which there are only separate points.

    Parameters
    ----------
    s_min : float, optional
        Smallest noise level in units of the data's standard deviation; default the median
        distance to the `n_neighbors`-th neighbour among the training points.
    n_neighbors : int, default=5
        See `s_min`.
    s_max : float, default=10
        Largest noise level; raised to ten times a default `s_min` that comes out large.
    device : str or torch.device, optional
        None is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Used by `sample`.

    Attributes
    ----------
    points_ : Tensor of shape (n_samples, n_features)
        The training points, scaled.

    Examples
    --------
    >>> from alignlearn.datasets import make_sphere
    >>> from alignlearn.models import KernelDiffusion
    >>> model = KernelDiffusion(random_state=0).fit(make_sphere(500, 2, random_state=0).points)
    >>> model.sample(3).shape
    (3, 3)
    """

    def __init__(self, *, s_min=None, n_neighbors=5, s_max=10.0, device=None, random_state=None):
        self.s_min = s_min
        self.n_neighbors = n_neighbors
        self.s_max = s_max
        self.device = device
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y=None):
        """Store the training points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or iterable of such blocks
            All rows are kept in memory.
        y : Ignored

        Returns
        -------
        self : KernelDiffusion
        """
        context = self._init_callback_context().call_on_fit_task_begin(estimator=self)
        check_integers(self, "n_neighbors")
        if not isinstance(self.s_max, Real):
            raise TypeError(f"s_max must be a number, got {self.s_max!r}.")
        check_noise_range(0.5 * self.s_max if self.s_min is None else self.s_min, self.s_max)
        self.points_ = self._fit_scaling(X, torch.float64, resolve_device(self.device))
        s_min, s_max = self.s_min, self.s_max
        if s_min is None:  # neighbours in many dimensions are far: keep a decade above them
            s_min = self._neighbor_scale()
            s_max = max(s_max, 10 * s_min)
        self.noise_range_ = self.window_ = (float(s_min), float(s_max))
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    def _neighbor_scale(self) -> float:
        """Median distance to the n_neighbors-th neighbour among distinct points."""
        from sklearn.neighbors import NearestNeighbors  # late: slow to import

        points = np.unique(self.points_.cpu().numpy(), axis=0)
        n_neighbors = min(self.n_neighbors, len(points) - 1)
        search = NearestNeighbors(n_neighbors=n_neighbors).fit(points)
        return float(np.median(search.kneighbors()[0][:, -1]))

    def _bytes_per_column(self) -> int:
        return 24 * (len(self.points_) + self.n_features_in_)

    def denoiser(self) -> Denoiser:
        """Posterior mean of the empirical distribution."""
        points = self.points_
        half_norms = (points * points).sum(-1) / 2

        def denoise(y, s):
            logits = (y @ points.T - half_norms) / (s * s)  # |y|^2 cancels in the softmax
            return torch.softmax(logits, -1) @ points

        return denoise
