"""The loss of flow matching: velocities of pairs of data and source on a random path."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alignlearn._arrays import Scaling
from alignlearn._rows import Subset
from alignlearn._team import ALONE, Team
from alignlearn.couplings import Coupling
from alignlearn.paths import Path
from alignlearn.sources import Source, StandardGaussian

# Share of the times drawn uniformly, for the way from the source; the others are log-uniform, for
# the geometry, which is decided near the data.
_UNIFORM_SHARE = 0.25

# No time is drawn nearer to the source: some velocities are unbounded there.
_LAST_TIME = 1 - 1e-4

# Rows from which the size of a source is measured.
_SIZE_ROWS = 4000


class SourceSampler:
    """Draws of a source in the model's coordinates, checked.

    Parameters
    ----------
    source : Source or callable
        See `alignlearn.sources`.
    scaling : Scaling
        From the user's units to the model's.
    n_features : int
        Number of features D.
    """

    def __init__(self, source, scaling: Scaling, n_features: int) -> None:
        self.source, self.scaling, self.n_features = source, scaling, n_features

    def __call__(self, n_samples: int, rng: np.random.Generator) -> Tensor:
        """Rows (n_samples, D), float64.

        Raises
        ------
        ValueError
            If the source gives anything but finite rows of D numbers.
        """
        shape = (n_samples, self.n_features)
        if isinstance(self.source, Source):
            rows = self.source.sample(*shape, rng)
        else:
            rows = self.source(n_samples, rng)
        try:
            rows = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"source must give an array of numbers of shape {shape}, got {type(rows).__name__}."
            ) from error
        if rows.shape != shape:
            raise ValueError(
                f"source must give rows of the dimension of the data, shape {shape}, got "
                f"{rows.shape}: X has {self.n_features} features."
            )
        if not np.isfinite(rows).all():
            raise ValueError("source gave values that are infinite or NaN, expected finite rows.")
        if getattr(self.source, "scales_with_data", False):
            return torch.from_numpy(rows)
        return self.scaling.to_model(rows, torch.empty(0, dtype=torch.float64))

    def size(self, rng: np.random.Generator) -> float:
        """Root mean square per feature, in the model's coordinates."""
        if isinstance(self.source, StandardGaussian):
            return 1.0
        size = float(self(_SIZE_ROWS, rng).square().mean().sqrt())
        return size if size > 0 else 1.0


class Batch(NamedTuple):
    """Points on paths, with what the velocity there is to be.

    Attributes
    ----------
    x_t : Tensor of shape (n, D)
    t : Tensor of shape (n, 1)
    u : Tensor of shape (n, D)
        Conditional velocities, the targets.
    """

    x_t: Tensor
    t: Tensor
    u: Tensor


def draw_times(n: int, t_min: float, generator: torch.Generator) -> Tensor:
    """Times (n, 1), float64, in random order: a quarter uniform, the others log-uniform.

    Parameters
    ----------
    n : int
        How many.
    t_min : float
        Lower end.
    generator : torch.Generator
        Its device is that of the times.
    """
    device = generator.device
    u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
    u = (torch.arange(n, device=device) + u) / n
    uniform = t_min + (1 - t_min) * u / _UNIFORM_SHARE
    log_uniform = torch.exp(math.log(t_min) * (u - _UNIFORM_SHARE) / (1 - _UNIFORM_SHARE))
    t = torch.where(u < _UNIFORM_SHARE, uniform, log_uniform).clamp_max(_LAST_TIME)
    return t[torch.randperm(n, generator=generator, device=device)][:, None]


def loss_weight(path: Path, t: Tensor, size: float = 1.0) -> Tensor:
    """Factor of a velocity's error that makes all times count alike.

    ``|(alpha, m sigma)| / (m (sigma' alpha - alpha' sigma))`` turns an error of the velocity into
    one of a network of unit output (with m = 1 the weight of Karras et al. 2022 for denoisers); the
    rest divides by the scatter of the targets where noise on the path makes it large. A weight that
    depends on time alone does not move the minimiser.

    Parameters
    ----------
    path : Path
        Which path.
    t : Tensor
        Times.
    size : float, default=1
        Root mean square m of the source.
    """
    schedule = path.schedule
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    rate = schedule.sigma_dot(t) * alpha - schedule.alpha_dot(t) * sigma
    weight = torch.hypot(alpha, size * sigma) / (size * rate)
    scatter = (path.beta_dot(t) * path.gamma(t) - path.beta(t) * path.gamma_dot(t)) / sigma
    return weight / torch.sqrt(1 + (weight * scatter) ** 2)


class MatchingLoss:
    """Weighted flow-matching loss ``|w(t) (v(x_t, t) - u)|^2 / D`` of a batch drawn at every call.

    With independent pairs and a standard Gaussian source it is the denoising loss of `Diffusion`:
    1 for the best velocity of isotropic Gaussian data.

    Parameters
    ----------
    x : Tensor or Subset of shape (n, D)
        Training rows, drawn with replacement.
    sampler : SourceSampler
        Draws rows of the source.
    coupling : Coupling
        Pairs the two within a batch.
    path : Path
        Joins the pairs.
    t_min : float
        Time at which the flow ends.
    size : float
        Root mean square of the source.
    batch_size : int
        Rows of a batch.
    generator : torch.Generator
        Draws everything, on the device of x.
    team : Team, optional
        Processes that draw the same batches; each gives its part of the loss.
    """

    def __init__(
        self,
        x: Tensor | Subset,
        sampler: Callable[[int, np.random.Generator], Tensor],
        coupling: Coupling,
        path: Path,
        t_min: float,
        size: float,
        batch_size: int,
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> None:
        self.x, self.sampler, self.coupling, self.path = x, sampler, coupling, path
        self.team = team
        self.t_min, self.size = t_min, size
        self.batch_size, self.generator = batch_size, generator

    def draw(self, x_0: Tensor) -> Batch:
        """Paths from the rows x_0 (n, D) to as many rows of the source."""
        n, options = len(x_0), {"generator": self.generator, "device": self.generator.device}
        seed = int(torch.randint(2**31 - 1, (), **options))  # type: ignore[call-overload]
        rng = np.random.default_rng(seed)
        x_1 = self.sampler(n, rng)
        i, j = self.coupling(x_0.double().cpu().numpy(), x_1.numpy(), rng)
        x_0, x_1 = x_0[torch.as_tensor(i)], x_1[torch.as_tensor(j)].to(x_0)
        z = torch.randn(x_0.shape, dtype=x_0.dtype, **options)  # type: ignore[call-overload]
        t = draw_times(len(x_0), self.t_min, self.generator).to(x_0)
        return Batch(self.path.state(x_0, x_1, z, t), t, self.path.target(x_0, x_1, z, t))

    def of(self, velocity: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Tensor:
        """Loss of a velocity on a batch; of a team, the part of this process in the sum."""
        n = len(batch.t)
        x_t, t, u = (part[self.team.share(n)] for part in batch)
        weight = loss_weight(self.path, t, self.size)
        return (weight * (velocity(x_t, t) - u)).square().mean() * self.team.weight(n)

    def __call__(self, velocity: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Loss on a new batch, to be differentiated."""
        options = {"generator": self.generator, "device": self.generator.device}
        rows = torch.randint(len(self.x), (self.batch_size,), **options)  # type: ignore[call-overload]
        return self.of(velocity, self.draw(self.x[rows]))


class HeldOutMatchingLoss:
    """Flow-matching loss of rows not trained on, with batches drawn once.

    Parameters
    ----------
    loss : MatchingLoss
        Of the held-out rows.
    n_draws : int, default=2000
        Rows are repeated with other draws up to about this number.
    """

    def __init__(self, loss: MatchingLoss, n_draws: int = 2000) -> None:
        self.loss = loss
        rows = loss.x.repeat(max(1, n_draws // len(loss.x)), 1)
        rows = rows[torch.randperm(len(rows), generator=loss.generator, device=rows.device)]
        batches = [loss.draw(part) for part in rows.split(loss.batch_size)]
        self.batch = Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))

    @torch.no_grad()
    def __call__(self, velocity: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Loss of a velocity."""
        return float(self.loss.of(velocity, self.batch))
