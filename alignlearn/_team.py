"""The processes that train one model together, where the caller's launcher has connected them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class PeerError(RuntimeError):
    """Another process of the team has failed."""


class PeerInterrupt(KeyboardInterrupt):
    """Another process of the team was interrupted."""


class Team(NamedTuple):
    """Processes that do the same with the same data; each takes its share of every batch.

    Attributes
    ----------
    rank : int
        Number of this process.
    size : int
        Number of processes; 1 where nobody has initialised `torch.distributed`.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Team:
        """The default process group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def share(self, n: int) -> slice:
        """Rows that this process takes of n."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def weight(self, n: int) -> float:
        """Weight of a mean over this process' share in the mean over all n rows."""
        rows = self.share(n)
        return (rows.stop - rows.start) / n

    def first(self, function: Callable[[], T]) -> T:
        """What a function gives, or raises, in the first process: the same in all of them."""
        if self.size == 1:
            return function()
        outcome = [_attempt(function) if self.rank == 0 else None]
        dist.broadcast_object_list(outcome, src=0)
        result, error = outcome[0]  # type: ignore[misc]
        if error is not None:
            raise error
        return result

    def every(self, function: Callable[[], T]) -> T:
        """What a function gives in this process, if it raises in none.

        Raises
        ------
        PeerError
            If it raised in another process. The own exception is raised as it is.
        """
        if self.size == 1:
            return function()
        result, error = _attempt(function)
        for rank, other in enumerate(self._gather(error and f"{type(error).__name__}: {error}")):
            if error is not None:
                raise error
            if other is not None:
                raise PeerError(f"process {rank} of the {self.size} that fit together: {other}")
        return result

    def check_same(self, values: dict[str, str]) -> None:
        """Refuse values, by name, that are not the same in all processes.

        Raises
        ------
        ValueError
            In all of them, if they are not.
        """
        if self.size == 1:
            return
        first, *others = self._gather(values)
        for rank, other in enumerate(others, start=1):
            names = sorted(first.keys() | other.keys())
            found = ", ".join(
                f"{k} ({first.get(k)!s:.40} in process 0, {other.get(k)!s:.40} in {rank})"
                for k in names
                if first.get(k) != other.get(k)
            )
            if found:
                raise ValueError(
                    f"torch.distributed connects {self.size} processes, which then fit one model "
                    f"together, but they differ in {found}. Give all of them the same data and "
                    "parameters, with an integer random_state to whatever seeds the model; or fit "
                    "before init_process_group, for a model in each process."
                )

    def _gather(self, value) -> list:
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values


ALONE = Team()


class Exchange:
    """Sums over a team, of the gradients of parameters and of a number beside them.

    Every message has the same shape, whatever it is for. So a process that must leave can say so in
    the message that the others are waiting for, and nobody waits for ever: leave by the end of the
    ``with`` block, or by an exception from it.

    Parameters
    ----------
    team : Team
        Of one: nothing is sent, and sums are what is given.
    parameters : list of Tensor
        On one device.
    """

    def __init__(self, team: Team, parameters: list[Tensor]) -> None:
        self.team, self.parameters, self._broken = team, parameters, False
        if team.size > 1:
            sizes = [p.numel() for p in parameters]
            self._message = torch.zeros(sum(sizes) + 3, device=parameters[0].device)
            *parts, self._tail = self._message.split([*sizes, 3])
            self._parts = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]

    def __call__(self, value, *, gradients: bool = False):
        """Sum over the team of a number, and of the parameters' gradients in place.

        Raises
        ------
        PeerError, PeerInterrupt
            If another process has left.
        """
        if self.team.size == 1:
            return value
        grads = [p.grad for p in self.parameters] if gradients else []
        pairs = [(g, part) for g, part in zip(grads, self._parts, strict=False) if g is not None]
        self._send(value, 0.0, 0.0, pairs)
        interrupted, failed = self._tail[1:].tolist()  # waits for the device
        if failed:
            raise PeerError("another process that trains this model has failed, see its error.")
        if interrupted:
            raise PeerInterrupt
        for gradient, part in pairs:
            gradient.copy_(part)
        return self._tail[0].clone()

    def _send(self, value, interrupted: float, failed: float, pairs) -> None:
        self._message.zero_()
        for i, number in enumerate((value, interrupted, failed)):
            self._tail[i] = number
        for gradient, part in pairs:
            part.copy_(gradient)
        try:
            dist.all_reduce(self._message)
        except RuntimeError:  # somebody is gone without a word
            self._broken = True
            raise

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if self.team.size == 1 or self._broken or isinstance(error, PeerError | PeerInterrupt):
            return
        if error is None:
            self(0.0)  # all leave together, or hear why not
        else:
            interrupted = isinstance(error, KeyboardInterrupt)
            self._send(0.0, float(interrupted), float(not interrupted), [])


def _attempt(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Result and exception of a function, one of them None."""
    try:
        return function(), None
    except Exception as error:  # handed on to all processes, and raised there
        return None, error
