"""What must hold while a network is evaluated or differentiated, as contexts that put all back.

Flags of PyTorch are process-wide and modes of a module are shared by all threads that use it:
the first thread inside changes them, the last one out restores them, also after exceptions.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# Objects between a callable and the networks that it calls; longer lists are data.
_MAX_DEPTH, _MAX_LENGTH = 8, 256

# A row may differ so much, in units of the largest output, when its batch changes.
_ROW_TOLERANCE = 1e-3

# Names under which networks keep whether activations are computed twice instead of stored.
_CHECKPOINTING = ("gradient_checkpointing", "use_checkpoint")

_LOCK = threading.RLock()
_INSIDE: dict[Hashable, tuple[int, ExitStack]] = {}


@contextmanager
def _shared(key: Hashable, change: Callable[[ExitStack], None]) -> Iterator[None]:
    """`change` fills an exit stack for the first who enters; the last who leaves unwinds it."""
    with _LOCK:
        if key not in _INSIDE:
            with ExitStack() as stack:
                change(stack)
                _INSIDE[key] = 0, stack.pop_all()
        count, stack = _INSIDE[key]
        _INSIDE[key] = count + 1, stack
    try:
        yield
    finally:
        with _LOCK:
            count, stack = _INSIDE.pop(key)
            if count > 1:
                _INSIDE[key] = count - 1, stack
            else:
                stack.close()


def _set(stack: ExitStack, thing: Any, name: str, value: Any) -> None:
    """Set an attribute until the stack unwinds."""
    before = getattr(thing, name)
    if before != value:
        stack.callback(setattr, thing, name, before)
        setattr(thing, name, value)


def _plain_precision(stack: ExitStack) -> None:
    """float32 products in float32: TF32 and bfloat16 leave three digits of a tangent."""
    backends = torch.backends
    for backend in (
        backends.cuda.matmul,
        getattr(backends.cudnn, "conv", None),
        getattr(backends.cudnn, "rnn", None),
        getattr(backends.mkldnn, "matmul", None),
        getattr(backends.mkldnn, "conv", None),
    ):
        if hasattr(backend, "fp32_precision"):  # from torch 2.9
            _set(stack, backend, "fp32_precision", "ieee")
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        _set(stack, backends.cuda.matmul, "allow_tf32", False)
        _set(stack, backends.cudnn, "allow_tf32", False)


def _differentiable_attention(stack: ExitStack) -> None:
    """Attention as products and softmax: the fused kernels have no forward rule."""
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    fast = torch.backends.mha.get_fastpath_enabled()
    stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
    torch.backends.mha.set_fastpath_enabled(False)


def _flags(stack: ExitStack) -> None:
    _plain_precision(stack)
    _differentiable_attention(stack)


def _contiguous(module: nn.Module, inputs: tuple) -> tuple:
    """Forward pre-hook: the tangent rule of `GroupNorm` fails on channels-last input."""
    return tuple(x.contiguous() if isinstance(x, Tensor) else x for x in inputs)


def _network(network: nn.Module, stack: ExitStack) -> None:
    """Evaluation mode, contiguous inputs, no checkpoints; modules that mix rows are refused."""
    _refuse_batch_norm(network)
    for module in network.modules():
        if module.training:
            _set(stack, module, "training", False)
        for name in _CHECKPOINTING:
            if getattr(module, name, False) is True:
                _set(stack, module, name, False)
        if isinstance(module, nn.GroupNorm | nn.modules.conv._ConvNd):
            stack.callback(module.register_forward_pre_hook(_contiguous).remove)


@contextmanager
def guarded(field: Callable) -> Iterator[None]:
    """Within the block, networks called by a field can be differentiated, and exactly.

    - ``scaled_dot_product_attention`` takes the MATH backend, ``MultiheadAttention`` no fast path;
    - products of float32 are float32: no TF32;
    - networks are in evaluation mode (no dropout) and without gradient checkpointing;
    - ``GroupNorm`` and convolutions get contiguous input.

    All is put back at the end. Blocks may be nested, and entered by several threads.

    Parameters
    ----------
    field : callable
        Whatever calls the networks, see `networks_of`.

    Yields
    ------
    None

    Raises
    ------
    ValueError
        If a network has batch normalisation in training mode, which mixes rows.
    """
    with ExitStack() as stack:
        stack.enter_context(_shared("flags", _flags))
        for network in networks_of(field):
            change = functools.partial(_network, network)
            stack.enter_context(_shared(id(network), change))
        yield


def networks_of(field: Callable) -> list[nn.Module]:
    """Modules that a callable calls, as far as it can be looked into.

    Through closures, global names, bound methods, partial functions and attributes of objects.

    Parameters
    ----------
    field : callable
        A module, a function, a method, any object.

    Returns
    -------
    list of torch.nn.Module
        The outermost ones, each once.
    """
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()
    level: list[Any] = [field]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for thing in level:
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, nn.Module):
                found[id(thing)] = thing
            else:
                inner += _parts(thing)
        level = inner
    return list(found.values())


def _parts(thing: Any) -> list[Any]:
    """Objects that a callable or container holds and may call."""
    if isinstance(thing, FunctionType):
        cells = [c.cell_contents for c in thing.__closure__ or () if _is_filled(c)]
        names = thing.__code__.co_names
        used = [thing.__globals__[n] for n in names if n in thing.__globals__]
        # Of global names only what holds networks, not modules and classes.
        return cells + [x for x in used if isinstance(x, nn.Module | FunctionType | MethodType)]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, list | tuple | dict):
        values = thing.values() if isinstance(thing, dict) else thing
        return list(values) if len(thing) <= _MAX_LENGTH else []
    if isinstance(thing, type | Tensor) or type(thing).__module__ in ("builtins", "numpy"):
        return []
    return list(getattr(thing, "__dict__", {}).values())


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _refuse_batch_norm(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        if module.training or module.running_mean is None:
            raise ValueError(
                f"expected a network that treats rows independently, got {type(module).__name__} "
                f"`{name}` with the statistics of the batch: its tangent map is not one of rows. "
                "Call network.eval() if it was trained with running statistics, or use GroupNorm."
            )


def check_rows(step: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Refuse a map that mixes rows, by its modules and by what it does.

    Parameters
    ----------
    step : callable (n, D) -> (n, D)
        The map.
    x : Tensor of shape (n, D)
        Typical rows, at least one.

    Raises
    ------
    ValueError
        If it has batch normalisation in training mode, if a row alone has another image than the
        row beside others, or if the image is not finite or not of the shape of x.
    """
    for network in networks_of(step):
        _refuse_batch_norm(network)
    # Two rows, and the same two beside others: batch normalisation fails at a row alone.
    rows = torch.cat([x[:1], 1 - x[:1], 2 * x[:1] + 1])
    with guarded(step), torch.no_grad():
        batch, few = step(rows), step(rows[:2])
    if batch.shape != rows.shape:
        raise ValueError(
            f"expected a map of rows of shape {tuple(rows.shape)} to rows of the same shape, got "
            f"{tuple(batch.shape)}."
        )
    if not torch.isfinite(batch).all():
        raise ValueError("expected finite outputs of the network at typical rows, got inf or NaN.")
    apart, size = float((batch[:2] - few).abs().max()), float(batch.abs().max())
    if apart > _ROW_TOLERANCE * size:
        raise ValueError(
            "expected a network that treats rows independently, got one whose output at a row "
            f"changes by {apart / size:.2g} of its size with the other rows of the batch: batch "
            "normalisation, or a mean over the batch, has no tangent map of rows."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory does not suffice, on a device or on the host.

    Parameters
    ----------
    error : BaseException
        What was raised.

    Returns
    -------
    bool
    """
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )
