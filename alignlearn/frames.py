"""Lyapunov frames of a fitted model at the user's rows: paths drawn, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from alignlearn._arrays import halved, validate_rows
from alignlearn._replay import ReplayedLift
from alignlearn.derivatives import ALL_COLUMNS, Derivative
from alignlearn.flow import Flow, Trajectory
from alignlearn.guards import guarded
from alignlearn.models.base import GenerativeModel
from alignlearn.solvers import ReverseDiffusion, Solver, StochasticSolver
from alignlearn.streaming import Rows, stream
from alignlearn.tangent import LyapunovFrame, columns_carried, lyapunov_frame


@dataclass(frozen=True)
class FrameReader:
    """Reads Lyapunov frames off the generating process of a model.

    Parameters
    ----------
    model : GenerativeModel
        Fitted.
    solver : Solver or None
        Process whose vectors are taken; None is the model's `default_solver`.
    n_steps : int
        Steps over a window.
    n_paths : int or None
        Frozen noise paths, in antithetic pairs; None is ``max(4, 64 / D)``.
    n_oversamples, n_iter : int
        Extra columns and pull-back passes of the randomized SVD.
    path_seed : int
        Draws the noise paths, the same ones for every row and call.
    n_jobs : int or None
        Workers over chunks of rows, through joblib.
    """

    model: GenerativeModel
    solver: Solver | None
    n_steps: int
    n_paths: int | None
    n_oversamples: int
    n_iter: int
    path_seed: int
    n_jobs: int | None

    def __call__(self, X, n_columns: int, window: tuple[float, float]) -> LyapunovFrame:
        """Frames (n, D, n_columns) at the rows of X, numpy; points in the model's coordinates."""
        question = FrameQuestion(self, n_columns, window, LyapunovFrame._fields)
        return LyapunovFrame(*stream(question, self.rows(X), question.types, n_jobs=self.n_jobs))

    def exponents(self, X, n_columns: int, window: tuple[float, float]) -> np.ndarray:
        """Exponents (n, n_columns) alone: vectors at many rows are many numbers."""
        question = FrameQuestion(self, n_columns, window, ("exponents",))
        return stream(question, self.rows(X), question.types, n_jobs=self.n_jobs)[0]

    def rows(self, X, validate: Callable | None = None) -> Rows:
        """Rows of X that the model can represent; `validate` gives them, default the model's."""
        validate = partial(validate_rows, self.model, reset=False) if validate is None else validate
        return Rows(X, validate, self.model.encode)

    def flow(self, window: tuple[float, float]) -> Flow:
        """The generating process over a window of noise levels."""
        solver = self.model.default_solver() if self.solver is None else self.solver
        return self.model.flow(solver=solver, n_steps=self.n_steps, window=window)

    def _read_chunk(self, X: np.ndarray, n_columns: int, window) -> LyapunovFrame:
        """Frames at rows X, of fewer rows at a time where memory does not suffice."""
        x, flow = self.model.encode(X), self.flow(window)
        x = x * self.model._schedule_of(flow.solver).alpha(flow.times[-1]).to(x)
        plays_back = self.model._plays_back and isinstance(flow.solver, ReverseDiffusion)

        def read(rows: slice) -> LyapunovFrame:
            generator, lifts = torch.Generator().manual_seed(self.path_seed), flow.derivative
            if x.is_cuda and plays_back:  # here: recordings hold memory, also of rows too many
                lifts = Derivative(*map(ReplayedLift, lifts))
            with guarded(flow.field), torch.no_grad():
                frame = lyapunov_frame(
                    replace(flow, derivative=lifts),
                    self._trajectories(flow, x[rows], generator),
                    n_columns,
                    n_oversamples=self.n_oversamples,
                    n_iter=self.n_iter,
                    generator=generator,
                    span=self.model.known_span(),
                )
            return LyapunovFrame(*(part.double().cpu().numpy() for part in frame))

        return _concatenate(halved(read, slice(0, len(x))))

    def _trajectories(self, flow: Flow, x: torch.Tensor, generator) -> Iterable[Trajectory]:
        """To rows x, made when asked for."""
        if not isinstance(flow.solver, StochasticSolver):
            return (Trajectory(flow.states_to(x), None) for _ in range(1))
        noising = self._noising(x, flow.n_steps, generator)  # drawn before the frame draws
        return (Trajectory(flow.states_to(x, z), None) for z in noising)

    def _n_paths(self, D: int) -> int:
        return max(4, 64 // D) if self.n_paths is None else self.n_paths

    def _noising(self, x: torch.Tensor, n_steps: int, generator) -> torch.Tensor:
        """Antithetic noise paths (n_paths, n_steps, 1, D): what is linear in them cancels."""
        D = x.shape[1]
        n_paths = self._n_paths(D)
        shape = ((n_paths + 1) // 2, n_steps, 1, D)
        half = torch.randn(shape, generator=generator, dtype=torch.float64).to(x)
        return torch.stack([half, -half], 1).flatten(0, 1)[:n_paths]


def _concatenate(frames: list[LyapunovFrame]) -> LyapunovFrame:
    return LyapunovFrame(*(np.concatenate(arrays) for arrays in zip(*frames, strict=True)))


@dataclass(frozen=True)
class FrameQuestion:
    """Some parts of the frames at rows.

    Parameters
    ----------
    frames : FrameReader
    n_columns : int
    window : tuple of float
    parts : tuple of str
        Fields of `LyapunovFrame`: nothing else is sent back by a worker.
    """

    frames: FrameReader
    n_columns: int
    window: tuple[float, float]
    parts: tuple[str, ...]

    @property
    def types(self) -> list[np.dtype]:
        """Of one row's answers, with their shapes."""
        D, k = self.frames.model.n_features_in_, self.n_columns
        shapes = {"points": (D,), "vectors": (D, k), "exponents": (k,)}
        return [np.dtype((float, shapes[part])) for part in self.parts]

    @property
    def columns(self) -> int:
        """Columns that are carried."""
        model, span = self.frames.model, self.frames.model.known_span()
        r = model.n_features_in_ if span is None else span.shape[1]
        return columns_carried(r, self.n_columns + self.frames.n_oversamples)

    @property
    def settings(self) -> dict:
        """What the frames depend on."""
        return vars(self.frames) | {"n_columns": self.n_columns, "window": self.window}

    def chunks(self, n_rows: int) -> Iterator[slice]:
        """Rows that carry their columns together."""
        frames, model, D = self.frames, self.frames.model, self.frames.model.n_features_in_
        # States and noise of two paths; vectors of all of them, and the matrix that is averaged.
        numbers = D * (4 * frames.n_steps + 3 * frames._n_paths(D) * self.columns)
        bytes_kept = numbers * model.gaussian_.basis.element_size()
        return model._row_chunks(n_rows, self.columns, bytes_kept)

    def answer(self, X: np.ndarray) -> tuple[np.ndarray, ...]:
        """The parts at rows of X (n, D)."""
        frame = self.frames._read_chunk(X, self.n_columns, self.window)
        return tuple(getattr(frame, part) for part in self.parts)


@dataclass(frozen=True)
class DensityQuestion:
    """Log density at rows.

    Parameters
    ----------
    model : GenerativeModel
        Fitted.
    """

    model: GenerativeModel

    @property
    def settings(self) -> dict:
        """What densities depend on."""
        return vars(self)

    def chunks(self, n_rows: int) -> Iterator[slice]:
        """Rows that carry the columns of their log determinants together."""
        return self.model._row_chunks(n_rows, min(self.model.n_features_in_, ALL_COLUMNS))

    def answer(self, X: np.ndarray) -> tuple[np.ndarray]:
        """Log densities (n,) of rows X (n, D)."""
        return (self.model.score_samples(X),)
