"""Log densities at the end of a flow, by change of variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from alignlearn._arrays import in_chunks
from alignlearn.derivatives import ALL_COLUMNS, Lift, divergence
from alignlearn.flow import Denoiser, Flow, Trajectory
from alignlearn.guards import guarded
from alignlearn.tangent import log_volume, random_frame


def log_densities(
    flow: Flow,
    x: Tensor,
    chunks: Iterable[slice],
    source: Callable[[Tensor], np.ndarray],
    estimated_volume: Callable[[Trajectory], Tensor],
) -> np.ndarray:
    """``log p(z) - log |det dF(z)|`` at ``x = F(z)``, (n,).

    Parameters
    ----------
    flow : Flow
        F, an ODE.
    x : Tensor of shape (n, D)
        Ends of the flow, in float64: in float32 a density depends on the batch in its sixth digit.
    chunks : iterable of slice
        Rows that are done together.
    source : callable (n, D) -> (n,)
        Log density p of the source.
    estimated_volume : callable trajectory -> (n,)
        The log determinant beyond 128 features; up to there it is exact for the discrete flow.
    """
    exact = x.shape[1] <= ALL_COLUMNS

    def log_density(rows: slice) -> np.ndarray:
        trajectory = flow.trajectory(x[rows])
        volume = log_volume(flow, trajectory) if exact else estimated_volume(trajectory)
        return source(trajectory.states[0]) - volume.cpu().numpy()

    with guarded(flow.field), torch.no_grad():
        return np.concatenate(in_chunks(log_density, chunks))


def denoiser_log_volume(
    denoise: Denoiser, push: Lift, noise_range: tuple[float, float], trajectory: Trajectory
) -> Tensor:
    """Trapezoidal ``-int (D - tr dDen/dy) d log s`` along a trajectory, (n,)."""
    s_min, s_max = noise_range
    D, n_times = trajectory.states.shape[-1], len(trajectory.states)
    log_s = torch.linspace(np.log(s_max), np.log(s_min), n_times, dtype=torch.float64)
    probes = _probes(trajectory)
    rates = [
        D - divergence(lambda y, s=s: denoise(y, s), state, probes, push)
        for state, s in zip(trajectory.states, log_s.exp(), strict=True)
    ]
    return torch.trapezoid(torch.stack(rates), log_s.to(trajectory.states.device), dim=0)


def velocity_log_volume(flow: Flow, trajectory: Trajectory) -> Tensor:
    """Trapezoidal ``int div v dt`` along a trajectory, (n,)."""
    probes = _probes(trajectory)
    rates = [
        divergence(lambda x, t=t: flow.field(x, t), x, probes, flow.derivative.push)
        for x, t in zip(trajectory.states, flow.times, strict=True)
    ]
    return torch.trapezoid(torch.stack(rates), flow.times.to(trajectory.states.device), dim=0)


def _probes(trajectory: Trajectory) -> Tensor:
    """Random orthonormal columns (D, k), the same for all rows and chunks."""
    x = trajectory.states[-1]
    return random_frame(x, ALL_COLUMNS // 2, torch.Generator().manual_seed(0))
