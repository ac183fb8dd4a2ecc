"""KernelBoundary: the arithmetic of a one-class SVM, whatever trained it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alignlearn._arrays import row_chunks

# Degree and constant of the polynomial and sigmoid kernels: `OneClassSVM`'s defaults, which are not
# those of `pairwise_kernels`.
_DEGREE, _COEF0 = 3, 0.0


@dataclass(frozen=True)
class KernelBoundary:
    """A hyperplane in feature space: ``f(x) = <w, Phi(x)>``, ``w = sum_i alpha_i Phi(x_i)``.

    Parameters
    ----------
    points : ndarray of shape (m, D)
        Support vectors ``x_i``.
    coefficients : ndarray of shape (m,)
        Dual coefficients ``alpha_i``.
    offset : float
        The hyperplane is ``f = offset``.
    kernel : str or callable
        Of `OneClassSVM`: 'rbf', 'linear', 'poly', 'sigmoid', or a callable ``(A, B) -> (n, m)``.
    gamma : float
        Of the kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.boundary import KernelBoundary
    >>> plane = KernelBoundary(np.array([[0.0, 3.0]]), np.ones(1), 3.0, "linear", 1.0)
    >>> plane.margin(np.array([[7.0, 1.0], [0.0, 2.5]]))  # distance to the line y = 1
    array([0. , 1.5])
    """

    points: np.ndarray
    coefficients: np.ndarray
    offset: float
    kernel: str | Callable
    gamma: float

    @classmethod
    def fit(
        cls, X, *, nu, kernel="rbf", gamma=1.0, n_exact=10_000, n_components=500, random_state=None
    ) -> KernelBoundary:
        """One-class SVM of the rows of X; beyond `n_exact` rows by Nystroem features and SGD.

        The approximate one is a kernel expansion in the points of Nystroem. SGD finds its w; its
        offset is taken as what it stands for, the nu-quantile of f over X.
        """
        from sklearn.kernel_approximation import Nystroem  # late: slow to import, as all here
        from sklearn.linear_model import SGDOneClassSVM
        from sklearn.svm import OneClassSVM

        if len(X) <= n_exact:
            svm = OneClassSVM(nu=nu, kernel=kernel, gamma=gamma).fit(X)
            alpha = np.asarray(svm.dual_coef_)[0]
            return cls(X[svm.support_], alpha, float(svm.offset_[0]), kernel, gamma)
        options = {} if callable(kernel) else _options(gamma)
        features = Nystroem(
            kernel=kernel, n_components=n_components, random_state=random_state, **options
        )
        Phi = features.fit_transform(X)
        svm = SGDOneClassSVM(nu=nu, random_state=random_state).fit(Phi)
        alpha = features.normalization_.T @ svm.coef_
        offset = float(np.quantile(Phi @ svm.coef_, nu))
        return cls(features.components_, alpha, offset, kernel, gamma)

    def score(self, X: np.ndarray) -> np.ndarray:
        """``f(x)``, (n,)."""
        chunks = row_chunks(len(X), 16 * len(self.points))
        parts = [self._products(X[rows], self.points) @ self.coefficients for rows in chunks]
        return np.concatenate([np.empty(0), *parts])

    @cached_property
    def norm(self) -> float:
        """``||w|| = sqrt(alpha^T K alpha)``."""
        squared = self.coefficients @ self.score(self.points)
        return float(np.sqrt(max(squared, np.finfo(float).tiny)))

    def margin(self, X: np.ndarray) -> np.ndarray:
        """``(f(x) - offset) / ||w||``, the signed distance to the hyperplane in feature space."""
        return (self.score(X) - self.offset) / self.norm

    def feature_distance(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """``||Phi(x_i) - Phi(y_i)||`` row by row, (n,): no margin changes by more (Cauchy)."""
        if self.kernel == "rbf":  # without cancellation
            return np.sqrt(-2 * np.expm1(-self.gamma * np.square(X - Y).sum(axis=1)))
        if self.kernel == "linear":
            return np.linalg.norm(X - Y, axis=1)
        squared = self._rowwise(X, X) - 2 * self._rowwise(X, Y) + self._rowwise(Y, Y)
        return np.sqrt(np.maximum(squared, 0.0))

    @property
    def lipschitz(self) -> float:
        """Exact Lipschitz constant of Phi: ``sqrt(2 gamma)`` ('rbf') or 1; infinity where none."""
        if self.kernel == "rbf":
            return float(np.sqrt(2 * self.gamma))
        return 1.0 if self.kernel == "linear" else float("inf")

    def _products(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        from sklearn.metrics.pairwise import pairwise_kernels

        if callable(self.kernel):
            return np.asarray(self.kernel(X, Y))
        options = _options(self.gamma)
        return pairwise_kernels(X, Y, metric=self.kernel, filter_params=True, **options)

    def _rowwise(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        parts = [
            np.diag(self._products(X[i : i + 200], Y[i : i + 200])) for i in range(0, len(X), 200)
        ]
        return np.concatenate(parts)


def _options(gamma: float) -> dict:
    return {"gamma": gamma, "degree": _DEGREE, "coef0": _COEF0}
