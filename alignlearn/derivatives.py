"""Derivatives of row-wise maps: what moves tangent columns. The only file with `torch.func`.

A *lift* is a callable ``(step, x (n, D), E (k, n, D)) -> (k, n, D)`` that applies the tangent map
``dF(x)`` of a step, or its adjoint, to k columns; a `Derivative` is one of each. Forward and
reverse mode are the default and need every operation of a network to have their rules.
`probe_derivative` tries them once at a network and goes down a ladder where it does not: columns
one by one, reverse mode twice, central differences.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from alignlearn.guards import check_rows, guarded, is_out_of_memory, networks_of

Step = Callable[[Tensor], Tensor]
Lift = Callable[[Step, Tensor, Tensor], Tensor]

# Forward-mode AD keeps its level in process-wide state: eight threads that call jvp at once raise.
_FORWARD_AD_LOCK = threading.RLock()

# Up to this many features all D columns are carried: exact, and no iteration is needed.
ALL_COLUMNS = 128

# Columns of a convolutional network that are pushed in one pass: more gain nothing and need memory.
_COLUMNS_AT_ONCE = 8

# Share of a derivative by which a probe may differ from the central difference.
_PROBE_TOLERANCE = 0.02


def push_forward(step: Step, x: Tensor, E: Tensor) -> Tensor:
    """Tangent map ``dF(x) E`` of a row-wise map, all columns in one pass sharing the primal.

    Parameters
    ----------
    step : callable (n, D) -> (n, D)
        A map that treats rows independently.
    x : Tensor of shape (n, D)
    E : Tensor of shape (k, n, D)
        Tangent vectors, the *first* axis counts columns (contiguous rows for the matrix products).

    Returns
    -------
    Tensor of shape (k, n, D)
    """
    return ForwardMode()(step, x, E)


def pull_back(step: Step, x: Tensor, E: Tensor) -> Tensor:
    """Adjoint map ``dF(x)^T E`` of a row-wise map.

    Parameters
    ----------
    step, x, E
        See `push_forward`.

    Returns
    -------
    Tensor of shape (k, n, D)
    """
    return ReverseMode()(step, x, E)


@dataclass(frozen=True)
class ForwardMode:
    """``dF E`` by forward mode, `n_at_once` columns sharing one pass.

    Parameters
    ----------
    n_at_once : int, optional
        Columns in a pass of `vmap`; None is all of them, 1 does without `vmap`.
    """

    n_at_once: int | None = None

    def __call__(self, step: Step, x: Tensor, E: Tensor) -> Tensor:
        """See `push_forward`."""

        def tangent(e: Tensor) -> Tensor:
            return torch.func.jvp(step, (x,), (e,))[1]

        with _FORWARD_AD_LOCK, torch.no_grad():
            if self.n_at_once == 1:
                return torch.stack([tangent(e) for e in E])
            return torch.func.vmap(tangent, chunk_size=self.n_at_once)(E)


@dataclass(frozen=True)
class ReverseMode:
    """``dF^T E`` by reverse mode through one graph, `n_at_once` columns in a pass.

    Parameters
    ----------
    n_at_once : int, optional
        Columns in a pass of `vmap`; None is all of them, 1 does without `vmap`: memory does not
        grow with their number, and a convolutional network is not slower.
    """

    n_at_once: int | None = None

    def __call__(self, step: Step, x: Tensor, E: Tensor) -> Tensor:
        """See `pull_back`."""
        if self.n_at_once == 1:
            return _one_by_one(*_graph(step, x), E)
        vjp = torch.func.vjp(step, x)[1]
        with torch.no_grad():
            return torch.func.vmap(lambda e: vjp(e)[0], chunk_size=self.n_at_once)(E)


@dataclass(frozen=True)
class DoubleBackward:
    """``dF E`` by reverse mode twice: ``dF^T u`` is linear in u, and its adjoint is dF.

    For operations that have a second derivative but no forward rule.
    """

    def __call__(self, step: Step, x: Tensor, E: Tensor) -> Tensor:
        """See `push_forward`."""
        x, y = _graph(step, x)
        with torch.enable_grad():
            u = torch.zeros_like(y, requires_grad=True)
            (g,) = torch.autograd.grad(y, x, u, create_graph=True)
        return _one_by_one(u, g, E)


@dataclass(frozen=True)
class CentralDifference:
    """``dF E`` as ``(F(x + h e) - F(x - h e)) / 2h``: for any map, and never exact.

    Parameters
    ----------
    length : float, optional
        Length of ``h e`` for rows x of unit root mean square and smaller ones; it grows with larger
        ones. Default the cube root of the precision of x, where rounding and truncation balance for
        a map of unit curvature.
    """

    length: float | None = None

    def __call__(self, step: Step, x: Tensor, E: Tensor) -> Tensor:
        """See `push_forward`."""
        length = torch.finfo(x.dtype).eps ** (1 / 3) if self.length is None else self.length
        scale = length * x.square().mean(-1, keepdim=True).sqrt().clamp_min(1.0)  # (n, 1)
        columns = []
        with torch.no_grad():
            for e in E:
                size = e.norm(dim=-1, keepdim=True)
                h = scale / size.clamp_min(torch.finfo(x.dtype).tiny)
                difference = step(x + h * e) - step(x - h * e)
                columns.append(torch.where(size > 0, difference / (2 * h), 0.0))
        return torch.stack(columns)


@dataclass(frozen=True)
class DifferenceAdjoint:
    """``dF^T E`` from central differences along all D axes, one after the other.

    ``(dF^T e)_j = (dF e_j) . e``: no Jacobian is stored, but ``2 D`` evaluations are made whatever
    the number of columns.

    Parameters
    ----------
    push : CentralDifference
        How the axes are pushed.
    """

    push: CentralDifference = CentralDifference()

    def __call__(self, step: Step, x: Tensor, E: Tensor) -> Tensor:
        """See `pull_back`."""
        out = torch.empty_like(E)
        for j in range(x.shape[1]):
            axis = torch.zeros_like(x)
            axis[:, j] = 1
            out[..., j] = (E * self.push(step, x, axis[None])).sum(-1)
        return out


class Derivative(NamedTuple):
    """How a row-wise map is differentiated.

    Attributes
    ----------
    push : callable (step, x, E) -> Tensor
        The tangent map, see `push_forward`.
    pull : callable (step, x, E) -> Tensor
        Its adjoint, see `pull_back`.
    """

    push: Lift
    pull: Lift

    def __str__(self) -> str:
        return f"{self.push} and {self.pull}"


AUTOMATIC = Derivative(ForwardMode(), ReverseMode())
CONVOLUTIONAL = Derivative(ForwardMode(_COLUMNS_AT_ONCE), ReverseMode(1))


def preferred_derivative(field: Callable) -> Derivative:
    """The fastest derivative of a field whose operations all have their rules.

    All columns in one pass, unless a network of it has convolutions: their columns do not become
    rows of one matrix product, and one column fills a cache. `docs/real_networks.md` has numbers.

    Parameters
    ----------
    field : callable
        Whatever calls the networks: a module, a function, a method.

    Returns
    -------
    Derivative
    """
    # The class has no public name: all convolutions, of any number of axes, derive from it.
    convolution = nn.modules.conv._ConvNd
    modules = (module for network in networks_of(field) for module in network.modules())
    return CONVOLUTIONAL if any(isinstance(m, convolution) for m in modules) else AUTOMATIC


def probe_derivative(step: Step, x: Tensor, *, first: Derivative | None = None) -> Derivative:
    """The first derivative of a ladder that is right at a map, by a central difference.

    Pushed forward: by forward mode (many columns at once, then one by one), by reverse mode twice,
    by central differences. Pulled back: by reverse mode (at once, one by one), by central
    differences along all axes. Each is tried at the rows of x along two directions, next to the
    difference quotient whose own error, from its value at twice the step, is smallest.

    Parameters
    ----------
    step : callable (n, D) -> (n, D)
        A map that treats rows independently, such as ``lambda y: denoise(y, s)``.
    x : Tensor of shape (n, D)
        A few typical rows, at least one.
    first : Derivative, optional
        Where the ladder starts; default `preferred_derivative`.

    Returns
    -------
    Derivative

    Raises
    ------
    ValueError
        If the map mixes rows, see `alignlearn.guards.check_rows`, or gives other shapes, infinity
        or NaN.

    Warns
    -----
    RuntimeWarning
        If it is not the first one: which one, and what was wrong with those before.

    Examples
    --------
    >>> import torch
    >>> from alignlearn.derivatives import AUTOMATIC, probe_derivative
    >>> probe_derivative(torch.sin, torch.ones(2, 3)) == AUTOMATIC
    True
    """
    first = preferred_derivative(step) if first is None else first
    with guarded(step):
        check_rows(step, x)
        generator = torch.Generator().manual_seed(0)
        E = torch.randn((2, *x.shape), generator=generator, dtype=torch.float64).to(x)
        E = E / E.norm(dim=-1, keepdim=True)
        difference, expected, error = _best_difference(step, x, E)
        size = expected.norm()
        # Never more than half of the derivative: of a map this rough only differences are left.
        allowed = torch.minimum(_PROBE_TOLERANCE * size + 5 * error, size / 2)
        allowed = allowed + torch.finfo(x.dtype).eps ** (2 / 3) * E.norm()

        def push_is_off(push: Lift) -> float:
            return float((push(step, x, E) - expected).norm() / allowed)

        def pull_is_off(pull: Lift) -> float:  # dF^T u . e = u . dF e, with u along dF e
            u = expected / size.clamp_min(torch.finfo(x.dtype).tiny)
            return float(((pull(step, x, u) * E).sum() - size).abs() / allowed)

        pushes = (first.push, ForwardMode(1), DoubleBackward(), difference)
        pulls = (first.pull, ReverseMode(1), DifferenceAdjoint(difference))
        reasons: list[str] = []
        found = Derivative(
            _first_right(pushes, push_is_off, reasons), _first_right(pulls, pull_is_off, reasons)
        )
    if reasons:
        warnings.warn(
            f"derivatives of the network are taken by {found}, which is slower: "
            + "; ".join(reasons),
            RuntimeWarning,
            stacklevel=2,
        )
    return found


def _first_right(lifts: tuple, is_off: Callable[[Lift], float], reasons: list[str]) -> Lift:
    """The first lift that is off by at most 1, or the last one; `reasons` why not others."""
    for lift in dict.fromkeys(lifts[:-1]):
        try:
            with warnings.catch_warnings():  # torch's own must be no reason where they are errors
                warnings.simplefilter("ignore", DeprecationWarning)
                off = is_off(lift)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            reasons.append(f"{lift} failed ({type(error).__name__}: {reason})")
            continue
        if off <= 1:
            return lift
        reasons.append(f"{lift} is {off:.3g} times as far from a central difference as allowed")
    return lifts[-1]


def _best_difference(step: Step, x: Tensor, E: Tensor) -> tuple[CentralDifference, Tensor, Tensor]:
    """Central difference of the length that changes it least when doubled, and that change."""
    middle = torch.finfo(x.dtype).eps ** (1 / 3)
    tried = []
    for length in (4 * middle, middle, middle / 4):
        once, twice = (CentralDifference(h)(step, x, E) for h in (length, 2 * length))
        tried.append((CentralDifference(length), once, (once - twice).norm()))
    return min(tried, key=lambda found: float(found[2]))


def _graph(step: Step, x: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf at x and its image, with the graph between them."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return x, step(x)


def _one_by_one(x: Tensor, y: Tensor, E: Tensor) -> Tensor:
    """Gradients ``(dy/dx)^T e`` of one kept graph, (k, n, D)."""
    rows = [torch.autograd.grad(y, x, e, retain_graph=True)[0] for e in E]
    return torch.stack(rows)


def graph_bytes(step: Step, x: Tensor) -> int:
    """Memory that reverse mode keeps for one row of x, in bytes.

    Counted by hooks on what autograd saves: the difference between two rows and one, so that
    weights do not count.

    Parameters
    ----------
    step : callable (n, D) -> (n, D)
        A map that treats rows independently.
    x : Tensor of shape (n, D)
        At least one row.

    Returns
    -------
    int
    """

    def saved(rows: Tensor) -> int:
        sizes: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        # The graph is held until all is counted, so that no address comes twice.
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            held = _graph(step, rows)
        total = sum(sizes.values())
        del held
        return total

    with guarded(step):
        row = x[:1].clone()  # a slice keeps the storage of all rows
        return max(0, saved(torch.cat([row, row])) - saved(row))


def divergence(field: Step, x: Tensor, probes: Tensor, push: Lift = AUTOMATIC.push) -> Tensor:
    """Trace of the Jacobian of a row-wise map.

    ``D / k sum_i q_i . J q_i`` over orthonormal probes q, the same for every row: unbiased for
    random probes (Hutchinson 1990), exact for k = D.

    Parameters
    ----------
    field : callable (n, D) -> (n, D)
        A map that treats rows independently.
    x : Tensor of shape (n, D)
    probes : Tensor of shape (D, k)
        Orthonormal columns.
    push : callable (step, x, E) -> Tensor
        See `Derivative`; default forward mode.

    Returns
    -------
    Tensor of shape (n,), float64
    """
    D, k = probes.shape
    E = probes.T[:, None, :].expand(k, len(x), D)
    return (E * push(field, x, E)).double().sum((0, 2)) * (D / k)


def jacobian(step: Step, x: Tensor) -> Tensor:
    """Dense Jacobian of a row-wise map at each row.

    Parameters
    ----------
    step : callable (n, D) -> (n, D)
        A map that treats rows independently.
    x : Tensor of shape (n, D)

    Returns
    -------
    Tensor of shape (n, D, D)
    """
    n, D = x.shape
    identity = torch.eye(D, dtype=x.dtype, device=x.device)
    return push_forward(step, x, identity[:, None].expand(D, n, D)).permute(1, 2, 0)


def volume_derivatives(step: Step, x: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobian of a row-wise map and the gradient of its log volume change.

    ``w = grad log |det dF(x)| = tr(dF^-1 d^2 F)``, exact, by reverse mode over D forward ones.

    Parameters
    ----------
    step : callable (n, D) -> (n, D)
        A twice differentiable map that treats rows independently.
    x : Tensor of shape (n, D)

    Returns
    -------
    J : Tensor of shape (n, D, D)
        Dense Jacobian ``dF(x)`` at each row.
    w : Tensor of shape (n, D)

    Raises
    ------
    ValueError
        If D is beyond `ALL_COLUMNS`: the Jacobians are dense.
    """
    n, D = x.shape
    if D > ALL_COLUMNS:
        raise ValueError(
            f"expected at most {ALL_COLUMNS} features, got {D}: the gradient of a determinant "
            "needs dense Jacobians. Project the data to fewer features first."
        )
    identity = torch.eye(D, dtype=x.dtype, device=x.device)[:, None].expand(D, n, D)

    def log_det(x: Tensor) -> tuple[Tensor, Tensor]:
        J = torch.func.vmap(lambda e: torch.func.jvp(step, (x,), (e,))[1])(identity)
        J = J.permute(1, 2, 0)
        return torch.linalg.slogdet(J).logabsdet, J

    with _FORWARD_AD_LOCK:
        _, vjp, J = torch.func.vjp(log_det, x, has_aux=True)  # type: ignore[misc]
        return J.detach(), vjp(x.new_ones(n))[0].detach()
