"""New members of the three families: what docs/extending.md shows, and what its tests run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn import config_context
from sklearn.mixture import GaussianMixture

from alignlearn.flow import Denoiser
from alignlearn.models import GenerativeModel
from alignlearn.schedules import Schedule
from alignlearn.solvers import Field, Solver

# [schedule]


@dataclass(frozen=True)
class PowerLaw(Schedule):
    """``alpha = 1, sigma = s_max t^power``: the clock of Karras et al. (2022), appendix D."""

    s_max: float = 20.0
    power: float = 7.0

    def alpha(self, t):
        """``1``."""
        return torch.ones_like(t)

    def sigma(self, t):
        """``s_max t^power``."""
        return self.s_max * t**self.power

    def alpha_dot(self, t):
        """``0``."""
        return torch.zeros_like(t)

    def sigma_dot(self, t):
        """``power s_max t^(power - 1)``."""
        return self.power * self.s_max * t ** (self.power - 1)

    def time(self, ratio):
        """``(ratio / s_max)^(1 / power)``."""
        return (ratio / self.s_max) ** (1 / self.power)


# [solver]


@dataclass(frozen=True)
class Ralston(Solver):
    """Second order with the least truncation error of its kind (Ralston 1962)."""

    order = 2

    def __call__(self, field: Field, x, t, s):
        """``x + h (k_1 + 3 k_2) / 4``, k_2 two thirds of the way."""
        h = s - t
        k_1 = field(x, t)
        k_2 = field(x + 2 / 3 * h * k_1, t + 2 / 3 * h)
        return x + h * (k_1 + 3 * k_2) / 4


# [model]


class MixtureDiffusion(GenerativeModel):
    """Diffusion model of a Gaussian mixture, whose denoiser has a closed form.

    ``Den(y, s) = sum_j w_j(y) [m_j + C_j (C_j + s^2)^-1 (y - m_j)]``, with ``w_j`` the posterior
    weight of component j at noise s. Its tangent spaces are those of the components, blended.
    """

    def __init__(self, n_components=10, *, s_min=0.01, s_max=10.0, random_state=None):
        self.n_components = n_components
        self.s_min = s_min
        self.s_max = s_max
        self.random_state = random_state

    def fit(self, X, y=None):
        """Fit the mixture to the scaled rows."""
        x = self._fit_scaling(X, torch.float64, torch.device("cpu"))  # validates X
        mixture = GaussianMixture(
            min(self.n_components, len(x)), reg_covar=1e-6, random_state=self.random_state
        )
        with config_context(array_api_dispatch=False):  # under which k-means starts do not work
            mixture.fit(x.numpy())
        self.weights_, self.means_ = map(torch.from_numpy, (mixture.weights_, mixture.means_))
        self.variances_, self.axes_ = torch.linalg.eigh(torch.from_numpy(mixture.covariances_))
        self.noise_range_ = (float(self.s_min), float(self.s_max))
        self.window_ = (2 * self.s_min, 20 * self.s_min)  # last: it says that the model is fitted
        return self

    def denoiser(self) -> Denoiser:
        """Posterior mean of the mixture."""
        log_weights, means, variances, axes = (
            self.weights_.log(),
            self.means_,
            self.variances_.clamp_min(0),
            self.axes_,
        )

        def denoise(y, s):
            s = torch.as_tensor(s, dtype=y.dtype).reshape(-1, 1, 1)  # one for all rows, or (n, 1)
            total = variances + s * s  # (1 or n, m, D)
            u = torch.einsum("mde,nmd->nme", axes, y[:, None] - means)  # along principal axes
            log_p = log_weights - 0.5 * (u * u / total + total.log()).sum(-1)
            shrunk = means + torch.einsum("mde,nme->nmd", axes, variances / total * u)
            return (torch.softmax(log_p, -1)[..., None] * shrunk).sum(1)

        return denoise


# [end]
