"""What is changed while a network is differentiated is put back, whatever happens."""

import functools
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from real_networks import image_network
from torch import nn

from alignlearn.guards import check_rows, guarded, is_out_of_memory, networks_of


def flags():
    """Flags of PyTorch that a guard sets."""
    backends = torch.backends
    precision = [
        getattr(backend, "fp32_precision", None)
        for backend in (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)
    ]
    return (
        *precision,
        torch.get_float32_matmul_precision(),
        backends.mha.get_fastpath_enabled(),
        backends.cuda.flash_sdp_enabled(),
        backends.cuda.math_sdp_enabled(),
        backends.cuda.mem_efficient_sdp_enabled(),
    )


def state(network):
    """Modes and hooks of a network."""
    return [
        (m.training, len(m._forward_pre_hooks), getattr(m, "gradient_checkpointing", None))
        for m in network.modules()
    ]


@pytest.fixture(params=["high", "highest"])
def precision(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def test_guard_puts_everything_back_also_after_an_exception(precision):
    network = image_network()
    before = flags(), state(network)
    with guarded(network):
        within = flags(), state(network)
        matmul = torch.backends.cuda.matmul
        assert getattr(matmul, "fp32_precision", "ieee") == "ieee"
        assert not network.training and not network.gradient_checkpointing
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert len(network.norm._forward_pre_hooks) == 1
        with guarded(network):  # again: nothing twice
            assert (flags(), state(network)) == within
        assert (flags(), state(network)) == within
    assert (flags(), state(network)) == before != within
    with pytest.raises(ZeroDivisionError), guarded(network):
        raise ZeroDivisionError
    assert (flags(), state(network)) == before


def test_refused_network_leaves_nothing_behind():
    network = nn.Sequential(image_network(), nn.BatchNorm1d(32))
    before = flags(), state(network)
    with pytest.raises(ValueError, match="BatchNorm1d `1`"), guarded(network):
        pass
    assert (flags(), state(network)) == before


def test_guard_lasts_until_the_last_thread_is_out():
    network, n_threads = image_network(), 3
    before = flags(), state(network)
    everyone, turns = Barrier(n_threads), [Barrier(2) for _ in range(n_threads)]
    seen = []

    def work(i):
        with guarded(network):
            everyone.wait()
            turns[i].wait()
            seen.append((network.training, torch.backends.cuda.flash_sdp_enabled()))

    with ThreadPoolExecutor(n_threads) as pool:
        waiting = [pool.submit(work, i) for i in range(n_threads)]
        for turn, done in zip(turns, waiting, strict=True):  # one leaves after the other
            turn.wait()
            done.result()
    assert seen == [(False, False)] * n_threads
    assert (flags(), state(network)) == before


def test_dropout_is_off_in_a_guard(generator):
    network = image_network()
    y = torch.randn(2, 32, dtype=torch.float64, generator=generator)
    s = torch.tensor(1.0)
    with guarded(lambda y: network(y, s)):
        once, twice = network(y, s), network(y, s)
    assert torch.equal(once, twice)


module = nn.Linear(1, 1)


class Holder:
    def __init__(self):
        self.parts = {"a": [module]}

    def method(self, x):
        return self.parts["a"][0](x)


def closure():
    inner = module
    return lambda x: inner(x)


CALLABLES = {
    "module": module,
    "method of a module": module.forward,
    "global name": lambda x: module(x),
    "closure": closure(),
    "closure in a partial": functools.partial(lambda f, x: f(x), closure()),
    "method": Holder().method,
    "method in a closure": (lambda f: lambda x: f(x))(Holder().method),
}


@pytest.mark.parametrize("field", CALLABLES.values(), ids=CALLABLES)
def test_networks_are_found_in(field):
    assert networks_of(field) == [module]


def test_functions_without_networks_have_none():
    assert networks_of(torch.sin) == networks_of(lambda x: x + 1) == networks_of(print) == []


def test_rows_that_are_treated_alone_pass(generator):
    network = image_network()
    y = torch.randn(1, 32, dtype=torch.float64, generator=generator)
    check_rows(lambda y: network(y, torch.tensor(1.0)), y)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (MemoryError(), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
    ],
    ids=lambda x: str(x)[:30],
)
def test_out_of_memory_is_told_from_other_errors(error, is_memory):
    assert is_out_of_memory(error) == is_memory
