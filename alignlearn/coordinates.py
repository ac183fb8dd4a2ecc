"""Coordinates on a fitted manifold: the chart of its landmarks, and what it says of other rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alignlearn.dimension import spectral_gaps
from alignlearn.embedding import Chart, LazyChart, align_tangent_spaces, default_n_neighbors
from alignlearn.frames import FrameReader
from alignlearn.projection import RidgeProjection, density_valley
from alignlearn.streaming import Rows, stream_one

# Numbers in the frames of all landmarks at most: 1 GB.
_MAX_FRAME_SIZE = 2**27


@dataclass(frozen=True)
class Landmarks:
    """Which rows become landmarks: all of few, some of many at random.

    Parameters
    ----------
    n_landmarks : int
        At most so many.
    frame_size : int
        Numbers in the frame of one; they have to fit into memory.
    seed : int
        Draws them.
    """

    n_landmarks: int
    frame_size: int
    seed: int

    def __call__(self, n_rows: int) -> np.ndarray:
        """Their places among so many rows, in order."""
        m = min(n_rows, self.n_landmarks, max(100, _MAX_FRAME_SIZE // self.frame_size))
        return np.sort(np.random.RandomState(self.seed).permutation(n_rows)[:m])


@dataclass(frozen=True)
class Coordinates:
    """Global coordinates of rows, and back.

    Rows are projected onto the manifold by workers and placed in the chart by this process.

    Parameters
    ----------
    lazy_chart : LazyChart
        Training points, and their chart once it is computed.
    frames : FrameReader
        Gives the tangent spaces of landmarks.
    window : tuple of float
        Noise levels over which they are taken.
    projection : RidgeProjection
        Onto the manifold, of its dimension.
    landmarks : Landmarks
        Which of the training points are aligned.
    n_components : int
        Number of coordinates.
    n_neighbors : int or None
        Neighbours of a landmark; None is `default_n_neighbors`.
    """

    lazy_chart: LazyChart
    frames: FrameReader
    window: tuple[float, float]
    projection: RidgeProjection
    landmarks: Landmarks
    n_components: int
    n_neighbors: int | None

    def transform(self, rows: Rows, out=None):
        """Coordinates (n, n_components) of rows, written to `out` if that is given."""
        chart, row = self._chart(), np.dtype((float, (self.n_components,)))

        def place(points: np.ndarray) -> np.ndarray:
            return chart.transform(points, self._valley)

        n_jobs = self.frames.n_jobs
        return stream_one(self.projection, rows, row, out, place, n_jobs=n_jobs, chart=chart)

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Points (n, D) on the manifold with coordinates Y."""
        return self.projection(self._chart().inverse_transform(Y))

    def of_training_points(self) -> np.ndarray:
        """Coordinates of all of them, computed once."""
        if self.lazy_chart.embedding is None:
            self.lazy_chart.embedding = self.transform(self.frames.rows(self.lazy_chart.X))
        return self.lazy_chart.embedding

    def _chart(self) -> Chart:
        return self.lazy_chart.get(self._compute_chart)

    def _compute_chart(self, X: np.ndarray) -> Chart:
        """The chart, from landmarks on the ridge and tangent spaces as the data have them."""
        d, D = self.projection.dimension, X.shape[1]
        X = X[self.landmarks(len(X))]
        frame = self.frames(X, min(d + 1, D), self.window)
        return align_tangent_spaces(
            self.projection(X),
            frame.vectors[:, :, :d],
            self.n_components,
            default_n_neighbors(d) if self.n_neighbors is None else self.n_neighbors,
            self._valley,
            1e-3 + spectral_gaps(frame.exponents)[:, d - 1],
        )

    def _valley(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return density_valley(self.frames.model, a, b)
