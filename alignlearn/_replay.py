"""CUDA graphs: the kernels of a computation that always does the same, launched as one.

A step of a small network is a hundred kernels of a few microseconds each; a GPU waits for Python to
ask for them one by one.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from alignlearn.guards import is_out_of_memory

# Calls before the recording: they choose algorithms and fill caches, which a recording must not.
_WARM_UP = 3

# Of each thread, by device: every further stream keeps tens of megabytes of cuBLAS.
_STREAMS = threading.local()


def _own_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which this thread warms up and records."""
    streams = vars(_STREAMS)
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]


# Each begins by waiting for the whole device, which is not allowed while another thread records.
_ONE_RECORDS = threading.Lock()


@contextmanager
def _alone() -> Iterator[None]:
    """No other recording within the block, and no garbage collected: a graph freed would end it."""
    with _ONE_RECORDS:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


class Replay:
    """A computation on a GPU, recorded at the fourth call and from then on only played back.

    Parameters
    ----------
    work : callable
        Of tensors on the GPU, or of nothing; gives a tensor. It does the same in every call but
        for what is in the tensors and in the memory it reads, waits for nothing on the device, and
        Python decides nothing in it.
    device : torch.device
    generator : torch.Generator, optional
        On the GPU, the only one that `work` draws from. It goes on from call to call, and may be
        read and used between them.
    """

    def __init__(
        self,
        work: Callable[..., Tensor],
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> None:
        self.work, self.device, self.generator = work, device, generator
        self._stream = _own_stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._n_calls = 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What `work` gives; from the fourth call on in memory that the next one overwrites."""
        if self._n_calls < _WARM_UP:
            self._n_calls += 1
            here = torch.cuda.current_stream(self.device)
            self._stream.wait_stream(here)
            with torch.cuda.stream(self._stream):
                result = self.work(*inputs)
            here.wait_stream(self._stream)
            return result
        if self._graph is None:
            self._record(inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._result

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Record `work` of copies of the inputs."""
        self._inputs, graph = [tensor.clone() for tensor in inputs], torch.cuda.CUDAGraph()
        if self.generator is not None:
            graph.register_generator_state(self.generator)
        # Other threads may use the GPU meanwhile.
        options = {"stream": self._stream, "capture_error_mode": "thread_local"}
        try:
            with _alone(), torch.cuda.graph(graph, **options):
                self._result = self.work(*self._inputs)
        except Exception as error:
            # Hidden where the recording that it broke ends in an error.
            if error.__context__ is not None and is_out_of_memory(error.__context__):
                raise error.__context__ from None
            raise
        self._graph = graph


class ReplayedLift:
    """A lift, see `alignlearn.derivatives`, of the steps of one flow, played back on a GPU.

    Parameters
    ----------
    lift : callable (step, x (n, D), E (k, n, D)) -> Tensor
        Of an `alignlearn.flow.Step`, which does the same at all times.
    """

    def __init__(self, lift: Callable) -> None:
        self.lift = lift
        self._replays: dict[tuple, Replay] = {}

    def __call__(self, step, x: Tensor, E: Tensor) -> Tensor:
        """What `lift` gives; in memory that the next call overwrites."""
        key, lift = (x.shape, E.shape), self.lift
        if key not in self._replays:

            def work(x: Tensor, E: Tensor, t: Tensor, s: Tensor) -> Tensor:
                return lift(replace(step, t=t, s=s), x, E)  # no self: a cycle is freed at any time

            self._replays[key] = Replay(work, x.device)
        return self._replays[key](x, E, step.t.to(x.device), step.s.to(x.device))
