"""Perturbed generation: samples of a model with an error in its process, beside those without.

"A perturbation of L-infinity size 0.5" (appendices G.4 and G.5 of the paper) leaves open what is
perturbed and how. Here each choice is an object of `alignlearn.perturbations`, and the result names
all of them:

- the error field: `ConstantError`, `RandomSignError` or `FieldError`, of a size that bounds every
  coordinate, drawn once or at every step;
- where it is added: `OnScore`, `OnVelocity` or `OnMap`.

Errors are in the coordinates of the flow, in which a fitted model's data have unit variance. How
far samples moved is for `alignlearn.support_shift` to say.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from alignlearn._arrays import halved, make_generator, row_chunks
from alignlearn.flow import Flow
from alignlearn.guards import guarded
from alignlearn.manifold import LyapunovManifold
from alignlearn.models.base import GenerativeModel
from alignlearn.perturbations import Place, perturb
from alignlearn.solvers import Solver, StochasticSolver


class PerturbedSamples(NamedTuple):
    """Samples without and with an error, from the same source points and frozen noise.

    Attributes
    ----------
    unperturbed, perturbed : ndarray of shape (n_samples, n_features)
        In the units of the data; of the flow, if a flow was given.
    source : ndarray of shape (n_samples, n_features)
        Where both started, in the coordinates of the flow.
    conditions : dict
        Every choice by name: error, place, solver, schedule, steps, times, unit of the error.
    """

    unperturbed: np.ndarray
    perturbed: np.ndarray
    source: np.ndarray
    conditions: dict


def perturbed_generation(
    model,
    error,
    on: Place | None = None,
    *,
    n_samples: int = 1000,
    solver: Solver | None = None,
    n_steps: int = 36,
    source=None,
    random_state=None,
) -> PerturbedSamples:
    """Generate samples twice, with an error in every step and without.

    Samples are where the flow ends, without the last denoising of `GenerativeModel.sample`, which
    would take back part of what an error did.

    Parameters
    ----------
    model : GenerativeModel, LyapunovManifold or Flow
        A fitted model; or a flow, for which `source` has to be given.
    error : ErrorField or callable ``(x, t) -> (n, D)``
        What is added, see `ConstantError`, `RandomSignError`, `FieldError`.
    on : Place, optional
        Default ``OnVelocity()`` for a solver that takes a velocity, else ``OnScore()``: what it
        is added to, see `OnScore`, `OnVelocity`, `OnMap`.
    n_samples : int, default=1000
        Number of samples.
    solver : Solver, optional
        Generating process of a model, default that of ``model.flow()``.
    n_steps : int, default=36
        Its steps.
    source : array-like of shape (n_samples, n_features), optional
        Points to start from, in the coordinates of the flow. Default: drawn from the model's law.
    random_state : int, RandomState instance or None, default=None
        Draws the source, the frozen noise and the signs of the error.

    Returns
    -------
    PerturbedSamples

    Raises
    ------
    TypeError
        If an argument is not one of the above.
    ValueError
        If the error field has another shape than its points, or a value is not finite.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    FloatingPointError
        If a perturbed sample is not finite.

    Examples
    --------
    >>> from alignlearn.datasets import make_sphere
    >>> from alignlearn.models import KernelDiffusion
    >>> from alignlearn.perturbations import RandomSignError
    >>> from alignlearn.robustness import perturbed_generation
    >>> model = KernelDiffusion().fit(make_sphere(200, 1, random_state=0).points)
    >>> found = perturbed_generation(model, RandomSignError(0.5), n_samples=50, random_state=0)
    >>> found.perturbed.shape, found.conditions["error"]
    ((50, 2), 'RandomSignError(size=0.5, per_step=False)')
    """
    if isinstance(model, LyapunovManifold):
        check_is_fitted(model)
        model = model.model_
    generator = make_generator(random_state)
    error_seed = int(torch.randint(2**31 - 1, (), generator=generator))
    flow, z, decode = _start(model, solver, n_steps, n_samples, source, generator)
    perturbed = perturb(flow, error, on, n_features=z.shape[1], random_state=error_seed)
    ends: list[tuple[np.ndarray, np.ndarray]] = []
    bytes_per_row = 64 * z.shape[1] * (flow.n_steps + 1)
    if isinstance(model, GenerativeModel):
        bytes_per_row += model._bytes_per_column()
    with guarded(flow.field), torch.no_grad():
        for chunk in row_chunks(len(z), bytes_per_row):
            noise = None
            if isinstance(flow.solver, StochasticSolver):
                shape = (flow.n_steps, *z[chunk].shape)
                noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            ends += _ends((flow, perturbed), z[chunk], noise, decode)
    conditions = {
        "error": repr(error),
        "on": repr(perturbed.place),
        "solver": repr(flow.solver),
        "n_steps": flow.n_steps,
        "times": (float(flow.times[0]), float(flow.times[-1])),
        "unit": "coordinates of the flow",
        "n_samples": len(z),
    }
    plain, moved = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    return PerturbedSamples(plain, moved, z.double().cpu().numpy(), conditions)


def _start(model, solver, n_steps, n_samples, source, generator):
    """Flow, source points and the way back to the units of the data."""
    if isinstance(model, Flow):
        if source is None or solver is not None:
            raise ValueError("a Flow has its solver and no source: pass source=, and no solver=.")
        return model, _as_points(source, torch.float64, None), lambda x: x.double().cpu().numpy()
    if not isinstance(model, GenerativeModel):
        raise TypeError(
            "model must be a fitted model of alignlearn.models, a LyapunovManifold or a Flow, got "
            f"{type(model).__name__}."
        )
    check_is_fitted(model)
    if not n_samples >= 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
    flow = model.flow(solver=solver, n_steps=n_steps)
    z = model._draw_source(flow, n_samples, generator)
    if source is not None:
        z = _as_points(source, z.dtype, model.n_features_in_).to(z)
    # A flow in the coordinates x = alpha y of a schedule ends there.
    alpha = float(model._schedule_of(flow.solver).alpha(flow.times[-1]))
    return flow, z, lambda x: model.decode(x / alpha)


def _as_points(source, dtype: torch.dtype, n_features: int | None) -> Tensor:
    z = torch.as_tensor(np.asarray(source, dtype=np.float64)).to(dtype)
    if z.ndim != 2 or (n_features is not None and z.shape[1] != n_features) or 0 in z.shape:
        raise ValueError(
            f"expected source of shape (n_samples, {n_features or 'n_features'}), got "
            f"{tuple(z.shape)}."
        )
    if not torch.isfinite(z).all():
        raise ValueError("expected a finite source, got NaN or infinity.")
    return z


def _ends(flows, z: Tensor, noise: Tensor | None, decode) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where two flows carry rows z with their noise, at once or in parts."""

    def ends(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        own = None if noise is None else noise[:, rows].to(z)
        plain, moved = (decode(_end(flow, z[rows], own)) for flow in flows)
        return plain, moved

    return halved(ends, slice(0, len(z)))


def _end(flow: Flow, z: Tensor, noise: Tensor | None) -> Tensor:
    x = flow.push(z, noise)
    if not torch.isfinite(x).all():
        raise FloatingPointError(
            f"{int((~torch.isfinite(x)).any(1).sum())} of {len(x)} samples are not finite: the "
            "error carries them away; make it smaller or n_steps larger."
        )
    return x
