"""CUDA graphs: the kernels of a computation that always does the same, launched as one.

A step of a small network is a hundred kernels of a few microseconds each; a GPU waits for Python to
ask for them one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Calls before the recording: they choose algorithms and fill caches, which a recording must not.
_WARM_UP = 3


class Replay:
    """A computation on a GPU, recorded at the fourth call and from then on only played back.

    Parameters
    ----------
    work : callable
        Without arguments; gives a tensor. It reads and writes the same memory in every call, waits
        for nothing on the device, and Python decides nothing in it.
    generator : torch.Generator
        On the GPU, the only one that `work` draws from. It goes on from call to call, and may be
        read and used between them.
    """

    def __init__(self, work: Callable[[], Tensor], generator: torch.Generator) -> None:
        self.work, self.generator = work, generator
        self._stream = torch.cuda.Stream(generator.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._n_calls = 0

    def __call__(self) -> Tensor:
        """What `work` gives; from the fourth call on in memory that the next one overwrites."""
        if self._n_calls < _WARM_UP:
            self._n_calls += 1
            here = torch.cuda.current_stream(self.generator.device)
            self._stream.wait_stream(here)
            with torch.cuda.stream(self._stream):
                result = self.work()
            here.wait_stream(self._stream)
            return result
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            self._graph.register_generator_state(self.generator)
            # Other threads may use the GPU meanwhile.
            mode = "thread_local"
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode=mode):
                self._result = self.work()
        self._graph.replay()
        return self._result
