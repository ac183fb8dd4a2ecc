"""Projection onto the learned manifold, and valleys of the learned density, from its score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from alignlearn._arrays import in_chunks, row_chunks
from alignlearn._linalg import qr
from alignlearn.flow import Denoiser
from alignlearn.frames import FrameQuestion, FrameReader
from alignlearn.guards import guarded
from alignlearn.models.base import GenerativeModel
from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import ExponentialMidpoint
from alignlearn.streaming import stream

# Steps to the ridge; the first already lands on it where the density is Gaussian.
_N_STEPS = 6

# Memory of a point that moves, in tangent columns.
_MOVING = 8

# A valley is looked for at these shares of the length of the edge, and its depth counts so much:
# the coarser sees that two sheets end, the finer, which errs more, that two clusters are apart.
SHARES = ((0.5, 1.0), (0.25, 0.25))


class RidgeProjection:
    """Moves points in normal directions to the ridge of the density of the data.

    On the ridge the score has no normal component (Ozertem & Erdogmus 2011; that it estimates the
    manifold under noise: Genovese et al. 2014). Noise of standard deviation sigma and score at
    scale s leave ``Den - x = -s^2 / (s^2 + sigma^2) n`` of a normal displacement n, so that steps
    of ``1 + sigma^2 / s^2`` times the normal part of it are Newton's. The scale is sigma,
    and larger for points farther off. The steps of a model without a
    score, such as flow matching with coupled pairs, are rough: sigma is 0 there, so that points
    move little.

    Parameters
    ----------
    frames : FrameReader
        Its model gives the score; normal spaces come from one step of its probability-flow ODE.
    dimension : int
        Dimension of the ridge.
    noise_level : float
        Noise sigma of the data, in their own units; NaN, where the data fill their span, is 0.
    n_halvings : int, optional
        Not to the ridge, but so often half of the way, by the normal part of ``Den - x`` at scale
        sigma: far from the data, or where few points say where the ridge is, this goes less wrong.
    """

    def __init__(
        self,
        frames: FrameReader,
        dimension: int,
        noise_level: float,
        n_halvings: int | None = None,
    ) -> None:
        self.model, self.n_halvings = frames.model, n_halvings
        solver = ExponentialMidpoint(VarianceExploding(*self.model.noise_range_))
        self.frames = replace(frames, solver=solver, n_steps=1)
        self.dimension = dimension
        unit = np.exp(self.model.scaling_.log_unit)
        unknown = np.isnan(noise_level) or not self.model.has_score
        self.noise = 0.0 if unknown else float(noise_level / unit)
        s_min, s_max = self.model.noise_range_
        self.scale = min(max(self.noise, s_min), s_max / 3)
        window = (self.scale, 3 * self.scale)
        self.normals = FrameQuestion(self.frames, dimension, window, ("vectors",))

    def __call__(self, X) -> np.ndarray:
        """Points (n, D) on the ridge, in the units of X (n, D)."""
        return stream(self, self.frames.rows(X), self.types, n_jobs=self.frames.n_jobs)[0]

    @property
    def types(self) -> list[np.dtype]:
        """A point has a point, see `stream`."""
        return [np.dtype((float, (self.model.n_features_in_,)))]

    @property
    def settings(self) -> dict:
        """What the projection depends on."""
        own = {"dimension": self.dimension, "noise": self.noise, "n_halvings": self.n_halvings}
        return vars(self.frames) | own

    def chunks(self, n_rows: int) -> Iterator[slice]:
        """Rows whose frames are taken, and which move, together."""
        return self.model._row_chunks(n_rows, max(self.normals.columns, _MOVING))

    def answer(self, X: np.ndarray) -> tuple[np.ndarray]:
        """Points (n, D) on the ridge for a chunk of rows X (n, D)."""
        if self.dimension >= X.shape[1]:
            return (X,)
        x, (vectors,) = self.model.encode(X), self.normals.answer(X)
        Q, denoise = torch.as_tensor(vectors).to(x), self.model.denoiser()
        with guarded(denoise), torch.no_grad():
            move = self._to_ridge if self.n_halvings is None else self._towards_ridge
            parts = in_chunks(lambda rows: move(denoise, x[rows], Q[rows]), [slice(0, len(x))])
        return (self.model.decode(torch.cat(parts)),)

    def _to_ridge(self, denoise: Denoiser, x: Tensor, Q: Tensor) -> Tensor:
        codimension = x.shape[1] - self.dimension
        s = torch.full((len(x), 1), self.scale, dtype=x.dtype, device=x.device)
        for _ in range(_N_STEPS):
            step = _normal_step(denoise, x, s, Q)
            x = x + (1 + (self.noise / s) ** 2) * step
            off = step.square().sum(1, keepdim=True).div(codimension).sqrt()
            s = torch.clamp(off, self.scale, self.model.noise_range_[1])
        return x

    def _towards_ridge(self, denoise: Denoiser, x: Tensor, Q: Tensor) -> Tensor:
        s = torch.full((len(x), 1), self.scale, dtype=x.dtype, device=x.device)
        for _ in range(self.n_halvings):
            x = x + _normal_step(denoise, x, s, Q)
        return x


def _normal_step(denoise: Denoiser, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
    """``Den - x`` without its part in the spaces Q (n, D, d)."""
    step = denoise(x, s) - x
    return step - torch.einsum("nfd,nd->nf", Q, torch.einsum("nfd,nf->nd", Q, step))


@dataclass(frozen=True)
class TangentQuestion:
    """The tangent spaces at rows, or nearer to the manifold than these.

    Parameters
    ----------
    frames : FrameQuestion
        Of vectors alone: they span the spaces, but for normals that the model knows.
    projection : RidgeProjection, optional
        Gives the points at which the frames are read; default the rows themselves.
    """

    frames: FrameQuestion
    projection: RidgeProjection | None

    @property
    def types(self) -> list[np.dtype]:
        """Of one row's answers, with their shapes."""
        return self.frames.types

    @property
    def settings(self) -> dict:
        """What the projection and the frames depend on."""
        projection = {} if self.projection is None else self.projection.settings
        return projection | self.frames.settings

    def chunks(self, n_rows: int) -> Iterator[slice]:
        """Rows that carry their columns together."""
        return self.frames.chunks(n_rows)

    def answer(self, X: np.ndarray) -> tuple[np.ndarray]:
        """Orthonormal vectors (n, D, d) for rows X (n, D)."""
        model = self.frames.frames.model
        if self.projection is not None:
            (X,) = self.projection.answer(X)
        (vectors,) = self.frames.answer(X)
        normals = model.known_normals(model.encode(X))
        if normals is not None and vectors.shape[2] + normals.shape[2] <= model.scaling_.rank:
            both = torch.cat([normals.double().cpu(), torch.as_tensor(vectors)], 2)
            vectors = qr(both)[0][:, :, normals.shape[2] :].numpy()
        return (vectors,)


def density_valley(model: GenerativeModel, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log density in the middle of edges minus that of the lower end, from the score.

    The density smoothed in proportion to the length of the edge: negative where both ends look down
    into a gap of the data, near 0 or positive within them.

    Parameters
    ----------
    model : GenerativeModel
        Fitted.
    a, b : ndarray of shape (n, D)
        Ends of the edges.

    Returns
    -------
    depth : ndarray of shape (n,)
    """
    a, b = model.encode(a), model.encode(b)
    denoise = model.denoiser()

    def depths(rows: slice) -> np.ndarray:
        start, edge = a[rows], b[rows] - a[rows]
        depth = [
            weight * _climb(denoise, start, edge, share, model.noise_range_)
            for share, weight in SHARES
        ]
        return torch.stack(depth).amin(0).double().cpu().numpy()

    chunks = row_chunks(len(a), _MOVING * model._bytes_per_column())
    with guarded(denoise), torch.no_grad():
        return np.concatenate([np.empty(0), *in_chunks(depths, chunks)])


def _climb(denoise: Denoiser, start: Tensor, edge: Tensor, share: float, noise_range) -> Tensor:
    """Log density in the middle minus that of the lower end, smoothed at `share` of the length."""
    s = (share * edge.norm(dim=1, keepdim=True)).clamp(*noise_range)
    rise = [
        ((denoise(start + t * edge, s) - start - t * edge) * edge).sum(1) / s[:, 0] ** 2
        for t in (0.125, 0.375, 0.625, 0.875)
    ]
    return torch.maximum(rise[0] + rise[1], -(rise[2] + rise[3])) / 4
