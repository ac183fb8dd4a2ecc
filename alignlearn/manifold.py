"""LyapunovManifold: the geometry of the data manifold, read off a generative model."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_scalar
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from alignlearn._arrays import check_seed, validate_rows
from alignlearn._callbacks import CallbackSupportMixin, with_callbacks
from alignlearn._params import check_integers, check_window
from alignlearn._rows import training_rows
from alignlearn.coordinates import Coordinates, Landmarks
from alignlearn.dimension import pointwise_dimension
from alignlearn.embedding import LazyChart
from alignlearn.frames import DensityQuestion, FrameQuestion, FrameReader
from alignlearn.measurement import inside_span, measure, spans_all, unclear
from alignlearn.models import Diffusion
from alignlearn.models.base import GenerativeModel
from alignlearn.projection import RidgeProjection, TangentQuestion
from alignlearn.scales import ScaleSpectrum, scale_spectrum
from alignlearn.solvers import Solver
from alignlearn.streaming import Question, Rows, stream, stream_one
from alignlearn.tangent import LyapunovFrame

__all__ = ["LyapunovManifold", "ScaleSpectrum"]

# Under noise, tangent spaces are read so many times half the way nearer to the manifold.
_N_HALVINGS = 2


class LyapunovManifold(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Tangent spaces, intrinsic dimension and coordinates of data, from a generative model.

    A diffusion model is fitted to the data; the directions in which small errors grow most along
    its generating process, the finite-time Lyapunov vectors, span the tangent spaces of the data
    manifold (Chandramoorthy & de Clercq 2025), and the gap in the exponents is its dimension.

    Parameters
    ----------
    n_components : int, optional
        Number of coordinates that `transform` gives; beyond 128 features also the number of
        Lyapunov vectors needed at most, which saves time. Default: the dimension found.
    model : GenerativeModel, optional
        Estimator of the generative model, cloned and fitted by `fit`. Default ``Diffusion()``.
    n_oversamples, n_iter : int, default=10, 1
        Extra columns and pull-back passes of the randomized SVD, used when D > 128.
    solver : Solver, optional
        Process whose vectors are taken. Default the model's `default_solver`: reverse diffusion
        with frozen noise, for `FlowMatching` the ODE. Pass ``ExponentialMidpoint(schedule)`` for
        the probability-flow ODE.
    n_steps : int, default=6
        Steps over the window.
    n_paths : int, optional
        Frozen noise paths that are averaged, in antithetic pairs, for a stochastic solver. Default
        ``max(4, 64 / D)``: with few features there is little to average within a path.
    window : (s_min, s_max), optional
        Noise levels over which vectors are taken, in units of the data's standard deviation.
        Default: the model's own; where noise hides the finest scales its upper end, with coarser
        ones if they are clearer.
    n_reference : int, default=200
        Training points at which `fit` measures the spectrum.
    n_neighbors : int, optional
        Neighbours of a point in `transform`. Default ``10 + 2 dimension_``.
    n_landmarks : int, default=5000
        Training points whose tangent spaces are aligned by `transform`, drawn at random where there
        are more; the others are placed like new points.
    n_jobs : int, optional
        Workers over chunks of points, through joblib.
    device : str or torch.device, optional
        None is CUDA where there is one, else the CPU. Passed on to the model.
    random_state : int, RandomState instance or None, default=None
        Makes everything reproducible; passed on to a model that has none of its own.

    Attributes
    ----------
    model_ : GenerativeModel
        The fitted model.
    dimension_ : int
        Intrinsic dimension of the sample.
    dimension_estimate_ : DimensionEstimate
        The same with its confidence and gap.
    exponents_ : ndarray of shape (k,)
        Mean spectrum over the reference points.
    window_ : tuple of float
        The window taken.
    noise_level_ : float
        How far the data reach off the manifold, per direction and in the units of X: the standard
        deviation of isotropic noise. For clean data what the model cannot tell from none. NaN
        where there is no such direction.
    neighbor_dimension_ : float or None
        Dimension from neighbour distances: what they see where that refutes the exponents, else the
        prior where no gap is clear; None where one is.
    reference_exponents_ : ndarray of shape (n_reference, k)
        Spectrum at each reference point.
    reference_indices_ : ndarray of shape (n_reference,)
        Their rows in X.
    embedding_ : ndarray of shape (n_samples, n_components)
        Coordinates of the training points, computed when first asked for; not of many on disk.
    n_features_in_ : int
        Number of features D.

    Notes
    -----
    Methods with ``out=`` answer more rows than memory holds. X may be a memmap, or anything else
    with a shape, a dtype and slices of rows that is not in memory, such as a dataset of h5py or
    zarr: it is read in blocks, once to check it and once to answer. `out` is an array of the shape
    and, up to rounding, the type that is returned otherwise, in memory or not; or the path of a
    .npy file, or a `Resumable`, and then a call that was killed goes on when it is made again.

    References
    ----------
    N. Chandramoorthy, A. de Clercq, "When and how can inexact generative models still sample from
    the data manifold?", arXiv:2508.07581, 2025.

    Examples
    --------
    >>> from alignlearn import LyapunovManifold
    >>> from alignlearn.datasets import make_sphere
    >>> from alignlearn.models import KernelDiffusion
    >>> X = make_sphere(400, 2, random_state=0).points
    >>> m = LyapunovManifold(model=KernelDiffusion(), random_state=0).fit(X)
    >>> m.tangent_space(X[:5], n_components=2).shape
    (5, 3, 2)
    """

    def __init__(
        self,
        n_components=None,
        model=None,
        *,
        n_oversamples=10,
        n_iter=1,
        solver=None,
        n_steps=6,
        n_paths=None,
        window=None,
        n_reference=200,
        n_neighbors=None,
        n_landmarks=5000,
        n_jobs=None,
        device=None,
        random_state=None,
    ):
        self.n_components = n_components
        self.model = model
        self.n_oversamples = n_oversamples
        self.n_iter = n_iter
        self.solver = solver
        self.n_steps = n_steps
        self.n_paths = n_paths
        self.window = window
        self.n_reference = n_reference
        self.n_neighbors = n_neighbors
        self.n_landmarks = n_landmarks
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y=None):
        """Fit the model and measure the spectrum at reference points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or iterable of such blocks
            Training data, at least two different rows. Those of an `np.memmap` stay on disk; blocks
            are written to a temporary file first. See docs/guide/training_at_scale.md, also for
            several processes that fit together.
        y : Ignored
            For scikit-learn's convention.

        Returns
        -------
        self : LyapunovManifold

        Raises
        ------
        ValueError
            If X is not finite, not 2-D, has fewer than two rows or constant rows, or a parameter
            is out of range.

        Warns
        -----
        ConvergenceWarning
            If no direction contracts, no gap is clear, the normal directions stay far from the
            floor, or the points do not agree on a dimension: noise, a mixture of dimensions or too
            little training.
        """
        context = self._init_callback_context(max_subtasks=1)
        self._check_params()
        X = training_rows(self, X, ensure_min_samples=2)
        if self.n_components is not None and self.n_components > X.shape[1]:
            raise ValueError(
                f"n_components must be at most n_features = {X.shape[1]}, got {self.n_components}."
            )
        rng = check_seed(self.random_state)
        model = Diffusion() if self.model is None else clone(self.model)
        own = model.get_params(deep=False)
        seeds = {"random_state": rng.randint(np.iinfo(np.int32).max), "device": self.device}
        model.set_params(**{k: v for k, v in seeds.items() if k in own and own[k] is None})
        context.call_on_fit_task_begin(estimator=self)
        with context.subcontext(task_name="model").propagate_callback_context(model):
            model.fit(X, y)
        self._read_model(model, X, rng)
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    def _read_model(self, model: GenerativeModel, X: np.ndarray, rng) -> LyapunovManifold:
        """Measure a fitted model at rows of X."""
        self.n_features_in_, self.model_ = X.shape[1], model
        self._path_seed = int(rng.randint(np.iinfo(np.int32).max))
        n_reference = min(self.n_reference, len(X))
        self.reference_indices_ = np.sort(rng.permutation(len(X))[:n_reference])
        self._measure(X)
        if isinstance(X, np.memmap):
            rows = self._landmarks()(len(X))
            kept, whole = np.asarray(X[rows], dtype=np.float64), len(rows) == len(X)
        else:
            kept, whole = np.array(X), True
        self._lazy_chart = LazyChart(kept, whole=whole)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "dimension_")

    def _check_params(self) -> None:
        check_integers(self, "n_components", "n_paths", "n_neighbors", optional=True)
        check_integers(self, "n_steps", "n_reference", "n_landmarks")
        check_integers(self, "n_oversamples", "n_iter", min_val=0)
        check_integers(self, "n_jobs", min_val=None, optional=True)
        if self.model is not None and not isinstance(self.model, GenerativeModel):
            raise TypeError(f"model must be one of alignlearn.models or None, got {self.model!r}.")
        if self.solver is not None and not isinstance(self.solver, Solver):
            raise ValueError(
                f"solver must be a Solver of alignlearn.solvers or None, got {self.solver!r}."
            )
        if self.window is not None:
            check_window(self.window)

    def _measure(self, X: np.ndarray) -> None:
        """Window, spectrum and dimension at the reference rows of X."""
        found = measure(self._reader(), X, self.reference_indices_, self.window, self.n_components)
        self.window_, self._n_columns = found.window, found.n_columns
        self.reference_exponents_ = found.exponents
        self.exponents_ = found.exponents.mean(axis=0)
        self.dimension_estimate_ = found.estimate
        self.neighbor_dimension_ = found.neighbor_dimension
        self.noise_level_, self._uniform = found.noise_level, found.uniform
        self.dimension_ = found.estimate.dimension
        problem = unclear(found, self.model_)
        if problem is not None:
            warnings.warn(problem, ConvergenceWarning, stacklevel=5)

    def _reader(self) -> FrameReader:
        return FrameReader(
            model=self.model_,
            solver=self.solver,
            n_steps=self.n_steps,
            n_paths=self.n_paths,
            n_oversamples=self.n_oversamples,
            n_iter=self.n_iter,
            path_seed=self._path_seed,
            n_jobs=self.n_jobs,
        )

    @property
    def _window(self) -> tuple[float, float]:
        return self.window_ if self.window is None else self.window

    def _frames(self, n_columns: int | None, *parts: str) -> FrameQuestion:
        """Parts of the frames with so many columns, default as many as `fit` needed."""
        check_is_fitted(self)
        if n_columns is not None and not 1 <= n_columns <= self.n_features_in_:
            raise ValueError(
                f"n_components must be between 1 and n_features = {self.n_features_in_}, got "
                f"{n_columns}."
            )
        n_columns = self._n_columns if n_columns is None else n_columns
        return FrameQuestion(self._reader(), n_columns, self._window, parts)

    def _rows(self, X) -> Rows:
        return self._reader().rows(X, partial(validate_rows, self, reset=False))

    def _answer(self, question: Question, X, row: np.dtype, out, **options):
        """What is asked of rows X, written to `out` if that is given; see `stream_one`."""
        return stream_one(question, self._rows(X), row, out, n_jobs=self.n_jobs, **options)

    def lyapunov_frame(self, X, n_components=None, *, out=None) -> LyapunovFrame:
        """Vectors and exponents at points at once, for the price of one of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_components : int, optional
            Number k of vectors, default as many as `lyapunov_exponents` has.
        out : pair of array-like, path or Resumable, optional
            Where vectors and exponents are written.

        Returns
        -------
        LyapunovFrame
            Arrays ``points (n_samples, n_features)`` as given, ``vectors (n_samples, n_features,
            k)`` and ``exponents (n_samples, k)``.

        Raises
        ------
        ValueError
            If `n_components` is not between 1 and the number of features, or `out` does not fit.
        """
        question = self._frames(n_components, "vectors", "exponents")
        if out is not None and (not isinstance(out, tuple | list) or len(out) != 2):
            raise TypeError(f"out must be a pair (vectors, exponents), got {type(out).__name__}.")
        rows = self._rows(X)
        found = stream(question, rows, question.types, out, n_jobs=self.n_jobs)
        return LyapunovFrame(rows.X, *found)

    def lyapunov_exponents(self, X, *, out=None) -> np.ndarray:
        """Lyapunov exponents at points, seen or unseen.

        ``log sigma_i / (c log(s_max / s_min))``, where c is 1 for the ODE and 2 for reverse
        diffusion: a direction normal to the data has -1, a tangent one is near 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        out : array-like, path or Resumable, optional
            Where the result is written, chunk by chunk, and what is returned; see Notes.

        Returns
        -------
        exponents : ndarray of shape (n_samples, k)
            Descending; k is D up to 128 features, else the number of columns that `fit` needed.
        """
        question = self._frames(None, "exponents")
        return self._answer(question, X, question.types[0], out)

    def tangent_space(self, X, n_components=None, *, out=None) -> np.ndarray:
        """Orthonormal bases of the tangent spaces at points, seen or unseen.

        Under noise they are read nearer to the manifold, a quarter as far off as the points are:
        noise spreads where a path can start, and averages over the turns of the manifold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_components : int, optional
            Number d of vectors, default `dimension_`.
        out : array-like, path or Resumable, optional
            Where the result is written, chunk by chunk, and what is returned; see Notes.

        Returns
        -------
        vectors : ndarray of shape (n_samples, n_features, d)
            Leading Lyapunov vectors as columns, in data coordinates, most stretched first; of rows
            near a sphere, see `Diffusion`, orthogonal to its radius.

        Raises
        ------
        ValueError
            If `n_components` is not between 1 and the number of features, or `out` does not fit.
        """
        check_is_fitted(self)
        d = self.dimension_ if n_components is None else n_components
        towards = self._projection(_N_HALVINGS)
        is_noisy = towards.noise > self.model_.window_[0]  # less is not seen
        question = TangentQuestion(self._frames(d, "vectors"), towards if is_noisy else None)
        return self._answer(question, X, question.types[0], out)

    def dimension(self, X, *, out=None) -> np.ndarray:
        """Intrinsic dimension at points, seen or unseen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        out : array-like, path or Resumable, optional
            Where the result is written, chunk by chunk, and what is returned; see Notes.

        Returns
        -------
        dimension : ndarray of shape (n_samples,), int
            `dimension_` everywhere if the sample is not resolved, or fills its linear span.
        """
        question = self._frames(None, "exponents")
        rule = (self.dimension_, self.neighbor_dimension_, self._uniform)
        options = {"finish": self._pointwise, "rule": rule}
        return self._answer(question, X, np.dtype(int), out, **options)

    def _pointwise(self, exponents: np.ndarray) -> np.ndarray:
        if self._uniform:
            return np.full(len(exponents), self.dimension_)
        inside = inside_span(self.model_, exponents)
        whole = spans_all(self.model_, inside)
        return pointwise_dimension(inside, self.neighbor_dimension_, whole=whole)

    @property
    def _n_features_out(self) -> int:
        return self.dimension_ if self.n_components is None else self.n_components

    @property
    def embedding_(self) -> np.ndarray:
        """Coordinates of the training points (n_samples, n_components)."""
        if not hasattr(self, "_lazy_chart"):
            raise AttributeError("embedding_ is there after fit.")
        if not self._lazy_chart.whole:
            raise AttributeError(
                "there is no embedding_ of rows that fit left on disk: ask transform for them, "
                "with out= if the coordinates do not fit into memory."
            )
        return self._coordinates().of_training_points()

    def fit_transform(self, X, y=None) -> np.ndarray:
        """Fit, then coordinates of the training points, see `transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        Y : ndarray of shape (n_samples, n_components)
        """
        return self.fit(X, y).transform(X)

    __metadata_request__transform = {"out": UNUSED}  # nothing that a pipeline would route

    def transform(self, X, *, out=None) -> np.ndarray:
        """Global coordinates at points, seen or unseen.

        The first call aligns the tangent spaces of the training points, which takes about as long
        as `tangent_space` at all of them. Points are projected onto the manifold, so that noise
        does not reach the coordinates; these are in the units of X, and lengths along the manifold
        are kept in the mean. Pieces of the manifold that nothing connects are laid side by side.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        out : array-like, path or Resumable, optional
            Where the result is written, chunk by chunk, and what is returned; see Notes.

        Returns
        -------
        Y : ndarray of shape (n_samples, n_components)
            `dimension_` columns by default. Fewer are those that keep distances along the manifold
            as well as so few can; more, for closed surfaces, those or further nearly affine ones.

        Warns
        -----
        UserWarning
            If the manifold falls into several pieces, at the first call.

        References
        ----------
        Z. Zhang, H. Zha, "Principal manifolds and nonlinear dimensionality reduction via tangent
        space alignment", SIAM J. Sci. Comput. 26 (2004). With fewer coordinates than dimensions:
        J. B. Tenenbaum, V. de Silva, J. C. Langford, "A global geometric framework for nonlinear
        dimensionality reduction", Science 290 (2000), with the neighbours of above.
        """
        return self._coordinates().transform(self._rows(X), out)

    def inverse_transform(self, Y) -> np.ndarray:
        """Points on the manifold with given coordinates.

        Parameters
        ----------
        Y : array-like of shape (n_samples, n_components)

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If Y does not have `n_components` columns.
        """
        coordinates = self._coordinates()
        Y = check_array(Y, dtype=np.float64)
        if Y.shape[1] != self._n_features_out:
            raise ValueError(
                f"expected {self._n_features_out} columns, as transform gives, got {Y.shape[1]}."
            )
        return coordinates.inverse_transform(Y)

    def project(self, X, *, out=None) -> np.ndarray:
        """Nearest points of the learned manifold: X without the noise.

        Points move in normal directions to the ridge of the density of the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        out : array-like, path or Resumable, optional
            Where the result is written, chunk by chunk, and what is returned; see Notes.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)

        References
        ----------
        U. Ozertem, D. Erdogmus, "Locally defined principal curves and surfaces", JMLR 12 (2011).
        """
        check_is_fitted(self)
        projection = self._projection()
        return self._answer(projection, X, projection.types[0], out)

    def _projection(self, n_halvings: int | None = None) -> RidgeProjection:
        return RidgeProjection(self._reader(), self.dimension_, self.noise_level_, n_halvings)

    def _coordinates(self) -> Coordinates:
        check_is_fitted(self)
        return Coordinates(
            self._lazy_chart,
            self._reader(),
            self._window,
            self._projection(),
            self._landmarks(),
            self._n_features_out,
            self.n_neighbors,
        )

    def _landmarks(self) -> Landmarks:
        frame_size = self.n_features_in_ * self.dimension_
        return Landmarks(self.n_landmarks, frame_size, self._path_seed)

    def scale_spectrum(self, X, n_scales: int = 3) -> ScaleSpectrum:
        """Lyapunov exponents and dimension as functions of scale.

        Data with noise or texture have no single dimension: more directions appear as one looks
        closer. The dimension at a scale counts every direction by ``1 + rate``, from 0 to 1: one
        that survives counts 1, one that dies with the noise 0. Unclipped, the sum over all D
        directions is the divergence part of FLIPD (Kamkari et al. 2024), averaged over a window of
        scales; docs/dimension.md has the relation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_scales : int, default=3
            Number of windows, equally long in log noise, from the lower end of `window_` or of the
            model's own window to the largest noise level.

        Returns
        -------
        ScaleSpectrum
        """
        check_is_fitted(self)
        check_scalar(n_scales, "n_scales", Integral, min_val=1)
        X = validate_rows(self, X, reset=False)
        s_min = min(self.window_[0], self.model_.window_[0])
        return scale_spectrum(self._reader(), X, self._n_columns, s_min, n_scales)

    def sample(self, n_samples: int = 1, random_state=None) -> np.ndarray:
        """Generate rows from the model, see `GenerativeModel.sample`."""
        check_is_fitted(self)
        return self.model_.sample(n_samples, random_state)

    def score_samples(self, X, *, out=None) -> np.ndarray:
        """Log density at points, see `GenerativeModel.score_samples`; `out` as in `project`."""
        check_is_fitted(self)
        return self._answer(DensityQuestion(self.model_), X, np.dtype(float), out)

    def score(self, X, y=None) -> float:
        """Mean log density of points."""
        return float(np.mean(self.score_samples(X)))
