"""Answers known without the library: closed forms, dense matrices, slow and obvious algorithms.

Everything is float64 and in variance-exploding coordinates ``y = x + s z``.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import quad, solve_ivp
from scipy.stats import multivariate_normal
from torch.utils._python_dispatch import TorchDispatchMode


def gaussian_sample(n=1000, D=3):
    """Rows with standard deviations 1.5, 0.7, 0.2, off the origin."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, D)) * np.array([1.5, 0.7, 0.2])[:D] + np.arange(D)


def gaussian_rates(variances, s_min, s_max):
    """Lyapunov exponents of Gaussian data, ``log sqrt((c + s_min^2)/(c + s_max^2)) / elapsed``.

    The frozen-noise SDE stretches by the square and is divided by twice the time: the same rates.
    """
    c = np.asarray(variances, dtype=float)
    stretch = 0.5 * np.log((c + s_min**2) / (c + s_max**2))
    return stretch / math.log(s_max / s_min)


def gaussian_loss(variances, s_min, s_max):
    """Denoising loss ``(1 + s^2) mean_i c_i / (c_i + s^2)`` of Gaussian data, mean over log s."""
    c, low, high = np.asarray(variances, dtype=float), math.log(s_min), math.log(s_max)

    def loss(u):
        return (1 + math.exp(2 * u)) * np.mean(c / (c + math.exp(2 * u)))

    return quad(loss, low, high)[0] / (high - low)


def gaussian_denoiser(covariance):
    """``C (C + s^2 I)^-1 y`` with dense linear algebra."""
    C = torch.as_tensor(covariance, dtype=torch.float64)
    identity = torch.eye(len(C), dtype=torch.float64)

    def denoise(y, s):
        return torch.linalg.solve(C + s**2 * identity, y.mT).mT @ C

    return denoise


class Mixture(NamedTuple):
    """Equal mixture of ``N(mean_j, variance_j I)``, j = 1..m: a non-linear field, exactly known."""

    means: torch.Tensor  # (m, D)
    variances: torch.Tensor  # (m,)

    @classmethod
    def example(cls, D=3, m=3):
        means = torch.from_numpy(np.random.default_rng(1).normal(size=(m, D)))
        return cls(means, torch.linspace(0.05, 0.4, m, dtype=torch.float64))

    def _log_weights(self, y, s):
        """Log joint density of component and y, (n, m)."""
        v = self.variances + s**2
        squares = ((y[:, None] - self.means) ** 2).sum(-1)
        D = y.shape[-1]
        return -0.5 * (squares / v + D * torch.log(2 * math.pi * v)) - math.log(len(v))

    def log_density(self, y, s):
        """Log density of the mixture smoothed by noise s, (n,)."""
        return torch.logsumexp(self._log_weights(y, s), -1)

    def denoise(self, y, s):
        """``E[x | x + s z = y]``, (n, D)."""
        weights = torch.softmax(self._log_weights(y, s), -1)
        gain = (self.variances / (self.variances + s**2))[:, None]
        means = self.means + gain * (y[:, None] - self.means)
        return (weights[..., None] * means).sum(1)

    def moved(self, turn, shift):
        """The mixture of the points ``turn x + shift``."""
        return Mixture(self.means @ turn.T + shift, self.variances)


def reference_flow(denoise, y, s_max, s_min, contraction=1):
    """``dy/du = contraction (y - Den(y, e^u))`` from u = log s_max to log s_min, by DOP853."""

    def velocity(u, flat):
        rows = torch.from_numpy(flat).reshape(y.shape)
        s = torch.tensor(math.exp(u), dtype=torch.float64)
        return (contraction * (rows - denoise(rows, s))).numpy().ravel()

    span = (math.log(s_max), math.log(s_min))
    options = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-13}
    solution = solve_ivp(velocity, span, y.numpy().ravel(), **options)
    return torch.from_numpy(solution.y[:, -1]).reshape(y.shape)


def dense_jacobian(step, x):
    """Jacobian of a row-wise map at each row, (n, D, D), one reverse-mode Jacobian per row."""
    rows = [torch.func.jacrev(lambda v: step(v[None])[0])(row) for row in x]
    return torch.stack(rows).detach()


def dense_tangent_map(flow, trajectory, dense_jacobian=dense_jacobian):
    """``dF = dF_{N-1} ... dF_0`` as a product of dense Jacobians, (n, D, D)."""
    product = torch.eye(trajectory.states.shape[-1], dtype=torch.float64)
    for i in range(flow.n_steps):
        product = dense_jacobian(flow.step(i), trajectory.states[i]) @ product
    return product


def dense_frame(flow, trajectory):
    """Left singular vectors (n, D, D) and exponents (n, D) of the dense tangent map."""
    U, S, _ = torch.linalg.svd(dense_tangent_map(flow, trajectory))
    return U, S.log() / flow.elapsed


def projectors(vectors):
    """Orthogonal projectors (n, D, D) on the columns: equal for equal spans."""
    return vectors @ np.swapaxes(vectors, -1, -2)


def gaussian_log_density(X, data, s=0.0):
    """Log density at X of the Gaussian with the moments of `data`, smoothed by s."""
    covariance = np.cov(data.T, bias=True) + s**2 * np.eye(data.shape[1])
    return multivariate_normal(data.mean(0), covariance).logpdf(X)


class Largest(TorchDispatchMode):
    """Numbers in the memory of the largest tensor made within."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                held = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.numbers = max(self.numbers, held)
        return out
