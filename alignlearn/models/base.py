"""What every generative model of the library is: a scikit-learn estimator that can be a `Flow`."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from alignlearn._arrays import (
    Scaling,
    check_seed,
    in_chunks,
    make_generator,
    row_chunks,
    validate_rows,
)
from alignlearn._blocks import row_blocks
from alignlearn._callbacks import CallbackSupportMixin
from alignlearn._plain import Encoder, decode
from alignlearn._rows import DiskRows, training_rows
from alignlearn.derivatives import (
    ALL_COLUMNS,
    AUTOMATIC,
    Derivative,
    graph_bytes,
    preferred_derivative,
)
from alignlearn.flow import Denoiser, Flow, denoiser_field
from alignlearn.gaussian import Gaussian
from alignlearn.guards import guarded
from alignlearn.models.density import denoiser_log_volume, log_densities
from alignlearn.schedules import Schedule, VarianceExploding
from alignlearn.solvers import ExponentialMidpoint, ReverseDiffusion, Solver, StochasticSolver

# Peak memory of a step in graphs of the network: pushing eight columns through a U-Net takes five.
_GRAPHS = 6

# Graphs of a convolutional network at once: enough rows to fill its products.
_GRAPH_CACHE = 256 * 2**20
# Where columns are rows of one product, which gains from being large. By a count that is up to
# seven times too low: a chunk stays within scikit-learn's default working memory.
_COLUMN_CACHE = 128 * 2**20


class GenerativeModel(CallbackSupportMixin, DensityMixin, BaseEstimator, metaclass=ABCMeta):
    """A denoiser learned from data, in isotropically scaled coordinates.

    A new family defines `fit`, which sets the attributes below (`_fit_scaling` sets the first
    three), with `window_` last, and `denoiser`. Everything else follows.

    Attributes
    ----------
    n_features_in_ : int
        Number of features D.
    scaling_ : Scaling
        Isotropic map between the user's units and the model's.
    gaussian_ : Gaussian
        Second moments of the scaled data; the law at the noise end is this smoothed.
    noise_range_ : tuple of float
        Smallest and largest noise level, in units of the data's standard deviation.
    window_ : tuple of float
        Noise levels over which Lyapunov vectors are taken by default.
    derivative_ : Derivative
        How steps are differentiated, of models of a network that the library does not know: found
        by `alignlearn.derivatives.probe_derivative`.
    """

    @abstractmethod
    def fit(self, X, y=None):
        """Learn from X of shape (n_samples, n_features)."""

    @abstractmethod
    def denoiser(self) -> Denoiser:
        """Callable ``(y, s) -> E[x_0 | x_0 + s z = y]`` on rows of scaled coordinates."""

    @property
    def has_score(self) -> bool:
        """Whether ``(Den(y, s) - y) / s^2`` is the score of the data smoothed by Gaussian noise."""
        return True

    @property
    def derivative(self) -> Derivative:
        """How steps of `flow` are differentiated: `derivative_` where `fit` has found it out."""
        found = getattr(self, "derivative_", None)
        return preferred_derivative(self.denoiser()) if found is None else found

    def default_solver(self) -> Solver:
        """Process whose Lyapunov vectors are taken by default.

        Reverse diffusion; the ODE, if there is no score, see `has_score`.
        """
        check_is_fitted(self)
        schedule = VarianceExploding(*self.noise_range_)
        return ReverseDiffusion(schedule) if self.has_score else ExponentialMidpoint(schedule)

    def known_span(self) -> Tensor | None:
        """Orthonormal basis (D, r), r < D, outside of which the denoiser sees and gives nothing.

        In the model's coordinates; None where the model knows of none.
        """
        return None

    def known_normals(self, x: Tensor) -> Tensor | None:
        """Unit vectors (n, D, m) known to be normal to the data at x (n, D), in its coordinates.

        None where the model knows of none.
        """
        return None

    def _check_solver(self, solver: Solver) -> None:
        """Refuse what needs a score that is not there."""
        if isinstance(solver, StochasticSolver) and not self.has_score:
            raise ValueError(
                f"{type(solver).__name__} needs the score, which this model does not have: its "
                "pairs are coupled, or its source is not standard Gaussian. Take an ODE solver, "
                "such as ExponentialMidpoint()."
            )

    def _schedule_of(self, solver: Solver) -> Schedule:
        """Of the coordinates in which `flow` steps with this solver."""
        return getattr(solver, "schedule", VarianceExploding(*self.noise_range_))

    @property
    def _plays_back(self) -> bool:
        """Whether a CUDA graph can record the denoiser: nothing in it depends on values."""
        return False

    def _bytes_per_column(self) -> int:
        """Memory that one row and one tangent column need in a forward pass."""
        return 64 * self.n_features_in_

    def _row_chunks(self, n_rows: int, n_columns: int, bytes_kept: int = 0) -> Iterator[slice]:
        """Chunks of rows that move `n_columns` tangent columns in the memory allowed.

        `bytes_kept` is what a row keeps beside them. Where columns go one by one through a graph,
        that of the network decides.
        """
        derivative, device = self.derivative, self.gaussian_.basis.device
        if derivative == AUTOMATIC:
            bytes_per_row, cache = self._bytes_per_column() * n_columns, _COLUMN_CACHE
        else:
            denoise, s = self.denoiser(), torch.tensor(self.window_[0], dtype=torch.float64)
            row = torch.zeros(1, self.n_features_in_).to(self.gaussian_.basis)
            columns = 4 * n_columns * row.numel() * row.element_size()
            bytes_per_row = _GRAPHS * graph_bytes(lambda y: denoise(y, s), row) + columns
            cache = _GRAPH_CACHE
        return row_chunks(n_rows, max(bytes_per_row, bytes_kept), cache, device)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "window_")

    def __getstate__(self) -> dict:
        """Plain state without tensors and modules, so that pickle and skops need not know them."""
        encode = Encoder()
        return {name: encode(value, name) for name, value in super().__getstate__().items()}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({name: decode(node) for name, node in state.items()})

    def _fit_scaling(self, X, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Validate X, set the scaling and second moments, return the scaled rows (n, D)."""
        return self._fit_scaled_rows(X, dtype, device)[:]

    def _fit_scaled_rows(self, X, dtype: torch.dtype, device: torch.device) -> Tensor | DiskRows:
        """As `_fit_scaling`, but rows on disk stay there."""
        check_seed(getattr(self, "random_state", None))  # before it is needed
        X = training_rows(self, X, ensure_min_samples=2)
        scaling, like = Scaling.fit(X), torch.empty(0, dtype=dtype, device=device)
        x: Tensor | DiskRows
        if isinstance(X, np.memmap):
            x = DiskRows(X, scaling, like)
        else:
            x = torch.empty(X.shape, dtype=dtype, device=device)
            for rows in row_blocks(*X.shape):
                x[rows] = scaling.to_model(X[rows], like)
        self.scaling_, self.gaussian_ = scaling, Gaussian.fit(x)
        return x

    def encode(self, X) -> Tensor:
        """Rows of X in the model's coordinates, a tensor of shape (n, D) on the model's device."""
        check_is_fitted(self)
        X = validate_rows(self, X, reset=False)
        return self.scaling_.to_model(X, self.gaussian_.basis)

    def decode(self, x: Tensor) -> np.ndarray:
        """Inverse of `encode`: rows in the user's units, float64."""
        return self.scaling_.to_data(x)

    def flow(
        self,
        *,
        solver: Solver | None = None,
        n_steps: int = 24,
        window: tuple[float, float] | None = None,
    ) -> Flow:
        """The generating process in variance-exploding coordinates ``y = x + s z``.

        Parameters
        ----------
        solver : Solver, optional
            Default `ExponentialMidpoint`, the probability-flow ODE.
        n_steps : int, default=24
            Steps, log-uniform in s.
        window : (s_min, s_max), optional
            Noise levels in units of the data's standard deviation; default the whole range.

        Returns
        -------
        Flow

        Raises
        ------
        ValueError
            If `solver` is stochastic and the model has no score.
        """
        check_is_fitted(self)
        s_min, s_max = self.noise_range_ if window is None else window
        if solver is None:
            solver = ExponentialMidpoint(VarianceExploding(*self.noise_range_))
        self._check_solver(solver)
        schedule = self._schedule_of(solver)
        flow = Flow.from_denoiser(
            self.denoiser(), schedule, solver, n_steps=n_steps, s_max=s_max, s_min=s_min
        )
        return replace(flow, derivative=self.derivative)

    def sample(self, n_samples: int = 1, random_state=None, *, n_steps: int = 36) -> np.ndarray:
        """Generate rows: noise through the default `flow`, an ODE, then one last denoising.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            None takes the estimator's own `random_state`.
        n_steps : int, default=36
            Steps of the solver.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If `n_samples` is below 1.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        if random_state is None:
            random_state = getattr(self, "random_state", None)
        flow, denoise = self.flow(n_steps=n_steps), self.denoiser()
        s_min = torch.tensor(self.noise_range_[0], dtype=torch.float64)
        alpha = float(self._schedule_of(flow.solver).alpha(flow.times[-1]))
        z = self._draw_source(flow, n_samples, make_generator(random_state))

        def rows(chunk: slice) -> np.ndarray:
            return self.decode(denoise(flow.push(z[chunk]) / alpha, s_min))

        chunks = row_chunks(n_samples, self._bytes_per_column())
        with guarded(flow.field), torch.no_grad():
            return np.concatenate(in_chunks(rows, chunks))

    def _draw_source(self, flow: Flow, n_samples: int, generator: torch.Generator) -> Tensor:
        """Points (n_samples, D) at the noise end of a flow, in its coordinates."""
        schedule, t = self._schedule_of(flow.solver), flow.times[0]
        y = self.gaussian_.sample(n_samples, float(schedule.ratio(t)), generator)
        return schedule.alpha(t).to(y) * y

    def score_samples(self, X) -> np.ndarray:
        """Log density of the data smoothed at the smallest noise level, in the user's units.

        Change of variables along the probability-flow ODE (Song et al. 2021, section 4.3), with
        the exact log determinant of the discrete flow up to 128 features and an estimate from
        random probes, shared by all rows, beyond.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
        """
        x, denoise = self.encode(X).double(), self._precise_denoiser()
        flow = self.flow(n_steps=24)
        flow = replace(flow, field=denoiser_field(denoise, flow.solver.schedule))
        D, s_max = self.n_features_in_, self.noise_range_[1]

        def source(z: Tensor) -> np.ndarray:
            return self.gaussian_.log_density(z, s_max).cpu().numpy()

        volume = partial(denoiser_log_volume, denoise, self.derivative.push, self.noise_range_)
        chunks = self._row_chunks(len(x), min(D, ALL_COLUMNS))
        return log_densities(flow, x, chunks, source, volume) - D * self.scaling_.log_unit

    def _precise_denoiser(self) -> Denoiser:
        """The denoiser in float64: in float32 a density depends on the batch in its sixth digit."""
        denoise = self.denoiser()
        return copy.deepcopy(denoise).double() if isinstance(denoise, nn.Module) else denoise

    def score(self, X, y=None) -> float:
        """Mean of `score_samples`."""
        return float(np.mean(self.score_samples(X)))
