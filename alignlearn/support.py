"""ManifoldSupport: is a point on the support of the data? A one-class SVM beside a manifold."""

from __future__ import annotations

import threading
from dataclasses import replace
from numbers import Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_scalar
from sklearn.utils.extmath import randomized_svd
from sklearn.utils.validation import check_is_fitted

from alignlearn._arrays import SPAN_TOLERANCE, check_seed, validate_rows
from alignlearn._params import check_integers
from alignlearn.boundary import KernelBoundary
from alignlearn.manifold import LyapunovManifold
from alignlearn.margins import MarginReport, measure_margins
from alignlearn.models.base import GenerativeModel
from alignlearn.projection import RidgeProjection

__all__ = ["ManifoldSupport"]

_KERNELS = ("rbf", "linear", "poly", "sigmoid")

# A support cannot be told from fewer rows; as many must be left out for a calibration.
_MIN_ROWS, _MIN_CALIBRATION = 10, 20

# One report is measured at a time: threads that ask for the same one wait for it.
_REPORT_LOCK = threading.RLock()


class ManifoldSupport(OutlierMixin, BaseEstimator):
    """Support of data on a manifold: a detector of points off it, and margins of the generator.

    Two things are measured at a point: f of a one-class SVM of the data (is it where the data are?)
    and the length of its displacement from the learned manifold, ``|x - project(x)|`` (is it on
    their manifold?). In many dimensions the first sees little of the second: neighbours are farther
    apart than the manifold is thick. Each counts by how far it is on the wrong side of its median
    over rows set aside for this, in units of the distance from there to its nu-quantile, and the
    score is ``-sqrt(u^2 + v^2)`` of the two. Where the data fill a proper linear subspace, the
    displacement is taken within it and the distance from it counts as a third, in units of its own:
    the spread on the manifold says nothing of a direction that no row has.

    Parameters
    ----------
    manifold : LyapunovManifold, GenerativeModel or FrozenEstimator, optional
        What is not fitted (by `check_is_fitted`) is cloned and fitted. What is fitted is used as it
        is; only its number of features is checked. Default ``LyapunovManifold()``. As `clone`
        forgets what was learned, put a fitted one into `sklearn.frozen.FrozenEstimator` where the
        support itself is cloned, as in a grid search.
    nu : float, default=0.05
        Share of the data to be outside: that of the SVM, and of the offset.
    kernel : {'rbf', 'linear', 'poly', 'sigmoid'} or callable, default='rbf'
        Of the SVM, on rows of unit variance.
    gamma : {'scale', 'auto'} or float, default='scale'
        Of the kernel, per squared standard deviation of the data; the words as in `OneClassSVM`.
    n_exact : int, default=10000
        Beyond so many rows the SVM is one of Nystroem features, by stochastic gradient descent.
    n_nystroem : int, default=500
        Number of those features.
    calibration_fraction : float, default=0.1
        Share of the rows that neither manifold nor SVM learns from, if at least 20; they set units
        and offset. A manifold that is fitted has seen what it has seen: pass other rows to `fit`.
    n_report : int, default=500
        Rows at which `margin_report_` is measured.
    move_length : float, optional
        Length of its moves, in the units of X. Default: the median distance between nearest
        neighbours or, if larger, three units beyond the median of ``|x - project(x)|``, so that a
        move across shows.
    n_jobs : int, optional
        Workers over chunks of points, through joblib.
    device : str or torch.device, optional
        Passed on to a manifold that is fitted here.
    random_state : int, RandomState instance or None, default=None
        Makes everything reproducible; passed on to a manifold that is fitted here.

    Attributes
    ----------
    manifold_ : LyapunovManifold
        The fitted manifold.
    boundary_ : KernelBoundary
        The one-class SVM, in coordinates of unit variance.
    gamma_ : float
        Of its kernel.
    offset_ : float
        The nu-quantile of `score_samples` over the rows set aside.
    n_features_in_ : int
        Number of features D.

    References
    ----------
    B. Schoelkopf et al., "Estimating the support of a high-dimensional distribution", Neural
    Computation 13 (2001). N. Chandramoorthy, A. de Clercq, arXiv:2508.07581 (2025), Prop. 4.1.

    Examples
    --------
    >>> from alignlearn import LyapunovManifold, ManifoldSupport
    >>> from alignlearn.datasets import make_sphere
    >>> from alignlearn.models import KernelDiffusion
    >>> X = make_sphere(400, 1, random_state=0).points
    >>> manifold = LyapunovManifold(model=KernelDiffusion(), random_state=0)
    >>> s = ManifoldSupport(manifold, random_state=0).fit(X)
    >>> s.predict([[1.0, 0.0], [1.5, 0.0]])
    array([ 1, -1])
    """

    _span = None  # also in files of older versions

    def __init__(
        self,
        manifold=None,
        *,
        nu=0.05,
        kernel="rbf",
        gamma="scale",
        n_exact=10_000,
        n_nystroem=500,
        calibration_fraction=0.1,
        n_report=500,
        move_length=None,
        n_jobs=None,
        device=None,
        random_state=None,
    ):
        self.manifold = manifold
        self.nu = nu
        self.kernel = kernel
        self.gamma = gamma
        self.n_exact = n_exact
        self.n_nystroem = n_nystroem
        self.calibration_fraction = calibration_fraction
        self.n_report = n_report
        self.move_length = move_length
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn the manifold, unless it is fitted, and the support.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least 10 rows.
        y : Ignored
            For scikit-learn's convention.

        Returns
        -------
        self : ManifoldSupport

        Raises
        ------
        TypeError
            If `manifold` is neither a LyapunovManifold nor a model of alignlearn.models.
        ValueError
            If X or a parameter is not usable, or a fitted manifold has other features.
        """
        self._check_params()
        rng = check_seed(self.random_state)
        X = validate_rows(self, X, ensure_min_samples=_MIN_ROWS)
        order = rng.permutation(len(X))
        n_held = round(self.calibration_fraction * len(X))
        n_held = n_held if n_held >= _MIN_CALIBRATION else 0
        held, kept = np.sort(order[:n_held]), np.sort(order[n_held:])
        self.manifold_ = self._fit_manifold(X[kept], rng)
        x = self._scaled(X)
        self.gamma_ = self._gamma_of(x[kept])
        self._svm_seed = int(rng.randint(np.iinfo(np.int32).max))
        self.boundary_ = self._train(x[kept])
        rank, seed = self.manifold_.model_.scaling_.rank, self._svm_seed
        flat = rank < X.shape[1]
        self._span = randomized_svd(x[kept], rank, random_state=seed)[2] if flat else None
        rows = held if n_held else kept
        self._calibrate(X[rows])
        self._report_rows = X[np.sort(rng.permutation(kept)[: self.n_report])]
        self._training_scores = self.boundary_.score(x[kept])
        self._spacing = _nearest_distance(x[kept])
        self._report = None
        self.offset_ = float(np.quantile(self._score(X[rows]), self.nu, method="lower"))
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    def _check_params(self) -> None:
        check_integers(self, "n_exact", "n_nystroem", "n_report")
        check_integers(self, "n_jobs", min_val=None, optional=True)
        check_scalar(self.nu, "nu", Real, min_val=0, max_val=1, include_boundaries="neither")
        share = self.calibration_fraction
        options = {"min_val": 0, "max_val": 1, "include_boundaries": "left"}
        check_scalar(share, "calibration_fraction", Real, **options)
        if not (np.isfinite(self.nu) and np.isfinite(share)):  # NaN is within all bounds
            raise ValueError("nu and calibration_fraction must be finite, got NaN.")
        if not callable(self.kernel) and self.kernel not in _KERNELS:
            raise ValueError(f"kernel must be one of {_KERNELS} or callable, got {self.kernel!r}.")
        known = isinstance(self.gamma, str) and self.gamma in ("scale", "auto")
        positive = isinstance(self.gamma, Real) and 0 < self.gamma < np.inf
        if not known and not positive:
            raise ValueError(
                f"gamma must be 'scale', 'auto' or a positive number, got {self.gamma!r}."
            )
        length = self.move_length
        if length is not None and not (isinstance(length, Real) and 0 < length < np.inf):
            raise ValueError(f"move_length must be a positive number or None, got {length!r}.")
        if not isinstance(self._given(), LyapunovManifold | GenerativeModel):
            raise TypeError(
                "manifold must be a LyapunovManifold, a model of alignlearn.models or None, got "
                f"{type(self.manifold).__name__}."
            )

    def _given(self):
        """The manifold or model handed in, out of its `FrozenEstimator`."""
        if self.manifold is None:
            return LyapunovManifold()
        if isinstance(self.manifold, FrozenEstimator):
            return self.manifold.estimator
        return self.manifold

    def _fit_manifold(self, X: np.ndarray, rng: np.random.RandomState) -> LyapunovManifold:
        """A fitted manifold: the one handed in if it is, else a clone."""
        given = self._given()
        seeds = {"random_state": rng.randint(np.iinfo(np.int32).max), "device": self.device}
        seeds["n_jobs"] = self.n_jobs
        try:
            check_is_fitted(given)
        except NotFittedError:
            if isinstance(self.manifold, FrozenEstimator):
                raise
            given = LyapunovManifold(model=given) if isinstance(given, GenerativeModel) else given
            manifold = clone(given)
            own = manifold.get_params(deep=False)
            manifold.set_params(**{k: v for k, v in seeds.items() if own[k] is None})
            return manifold.fit(X)
        if given.n_features_in_ != X.shape[1]:
            raise ValueError(
                f"the fitted manifold has {given.n_features_in_} features, X has {X.shape[1]}: "
                "fit it to such rows, or pass an unfitted one."
            )
        if isinstance(given, LyapunovManifold):
            return given
        manifold = LyapunovManifold(n_jobs=self.n_jobs, random_state=seeds["random_state"])
        return manifold._read_model(given, X, np.random.RandomState(seeds["random_state"]))

    def _train(self, x: np.ndarray) -> KernelBoundary:
        options = {"nu": self.nu, "kernel": self.kernel, "gamma": self.gamma_}
        options |= {"n_exact": self.n_exact, "n_components": min(self.n_nystroem, len(x))}
        return KernelBoundary.fit(x, random_state=self._svm_seed, **options)

    def _gamma_of(self, x: np.ndarray) -> float:
        if self.gamma == "scale":
            return float(1 / (x.shape[1] * max(x.var(), np.finfo(float).tiny)))
        return 1 / x.shape[1] if self.gamma == "auto" else float(self.gamma)

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        """Rows in units of the standard deviation, as the model has them, in float64."""
        like = torch.empty(0, dtype=torch.float64)
        return self.manifold_.model_.scaling_.to_model(X, like).numpy()

    def _lengths(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``|x - project(x)|`` within the linear span and the distance from it, standardised."""
        m = self.manifold_
        frames = replace(m._reader(), n_jobs=self.n_jobs)
        projected = RidgeProjection(frames, m.dimension_, m.noise_level_)(X)
        lengths = np.linalg.norm(self._scaled(X) - self._scaled(projected), axis=1)
        if not np.isfinite(lengths).all():
            raise ValueError(
                "X holds values too far from the training data to be projected onto the manifold: "
                f"{np.count_nonzero(~np.isfinite(lengths))} rows of {len(X)}."
            )
        if self._span is None:
            return lengths, np.zeros(len(X))
        x = self._scaled(X)
        outside = np.linalg.norm(x - x @ self._span.T @ self._span, axis=1)
        return np.sqrt(np.maximum(lengths**2 - outside**2, 0)), outside

    def _calibrate(self, X: np.ndarray) -> None:
        """Medians of the measures, and their units: from there to the quantile at nu."""
        f, (lengths, outside) = self.boundary_.score(self._scaled(X)), self._lengths(X)
        low = np.median(f) - np.quantile(f, self.nu)
        self._f_median, self._f_unit = float(np.median(f)), float(max(low, 1e-9 * np.abs(f).max()))
        resolution = self.manifold_.model_.noise_range_[0]  # smaller lengths mean nothing
        self._length_median, self._length_unit = self._typical(lengths, resolution)
        self._outside_median, self._outside_unit = self._typical(outside, SPAN_TOLERANCE)

    def _typical(self, lengths: np.ndarray, smallest: float) -> tuple[float, float]:
        """Median and unit of lengths."""
        median = np.median(lengths)
        return float(median), float(max(np.quantile(lengths, 1 - self.nu) - median, smallest))

    def score_samples(self, X) -> np.ndarray:
        """How typical points are: 0 at best, lower the farther off the support.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self._score(validate_rows(self, X, reset=False))

    def _score(self, X: np.ndarray) -> np.ndarray:
        f = self.boundary_.score(self._scaled(X))
        u = np.maximum((self._f_median - f) / self._f_unit, 0)
        lengths, outside = self._lengths(X)
        v = np.maximum((lengths - self._length_median) / self._length_unit, 0)
        if self._span is None:
            return -np.hypot(u, v)
        w = np.maximum((outside - self._outside_median) / self._outside_unit, 0)
        return -np.hypot(np.hypot(u, v), w)

    def decision_function(self, X) -> np.ndarray:
        """``score_samples(X) - offset_``: negative off the support.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        decision : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:
        """1 on the support, where `decision_function` is at least 0, and -1 off it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,), int
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @property
    def margin_report_(self) -> MarginReport:
        """Margins of the SVM and what generation does to them; measured when first asked for."""
        if not hasattr(self, "offset_"):
            raise AttributeError("margin_report_ is there after fit.")
        with _REPORT_LOCK:
            if self._report is None:
                self._report = self._measure_report()
        return self._report

    def _measure_report(self) -> MarginReport:
        m, X = self.manifold_, self._report_rows
        scaling = m.model_.scaling_
        thick = self._length_median + 3 * self._length_unit
        log_length = np.log(max(self._spacing, thick))
        if self.move_length is not None:
            log_length = np.log(self.move_length) - scaling.log_unit
        rng = np.random.RandomState(self._svm_seed)
        generated = m.sample(len(X), rng.randint(np.iinfo(np.int32).max))

        def inside(x: np.ndarray) -> np.ndarray:
            return self._score(scaling.to_data(torch.from_numpy(x))) >= self.offset_

        return measure_margins(
            self.boundary_,
            self._scaled(X),
            self._scaled(generated),
            m.tangent_space(X),
            length=float(np.exp(log_length)),
            inside=inside,
            retrain=self._train,
            training_scores=self._training_scores,
            random_state=rng,
            unit=float(np.exp(scaling.log_unit)),
        )


def _nearest_distance(x: np.ndarray) -> float:
    """Median distance to the nearest neighbour among different rows."""
    from sklearn.neighbors import NearestNeighbors  # late: slow to import

    x = np.unique(x, axis=0)
    return float(np.median(NearestNeighbors(n_neighbors=1).fit(x).kneighbors()[0]))
