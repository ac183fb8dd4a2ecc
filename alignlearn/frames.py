"""Lyapunov frames of a fitted model at the user's rows: paths drawn, rows in chunks, workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed

from alignlearn._arrays import halved, shared_threads
from alignlearn.derivatives import ALL_COLUMNS
from alignlearn.flow import Flow, Trajectory
from alignlearn.guards import guarded
from alignlearn.models.base import GenerativeModel
from alignlearn.solvers import Solver, StochasticSolver
from alignlearn.tangent import LyapunovFrame, lyapunov_frame


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
        x = self.model.encode(X)
        D = x.shape[1]
        carried = D if D <= ALL_COLUMNS else min(D, n_columns + self.n_oversamples)
        # States and noise of two paths; vectors of all of them, and the matrix that is averaged.
        n_paths = self._n_paths(D)
        numbers = D * (4 * self.n_steps + 3 * n_paths * carried)
        chunks = self.model._row_chunks(len(x), carried, numbers * x.element_size())
        with shared_threads(self.n_jobs):
            parts = Parallel(n_jobs=self.n_jobs)(
                delayed(self._read_chunk)(x[chunk], n_columns, window) for chunk in chunks
            )
        return _concatenate(parts)

    def flow(self, window: tuple[float, float]) -> Flow:
        """The generating process over a window of noise levels."""
        solver = self.model.default_solver() if self.solver is None else self.solver
        return self.model.flow(solver=solver, n_steps=self.n_steps, window=window)

    def _read_chunk(self, x: torch.Tensor, n_columns: int, window) -> LyapunovFrame:
        """Frames at rows x, of fewer rows at a time where memory does not suffice."""
        flow = self.flow(window)
        x = x * self.model._schedule_of(flow.solver).alpha(flow.times[-1]).to(x)

        def read(rows: slice) -> LyapunovFrame:
            generator = torch.Generator().manual_seed(self.path_seed)
            with guarded(flow.field), torch.no_grad():
                frame = lyapunov_frame(
                    flow,
                    self._trajectories(flow, x[rows], generator),
                    n_columns,
                    n_oversamples=self.n_oversamples,
                    n_iter=self.n_iter,
                    generator=generator,
                )
            return LyapunovFrame(*(part.double().cpu().numpy() for part in frame))

        return _concatenate(halved(read, slice(0, len(x))))

    def _trajectories(self, flow: Flow, x: torch.Tensor, generator) -> Iterable[Trajectory]:
        """To rows x, made when asked for."""
        if not isinstance(flow.solver, StochasticSolver):
            return (flow.trajectory(x) for _ in range(1))
        noising = self._noising(x, flow.n_steps, generator)  # drawn before the frame draws
        return (flow.trajectory(x, z) for z in noising)

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
