"""What small errors do to a generating process, to first order: the paper's sections 3 and 4.

The process ``x_{t+1} = F_t(x_t)``, plus frozen noise, is perturbed to ``F_t(x) + eps chi_t(x)``;
everything here is a derivative at ``eps = 0``, along given trajectories and exact for the discrete
process. Steps are counted as the paper does, t = 0, 1, ..., from noise to data. ``chi_t`` is always
a function of the point *before* the step; `map_error`, `field_error` and `score_error` say what the
error is added to. docs/response.md has the formulas and what is amended in them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from alignlearn.derivatives import jacobian, push_forward, volume_derivatives
from alignlearn.flow import Flow, Trajectory
from alignlearn.guards import guarded
from alignlearn.schedules import Schedule
from alignlearn.solvers import Field
from alignlearn.tangent import qr_frames, random_frame

# Step index -> row-wise map ``chi_t``, as `Flow.step`.
Perturbation = Callable[[int], Callable[[Tensor], Tensor]]
Response = TypeVar("Response", bound=Callable)


def _guarded(response: Response) -> Response:
    """A function of a flow, with the networks of its field as `guarded` has them."""

    @functools.wraps(response)
    def within_guard(flow: Flow, *args: Any, **options: Any) -> Any:
        with guarded(flow.field):
            return response(flow, *args, **options)

    return within_guard  # type: ignore[return-value]


def map_error(flow: Flow, error: Field) -> Perturbation:
    """Error added to the map: ``F_t(x) + eps error(x, t)``.

    Parameters
    ----------
    flow : Flow
        The generating process.
    error : callable (x (n, D), t) -> (n, D)
        Differentiable; t is the time of x on the flow's grid.

    Returns
    -------
    chi : callable (step index) -> callable (x (n, D)) -> (n, D)
    """
    return lambda i: lambda x: error(x, flow.times[i])


def field_error(flow: Flow, error: Field) -> Perturbation:
    """Error added to the field that the solver takes, a velocity or a denoiser.

    ``chi_t(x)`` is the derivative of one solver step with the field ``field + eps error``.

    Parameters
    ----------
    flow, error
        See `map_error`.

    Returns
    -------
    chi : callable (step index) -> callable (x (n, D)) -> (n, D)
    """

    def chi(i: int) -> Callable[[Tensor], Tensor]:
        t, s = flow.times[i], flow.times[i + 1]

        def derivative(x: Tensor) -> Tensor:
            def step(eps: Tensor) -> Tensor:
                def perturbed(x: Tensor, t: Tensor) -> Tensor:
                    return flow.field(x, t) + eps * error(x, t)

                return flow.solver(perturbed, x, t, s)

            eps = torch.zeros_like(x[:, :1])
            return push_forward(step, eps, torch.ones_like(eps)[None])[0]

        return derivative

    return chi


def score_error(flow: Flow, error: Field, schedule: Schedule) -> Perturbation:
    """Error added to the score of the noised data, ``grad log p_t + eps error(x, t)``.

    As an error of the denoiser it is ``sigma^2 / alpha error``, of the velocity ``-g^2 / 2 error``.

    Parameters
    ----------
    flow, error
        See `map_error`.
    schedule : Schedule
        Of the flow's coordinates.

    Returns
    -------
    chi : callable (step index) -> callable (x (n, D)) -> (n, D)
    """

    def scaled(x: Tensor, t: Tensor) -> Tensor:
        if flow.solver.takes_velocity:
            factor = -schedule.diffusion(t) / 2
        else:
            factor = schedule.sigma(t) ** 2 / schedule.alpha(t)
        return factor.to(x) * error(x, t)

    return field_error(flow, scaled)


@_guarded
def path_response(flow: Flow, trajectory: Trajectory, chi: Perturbation) -> Tensor:
    """First-order displacement of a path from a fixed start, with its noise frozen: eq. (13)-(17).

    ``zeta_{t+1} = dF_t(x_t) zeta_t + chi_t(x_t)``, ``zeta_0 = 0``: the inhomogeneous tangent
    equation. (The paper writes the last term as a function of ``x_{t+1}`` here.)

    Parameters
    ----------
    flow : Flow
        The generating process.
    trajectory : Trajectory
        Stored states with n rows.
    chi : callable
        See `map_error`, `field_error` and `score_error`.

    Returns
    -------
    zeta : Tensor of shape (n_steps + 1, n, D)
    """
    zeta = [torch.zeros_like(trajectory.states[0])]
    for i in range(flow.n_steps):
        x = trajectory.states[i]
        zeta.append(flow.derivative.push(flow.step(i), x, zeta[-1][None])[0] + chi(i)(x))
    return torch.stack(zeta)


@_guarded
def observable_response(
    flow: Flow, trajectory: Trajectory, chi: Perturbation, gradient: Tensor
) -> Tensor:
    """What the error of each step does to an observable at the end of each path: eq. (1), (15).

    ``grad(f o F_{N-1} o ... o F_{t+1})(x_{t+1}) . chi_t(x_t)``, by one adjoint pass. The sum over
    steps is ``grad f . zeta_N``; its mean over paths that start in the source, with noise of their
    own, is the derivative of the expectation of f over what is generated.

    Parameters
    ----------
    flow, trajectory, chi
        See `path_response`.
    gradient : Tensor of shape (n, D)
        ``grad f`` at the end points.

    Returns
    -------
    Tensor of shape (n_steps, n)
    """
    parts = []
    for i in reversed(range(flow.n_steps)):
        x = trajectory.states[i]
        parts.append((gradient * chi(i)(x)).sum(-1))
        gradient = flow.derivative.pull(flow.step(i), x, gradient[None])[0]
    return torch.stack(parts[::-1])


@_guarded
def density_response(
    flow: Flow, trajectory: Trajectory, scores: Tensor, chi: Perturbation
) -> Tensor:
    """What the error of each step does to the log density at the end point: eq. (2), amended.

    ``-(div X_t + X_t . s_{t+1})(x_{t+1})`` with ``X_t = chi_t o F_t^-1``, the error as a field of
    the points where it arrives, and ``s_{t+1}`` the score *there*. The sum over steps is the
    derivative of ``log rho_N(x_N)`` with respect to eps at the fixed point ``x_N``.

    Parameters
    ----------
    flow, trajectory
        See `path_response`.
    scores : Tensor of shape (n_steps + 1, n, D)
        Score of the density that the flow has at each state; see `path_scores`.
    chi : callable
        See `map_error`, `field_error` and `score_error`.

    Returns
    -------
    Tensor of shape (n_steps, n)
    """
    parts = []
    for i in range(flow.n_steps):
        x, error = trajectory.states[i], chi(i)
        # div X_t(x_{t+1}) = tr(dchi_t dF_t^-1)(x_t)
        A = torch.linalg.solve(jacobian(flow.step(i), x), jacobian(error, x), left=False)
        divergence = A.diagonal(dim1=-2, dim2=-1).sum(-1)
        parts.append(-divergence - (error(x) * scores[i + 1]).sum(-1))
    return torch.stack(parts)


@_guarded
def path_scores(flow: Flow, trajectory: Trajectory, score: Tensor) -> Tensor:
    """Scores of the densities that the flow makes of its source, along an orbit: before eq. (3).

    ``s_{t+1}(x_{t+1}) = (s_t - w_t)(x_t) dF_t^-1`` with ``w_t = grad log |det dF_t|``. With frozen
    noise these are the pathwise scores ``s^Xi``, not those of the noised data (appendix B).

    Parameters
    ----------
    flow, trajectory
        See `path_response`.
    score : Tensor of shape (n, D)
        Score of the source at the first states.

    Returns
    -------
    Tensor of shape (n_steps + 1, n, D)

    Raises
    ------
    ValueError
        If D is beyond 128, see `alignlearn.derivatives.volume_derivatives`.
    """
    scores = [score]
    for i in range(flow.n_steps):
        J, w = volume_derivatives(flow.step(i), trajectory.states[i])
        scores.append(torch.linalg.solve(J.mT, scores[-1] - w))
    return torch.stack(scores)


@_guarded
def frame_scores(flow: Flow, trajectory: Trajectory, score: Tensor, start: Tensor) -> Tensor:
    """Components of the scores along a frame that the flow carries: eq. (3)-(4).

    ``p_{t+1} = (p_t - w_t E_t) R_t^-1`` with ``dF_t E_t = E_{t+1} R_t``. Alignment in the paper's
    sense is that the last of them vanish.

    Parameters
    ----------
    flow, trajectory, score
        See `path_scores`.
    start : Tensor of shape (D, d) or (n, D, d)
        Orthonormal columns ``E_0``.

    Returns
    -------
    Tensor of shape (n_steps + 1, n, d)

    Raises
    ------
    ValueError
        If D is beyond 128, see `alignlearn.derivatives.volume_derivatives`.
    """
    E, R = qr_frames(flow, trajectory, start)
    p = [_along(score, E[0])]
    for i in range(flow.n_steps):
        _, w = volume_derivatives(flow.step(i), trajectory.states[i])
        pulled = p[-1] - _along(w, E[i])
        p.append(torch.linalg.solve_triangular(R[i], pulled[:, None], upper=True, left=False)[:, 0])
    return torch.stack(p)


def _along(v: Tensor, E: Tensor) -> Tensor:
    """Components ``v E`` (n, d) of row vectors v (n, D)."""
    return torch.einsum("ni,nij->nj", v, E)


class AlignmentDiagnostics(NamedTuple):
    """The quantities in the conditions of Theorem 4.3, per step and point: not judged.

    All are of the step map ``F_t = Id + dt v_t``, thus contain the paper's ``dt``, in the frame
    ``E_t`` that it carries and its complement ``E_t'``. Norms are spectral, of `second` Frobenius;
    the paper takes the supremum over points.

    Attributes
    ----------
    alpha : Tensor of shape (n_steps, n)
        Largest stretch inside the frame, ``|R_t|``: condition (i).
    alpha_min : Tensor of shape (n_steps, n)
        Smallest, ``1 / |R_t^-1|``: what the proof needs where it writes ``1 / alpha_t``.
    beta : Tensor of shape (n_steps, n)
        ``|dF_t E_t'|``, largest stretch across the frame.
    cross_tangent : Tensor of shape (n_steps, n)
        ``|E_t^T dF_t E_t'|``: normal displacements that become tangent ones, condition (iii).
    cross_normal : Tensor of shape (n_steps, n)
        ``|E_t'^T dF_t E_t|``: the reverse, condition (iii).
    second : Tensor of shape (n_steps, n)
        ``|(E_t^T dF_t E_t)^-1 E_t^T d^2 F_t [E_t, E_t]|``: condition (ii).
    volume : Tensor of shape (n_steps, n)
        ``|w_t E_t|``, which (ii) and (iii) are to bound; exact.
    """

    alpha: Tensor
    alpha_min: Tensor
    beta: Tensor
    cross_tangent: Tensor
    cross_normal: Tensor
    second: Tensor
    volume: Tensor


@_guarded
def alignment_diagnostics(
    flow: Flow,
    trajectory: Trajectory,
    n_components: int,
    *,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> AlignmentDiagnostics:
    """Theorem 4.3's stretch factors, cross and second derivatives at every step.

    Parameters
    ----------
    flow : Flow
        The generating process.
    trajectory : Trajectory
        Stored states with n rows.
    n_components : int
        Dimension d of the frame, at least 1 and below D.
    start : Tensor of shape (D, d) or (n, D, d), optional
        Orthonormal columns ``E_0``; default random ones, as in the paper.
    generator : torch.Generator, optional
        On the CPU, for the random start.

    Returns
    -------
    AlignmentDiagnostics

    Raises
    ------
    ValueError
        If `n_components` is not between 1 and D - 1, or D is beyond 128.
    """
    x_0 = trajectory.states[0]
    D, d = x_0.shape[1], n_components
    if not 1 <= d < D:
        raise ValueError(f"n_components must be between 1 and D - 1 = {D - 1}, got {d}.")
    frames, factors = qr_frames(
        flow, trajectory, random_frame(x_0, d, generator) if start is None else start
    )
    rows = []
    for i in range(flow.n_steps):
        rows.append(_diagnose(flow.step(i), trajectory.states[i], frames[i], factors[i]))
    return AlignmentDiagnostics(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _diagnose(
    step: Callable[[Tensor], Tensor], x: Tensor, E: Tensor, R: Tensor
) -> AlignmentDiagnostics:
    """One step at rows x (n, D), with its frame E (n, D, d) and factor R (n, d, d)."""
    d = E.shape[-1]
    normal = torch.linalg.qr(E, mode="complete").Q[..., d:]
    J, w = volume_derivatives(step, x)
    columns = E.permute(2, 0, 1).contiguous()
    second = push_forward(lambda z: push_forward(step, z, columns), x, columns)  # (d, d, n, D)
    tangential = torch.einsum("nji,abnj->niab", E, second).flatten(2)  # (n, d, d d)
    stretch = torch.linalg.svdvals(R)
    return AlignmentDiagnostics(
        stretch[:, 0],
        stretch[:, -1],
        _norm(J @ normal),
        _norm(E.mT @ J @ normal),
        _norm(normal.mT @ J @ E),
        torch.linalg.solve(E.mT @ J @ E, tangential).norm(dim=(1, 2)),
        _along(w, E).norm(dim=1),
    )


def _norm(A: Tensor) -> Tensor:
    """Spectral norms (n,) of matrices (n, i, j)."""
    return torch.linalg.matrix_norm(A, 2)
