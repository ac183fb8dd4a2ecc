"""Lyapunov vectors: the randomized SVD of a flow's tangent map.

The finite-time Lyapunov vectors at the end x of a trajectory are the leading *left singular
vectors* of ``dF = dF_{N-1} ... dF_0`` (the paper, section 4: eigenvectors of ``dF dF^T``), the
exponents are ``log sigma_i / elapsed``. ``dF`` is never formed unless all D columns are carried: a
frame of k orthonormal columns is pushed forward with jvps, pulled back with vjps and
re-orthonormalised by QR, which is subspace iteration on ``dF dF^T`` (Halko, Martinsson & Tropp
2011), and a small SVD of the accumulated triangular factor rotates it at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from alignlearn._linalg import left_singular, outer_axes, principal_axes, qr
from alignlearn.derivatives import ALL_COLUMNS
from alignlearn.flow import Flow, Trajectory
from alignlearn.guards import guarded

# e-folds of possible contraction between two QRs: a float32 column keeps five digits.
_MAX_LOG_RANGE = 5.0


class LyapunovFrame(NamedTuple):
    """Finite-time Lyapunov vectors and exponents at the end points of trajectories.

    Attributes
    ----------
    points : Tensor of shape (n, D)
        Where the vectors live.
    vectors : Tensor of shape (n, D, k)
        Orthonormal columns, most stretched direction first.
    exponents : Tensor of shape (n, k), float64
        ``log sigma_i / elapsed``, descending; a normal direction has -1, a tangent one is near 0.
    """

    points: Tensor
    vectors: Tensor
    exponents: Tensor


class _Factors(NamedTuple):
    """``dF E_0 = Q R exp(log_scale)``: Q (n, D, k), R (n, k, k) float64, log_scale (n,)."""

    Q: Tensor
    R: Tensor
    log_scale: Tensor


def _qr(E: Tensor) -> tuple[Tensor, Tensor]:
    """QR of the columns of E (k, n, D), with a positive diagonal: Q (n, D, k), R (n, k, k)."""
    if not torch.isfinite(E).all():
        raise FloatingPointError(
            "the tangent vectors became infinite or NaN: the field overflows at these points. "
            "Check that the points lie in the range of the training data, or use a larger s_min."
        )
    return qr(E.permute(1, 2, 0))


def _sweep(flow: Flow, trajectory: Trajectory, Q: Tensor, *, adjoint: bool = False) -> _Factors:
    """Benettin's QR sweep (1980) of the frame Q (n, D, k) along a trajectory, R kept in log scale.

    Forward, or backward with the adjoint steps. A QR is taken only when the columns could have lost
    `_MAX_LOG_RANGE` e-folds since the last one.
    """
    n, _, k = Q.shape
    R_total = torch.eye(k, dtype=torch.float64, device=Q.device).expand(n, k, k)
    log_scale = torch.zeros(n, dtype=torch.float64, device=Q.device)
    order = range(flow.n_steps)
    lift = flow.derivative.pull if adjoint else flow.derivative.push
    range_per_step = flow.elapsed / flow.n_steps
    pending = 0.0
    E = Q.permute(2, 0, 1)
    for count, i in enumerate(reversed(order) if adjoint else order, start=1):
        with guarded(flow.field):
            E = lift(flow.step(i), trajectory.states[i], E.contiguous())
        pending += range_per_step
        if pending + range_per_step > _MAX_LOG_RANGE or count == flow.n_steps:
            Q, R = _qr(E)
            E, pending = Q.permute(2, 0, 1), 0.0
            R_total = R.double() @ R_total
            size = R_total.abs().amax((-2, -1)).clamp_min(torch.finfo(torch.float64).tiny)
            R_total, log_scale = R_total / size[:, None, None], log_scale + size.log()
    return _Factors(Q, R_total, log_scale)


def random_frame(x: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """Random orthonormal columns; the identity for k = D.

    Parameters
    ----------
    x : Tensor of shape (n, D)
        Gives the size, dtype and device.
    k : int
        Number of columns, at most D.
    generator : torch.Generator or None
        On the CPU.

    Returns
    -------
    Tensor of shape (D, k)
    """
    D = x.shape[1]
    if k == D:
        return torch.eye(D, dtype=x.dtype, device=x.device)
    gaussian = torch.randn(D, k, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian)[0].to(x)


def _all_rows(frame: Tensor, x: Tensor) -> Tensor:
    """One frame (D, k) for every row, (n, D, k): a row does not depend on its batch."""
    return frame.expand(len(x), *frame.shape)


def _exact_singular(flow: Flow, trajectory: Trajectory, invariant: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors, in an invariant frame (n, D, r), and values of the tangent map there.

    ``dF^T B = Q R`` comes from one adjoint sweep (PyTorch's reverse mode is cheaper per column than
    its forward mode); B^T Q is orthogonal, so that those of ``B^T dF B`` are those of R^T.
    """
    factors = _sweep(flow, trajectory, invariant, adjoint=True)
    U, S = left_singular(factors.R.mT)
    return U.to(invariant), _log_values(S, factors)


def _leading_singular(
    flow: Flow, trajectory: Trajectory, start: Tensor, n_iter: int
) -> tuple[Tensor, Tensor]:
    """Leading left singular vectors (n, D, k) and log singular values (n, k), nearly."""
    factors = _sweep(flow, trajectory, start)
    for _ in range(n_iter):
        back = _sweep(flow, trajectory, factors.Q, adjoint=True)
        factors = _sweep(flow, trajectory, back.Q)
    U, S = left_singular(factors.R)
    return factors.Q @ U.to(start), _log_values(S, factors)


def _log_values(S: Tensor, factors: _Factors) -> Tensor:
    """Logarithms (n, k) of singular values S of ``R``, its scale put back."""
    return S.clamp_min(torch.finfo(torch.float64).tiny).log() + factors.log_scale[:, None]


def lyapunov_frame(
    flow: Flow,
    trajectories: Trajectory | Iterable[Trajectory],
    n_components: int | None = None,
    *,
    n_oversamples: int = 10,
    n_iter: int = 1,
    generator: torch.Generator | None = None,
    span: Tensor | None = None,
) -> LyapunovFrame:
    """Leading Lyapunov vectors and exponents at the end points of trajectories.

    The randomized SVD of the tangent map: push a frame forward, then `n_iter` times pull it back
    and push it forward again. Its error falls like ``(sigma_{k+1} / sigma_d)^(2 n_iter + 1)`` with
    ``k = n_components + n_oversamples``. When k reaches D, or D is at most 128, all columns are
    carried and the result is the exact SVD of the lifted steps.

    Several trajectories with the same end points (frozen noise paths of reverse diffusion) are
    averaged: the result is the eigendecomposition of the log-Euclidean mean of ``dF dF^T``
    (Arsigny et al. 2006), with the directions not carried taken at the lowest rate that was.

    Where the field is known to vary and point within a linear subspace of r dimensions only, its
    tangent map keeps that subspace, and scales what is normal to it: r columns are all that need to
    be carried for the exact result, if r is at most 128.

    Parameters
    ----------
    flow : Flow
        The generating process.
    trajectories : Trajectory or iterable of Trajectory
        Stored states with n rows; see `Flow.trajectory` and `Flow.orbit`. Of an iterator two are
        kept at a time, the first and the last.
    n_components : int, optional
        Number of vectors returned, default all D.
    n_oversamples : int, default=10
        Extra columns carried.
    n_iter : int, default=1
        Pull-back and push-forward passes after the first sweep; not used when all D are carried.
    generator : torch.Generator, optional
        CPU generator of the start frame, which all rows share.
    span : Tensor of shape (D, r), optional
        Orthonormal basis of such a subspace.

    Returns
    -------
    LyapunovFrame
        With ``k = n_components`` columns.

    Raises
    ------
    ValueError
        If there is no trajectory or `n_components` is not between 1 and D.
    FloatingPointError
        If the tangent vectors become infinite or NaN.
    """
    if isinstance(trajectories, Trajectory):
        trajectories = [trajectories]
    trajectories = iter(trajectories)
    first = next(trajectories, None)
    if first is None:
        raise ValueError("expected at least one trajectory, got none.")
    x = first.states[-1]
    D = x.shape[1]
    n_components = D if n_components is None else n_components
    if not 1 <= n_components <= D:
        raise ValueError(f"n_components must be between 1 and D = {D}, got {n_components}.")
    r = D if span is None else span.shape[1]
    k = columns_carried(r, n_components + n_oversamples)
    exact = k == r
    start = span if exact and span is not None else random_frame(x, k, generator)
    start = _all_rows(start.to(x), x)
    frames = []
    for trajectory in chain([first], trajectories):
        if exact:
            vectors, log_sigma = _exact_singular(flow, trajectory, start)
        else:
            vectors, log_sigma = _leading_singular(flow, trajectory, start, n_iter)
        frames.append((vectors, log_sigma / flow.elapsed))
    vectors, exponents = frames[0] if len(frames) == 1 else _log_euclidean_mean(frames)
    if exact and span is not None:
        vectors, exponents = _with_normals(flow, first, span, vectors, exponents, n_components)
    return LyapunovFrame(x, vectors[..., :n_components], exponents[:, :n_components])


def columns_carried(r: int, n_columns: int) -> int:
    """Columns that `lyapunov_frame` carries: all there are, unless these are many more than needed.

    Parameters
    ----------
    r : int
        Dimensions in which it works, D or those of the span.
    n_columns : int
        Vectors asked for, and the extra ones.

    Returns
    -------
    int
        r if that is at most 128 or `n_columns`, else `n_columns`.
    """
    return r if r <= max(ALL_COLUMNS, n_columns) else n_columns


def _with_normals(
    flow: Flow, trajectory: Trajectory, span: Tensor, U: Tensor, exponents: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Leading k vectors (n, D, k) and exponents of those in a span (D, r) and of its normals.

    U (n, r, r) and exponents (n, r), descending, are within the span. All normals are scaled by the
    same factor, whatever the trajectory.
    """
    D, r = span.shape
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(D, min(k, D - r), generator=generator, dtype=torch.float64)
    normals = torch.linalg.qr(torch.cat([span.double(), others.to(span.device)], 1))[0][:, r:]
    normals = _all_rows(normals.to(U), U)
    factors = _sweep(flow, trajectory, normals[..., :1])
    rate = _log_values(factors.R[..., 0], factors) / flow.elapsed
    exponents = torch.cat([exponents, rate.expand(-1, normals.shape[2])], 1)
    exponents, order = exponents.sort(dim=1, descending=True, stable=True)
    vectors = torch.cat([span.to(U) @ U, normals], 2)
    return vectors.gather(2, order[:, None, :k].expand(-1, D, -1)), exponents[:, :k]


def _log_euclidean_mean(frames: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Eigenvectors and mean exponents of ``mean_p U_p diag(lambda_p) U_p^T``, floor elsewhere.

    ``mean_p U_p (lambda_p - floor) U_p^T`` is ``G G^T`` with G (n, D, k P); floor (n, 1) is the
    lowest exponent carried, so that the sum of the exponents is kept when k = D.
    """
    floor = torch.stack([exponents[:, -1:] for _, exponents in frames]).amin(0)
    G = torch.cat([U * (lam - floor).sqrt().to(U)[:, None] for U, lam in frames], -1)
    G = G.double() / math.sqrt(len(frames))
    D, k = frames[0][0].shape[1:]
    if G.shape[-1] < D:
        U, excess = outer_axes(G, k)
    else:
        U, excess = principal_axes(G @ G.mT)
    return U[..., :k].to(frames[0][0]), floor + excess[:, :k]


def qr_sweep(
    flow: Flow,
    trajectory: Trajectory,
    n_components: int,
    *,
    generator: torch.Generator | None = None,
) -> LyapunovFrame:
    """The paper's algorithm: one forward QR sweep from a random frame (section 4).

    A one-pass random range finder: its vectors are not converged for an ODE and ``log |diag R|``
    is not the singular spectrum. Kept to reproduce the paper; use `lyapunov_frame` otherwise.

    Parameters
    ----------
    flow : Flow
        The generating process.
    trajectory : Trajectory
        Stored states with n rows.
    n_components : int
        Columns carried, between 1 and D.
    generator : torch.Generator, optional
        CPU generator of the start frame.

    Returns
    -------
    LyapunovFrame
        Columns in the order of the sweep; exponents need not descend.
    """
    x = trajectory.states[-1]
    D = x.shape[1]
    if not 1 <= n_components <= D:
        raise ValueError(f"n_components must be between 1 and D = {D}, got {n_components}.")
    gaussian = torch.randn(D, n_components, generator=generator, dtype=torch.float64)
    start = torch.linalg.qr(gaussian)[0].to(x).expand(len(x), D, n_components)
    Q, R, log_scale = _sweep(flow, trajectory, start)
    diagonal = R.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(torch.float64).tiny)
    return LyapunovFrame(x, Q, (diagonal.log() + log_scale[:, None]) / flow.elapsed)


def log_volume(flow: Flow, trajectory: Trajectory) -> Tensor:
    """Log absolute determinant of the tangent map of the whole flow.

    All D columns are carried; equals the sum of ``exponents * elapsed`` of the full frame.

    Parameters
    ----------
    flow : Flow
        The generating process.
    trajectory : Trajectory
        Stored states with n rows.

    Returns
    -------
    Tensor of shape (n,), float64
    """
    x = trajectory.states[-1]
    start = _all_rows(random_frame(x, x.shape[1], None), x)
    factors = _sweep(flow, trajectory, start, adjoint=True)
    diagonal = factors.R.diagonal(dim1=-2, dim2=-1).abs()
    return diagonal.log().sum(-1) + x.shape[1] * factors.log_scale


def qr_frames(flow: Flow, trajectory: Trajectory, start: Tensor) -> tuple[Tensor, Tensor]:
    """Frames carried along a trajectory, ``dF_t E_t = E_{t+1} R_t`` (the paper, section 4).

    Parameters
    ----------
    flow : Flow
        The generating process.
    trajectory : Trajectory
        Stored states with n rows.
    start : Tensor of shape (D, k) or (n, D, k)
        Orthonormal columns ``E_0``.

    Returns
    -------
    E : Tensor of shape (n_steps + 1, n, D, k)
        Orthonormal columns at every state.
    R : Tensor of shape (n_steps, n, k, k)
        Upper triangular with a positive diagonal.
    """
    n, D = trajectory.states[0].shape
    frames, factors = [start.expand(n, D, start.shape[-1])], []
    for i in range(flow.n_steps):
        E = frames[-1].permute(2, 0, 1).contiguous()
        with guarded(flow.field):
            E = flow.derivative.push(flow.step(i), trajectory.states[i], E)
        Q, R = _qr(E)
        frames.append(Q)
        factors.append(R)
    return torch.stack(frames), torch.stack(factors)
