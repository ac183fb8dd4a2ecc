"""Laws of the door between numpy and torch."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import config_context

from alignlearn._arrays import Scaling, make_generator, resolve_device, row_chunks

double = torch.empty(0, dtype=torch.float64)
single = torch.empty(0, dtype=torch.float32)
UNITS = [1e-300, 1e-160, 1e-30, 1.0, 1e30, 1e160, 1e300]


@pytest.fixture
def X(rng):
    return rng.normal(size=(50, 3)) * [3.0, 1.0, 0.1] + [5.0, -2.0, 0.0]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("like", [single, double], ids=["float32", "float64"])
def test_scaled_rows_do_not_depend_on_the_unit(unit, like, X):
    expected = (X - X.mean(0)) / np.sqrt(np.mean((X - X.mean(0)) ** 2))
    z = Scaling.fit(X * unit).to_model(X * unit, like)
    assert z.dtype == like.dtype
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-6 if like is single else 1e-12)


@pytest.mark.parametrize("unit", UNITS)
def test_to_data_inverts_to_model(unit, X):
    scaling = Scaling.fit(X * unit)
    back = scaling.to_data(scaling.to_model(X * unit, double))
    np.testing.assert_allclose(back / unit, X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_the_data_change_per_model_change(unit, X):
    scaling = Scaling.fit(X * unit)
    z = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    zero, one = scaling.to_data(z)
    assert np.log((one - zero)[0]) == pytest.approx(scaling.log_unit, rel=1e-12)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
def test_offset_costs_no_more_than_its_rounding(offset, X):
    z = Scaling.fit(X + offset).to_model(X + offset, double)
    expected = Scaling.fit(X).to_model(X, double)
    np.testing.assert_allclose(z, expected, atol=1e-15 * offset + 1e-12)


@pytest.mark.parametrize("value", [0.0, 1e-300, -3.7, 1e300, 0.1])
def test_constant_data_are_refused(value):
    with pytest.raises(ValueError, match="constant data have no geometry"):
        Scaling.fit(np.full((4, 3), value))


def test_query_that_overflows_is_refused(X):
    scaling = Scaling.fit(X)
    with pytest.raises(ValueError, match="too far from the training data"):
        scaling.to_model(X * 1e60, single)
    with pytest.raises(ValueError, match="too far from the training data"):
        Scaling.fit(X * 1e-300).to_model(X * 1e30, double)


def test_generator_repeats_and_leaves_the_global_ones_alone():
    def states():
        return (
            np.random.mtrand._rand.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
            random.getstate(),
        )

    before = states()
    first, again, other = (
        torch.rand(4, generator=make_generator(seed)).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert states() == before


def test_generator_consumes_a_random_state():
    rng = np.random.RandomState(0)
    first, second = (torch.rand(4, generator=make_generator(rng)).tolist() for _ in range(2))
    assert first != second


@pytest.mark.parametrize("working_memory", [1, 16, 1024])
@pytest.mark.parametrize("bytes_per_row", [0, 1, 10_000, 10**9])
@pytest.mark.parametrize("n_rows", [0, 1, 7, 5000])
def test_chunks_cover_every_row_once_in_order_and_fit(n_rows, bytes_per_row, working_memory):
    with config_context(working_memory=working_memory):
        chunks = list(row_chunks(n_rows, bytes_per_row))
    rows = [row for chunk in chunks for row in range(n_rows)[chunk]]
    assert rows == list(range(n_rows))
    sizes = [chunk.stop - chunk.start for chunk in chunks]
    assert all(size == 1 or size * bytes_per_row <= working_memory * 2**20 for size in sizes)


def test_chunks_on_a_gpu_grow_with_its_memory(monkeypatch):
    gpu = torch.device("cuda", 0)
    properties = SimpleNamespace(total_memory=64 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {gpu: properties}.__getitem__)
    assert len(list(row_chunks(32, 2**30, device=gpu))) == 8  # four at a time
    with config_context(working_memory=8192):
        assert len(list(row_chunks(32, 2**30, device=gpu))) == 4
    assert len(list(row_chunks(32, 2**30, device=torch.device("cpu")))) == 32


@pytest.mark.parametrize("device", ["no such device", "cuda:99", "meta:x"])
def test_missing_device_is_refused_by_name(device):
    with pytest.raises(ValueError, match="not usable here"):
        resolve_device(device)
