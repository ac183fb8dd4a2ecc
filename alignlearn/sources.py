"""Sources of flow matching: the laws that the flow starts from at t = 1.

Any callable ``(n_samples, rng) -> (n_samples, D)`` is a source too, in the *user's* units (those
of X), like `EightGaussians`; `StandardGaussian` lives in the model's coordinates, where the data
have mean 0 and unit mean variance.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Source(ABC):
    """A law with a density to start from; derive from it where a density is needed.

    Attributes
    ----------
    scales_with_data : bool
        Whether the law is one of the model's coordinates; else it is in the user's units.
    """

    scales_with_data: ClassVar[bool] = False

    @abstractmethod
    def sample(self, n_samples: int, n_features: int, rng: np.random.Generator) -> np.ndarray:
        """Independent rows (n_samples, n_features)."""

    @abstractmethod
    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density (n,) at rows (n, D), in the units of the rows."""


@dataclass(frozen=True)
class StandardGaussian(Source):
    """``N(0, I)`` in the model's coordinates: the data's mean and mean standard deviation."""

    scales_with_data = True

    def sample(self, n_samples: int, n_features: int, rng: np.random.Generator) -> np.ndarray:
        """Independent rows (n_samples, n_features)."""
        return rng.standard_normal((n_samples, n_features))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """``-|x|^2 / 2 - D / 2 log 2 pi``."""
        return -0.5 * (x * x).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


@dataclass(frozen=True)
class EightGaussians(Source):
    """Equal mixture of eight Gaussians on a circle around the origin of the user's plane.

    The source of the flow-matching experiments of Chandramoorthy & de Clercq (2025), appendix G.5.
    For data with two features.

    Parameters
    ----------
    radius : float, default=5
        Of the circle, in the units of X.
    scale : float, default=0.1 ** 0.5
        Standard deviation of each Gaussian, in the units of X.

    Raises
    ------
    TypeError, ValueError
        If one of them is no number, not finite or not positive.
    """

    radius: float = 5.0
    scale: float = math.sqrt(0.1)

    def __post_init__(self) -> None:
        for name in ("radius", "scale"):
            value: Any = getattr(self, name)
            if not isinstance(value, Real):
                raise TypeError(f"{name} must be a number, got {value!r}.")
            if not 0 < float(value) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}.")

    @property
    def centers(self) -> np.ndarray:
        """Means of the eight Gaussians, (8, 2)."""
        angle = np.arange(8) * (np.pi / 4)
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def sample(self, n_samples: int, n_features: int, rng: np.random.Generator) -> np.ndarray:
        """Independent rows (n_samples, 2); `n_features` is not asked: the plane has two."""
        centers = self.centers[rng.integers(8, size=n_samples)]
        return centers + self.scale * rng.standard_normal((n_samples, 2))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log of the mean of eight normal densities."""
        squares = ((x[:, None] - self.centers) ** 2).sum(-1) / self.scale**2
        log_p = np.logaddexp.reduce(-0.5 * squares, axis=1)
        return log_p - math.log(8 * 2 * math.pi * self.scale**2)
