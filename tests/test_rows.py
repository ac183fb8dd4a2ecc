"""Laws of fits to rows on disk: the model of the same rows in memory, in bounded memory."""

import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from tables import MODELS
from torch.utils.data import DataLoader

from alignlearn import LyapunovManifold, ManifoldSupport, _blocks
from alignlearn._arrays import Scaling
from alignlearn._blocks import row_blocks
from alignlearn._rows import training_rows
from alignlearn.checkpoint import fingerprint
from alignlearn.datasets import make_sphere
from alignlearn.gaussian import Gaussian
from alignlearn.models import pieces, trained

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
every_model = pytest.mark.parametrize("name", MODELS)

X = make_sphere(150, 2, random_state=0).points
BLOCK = 64  # numbers, so that X is several blocks


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", BLOCK)


@pytest.fixture
def on_disk(tmp_path):
    """Write an array to a file and map it."""

    def mapped(array):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode="r")

    return mapped


def manifold(name):
    options = {"n_steps": 2, "n_paths": 1, "n_reference": 10, "random_state": 0}
    return LyapunovManifold(model=MODELS[name](), **options)


def assert_same(model, other):
    np.testing.assert_array_equal(model.sample(4), other.sample(4))
    for a, b in zip(model.gaussian_, other.gaussian_, strict=True):
        assert torch.equal(a, b)


KINDS = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "big endian": lambda X: X.astype(">f4"),
    "bytes": lambda X: np.round(100 + 50 * X).astype(np.uint8),
    "Fortran order": np.asfortranarray,
}


@every_model
@pytest.mark.parametrize("kind", KINDS)
def test_rows_on_disk_give_the_model_of_the_array_bit_by_bit(name, kind, on_disk):
    rows = KINDS[kind](X)
    assert_same(MODELS[name]().fit(on_disk(rows)), MODELS[name]().fit(rows))


@every_model
def test_views_of_a_file_are_rows_on_disk_too(name, on_disk):
    wide = np.repeat(X, 2, axis=1)
    assert_same(MODELS[name]().fit(on_disk(wide)[10::2, ::2]), MODELS[name]().fit(X[10::2]))


@every_model
def test_rows_on_disk_in_a_subspace_give_the_model_of_the_array(name, on_disk):
    """To rounding: rows are projected batch by batch."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(7, 3))).Q
    mapped, array = (MODELS[name]().fit(rows) for rows in (on_disk(X @ basis.T), X @ basis.T))
    assert mapped.scaling_.rank == array.scaling_.rank == 3
    np.testing.assert_allclose(mapped.sample(4), array.sample(4), atol=1e-4)


BLOCKS = {
    "generator": lambda X: (X[i : i + 40] for i in range(0, len(X), 40)),
    "map of lists": lambda X: map(lambda i: X[i : i + 7].tolist(), range(0, len(X), 7)),
    "DataLoader": lambda X: DataLoader(X, batch_size=32),
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_blocks_become_rows_on_disk(kind, dtype):
    rows = (100 * X).astype(dtype)
    written = training_rows(MODELS["GaussianModel"](), BLOCKS[kind](rows))
    assert isinstance(written, np.memmap)
    single = dtype == np.float32 and kind != "map of lists"
    assert written.dtype == (np.float32 if single else np.float64)
    np.testing.assert_array_equal(written, rows)


@every_model
def test_blocks_give_the_model_of_all_rows(name):
    assert_same(MODELS[name]().fit(BLOCKS["generator"](X)), MODELS[name]().fit(X))


def test_manifold_takes_blocks():
    in_blocks, whole = (manifold("GaussianModel").fit(rows) for rows in (iter([X[:90], X[90:]]), X))
    np.testing.assert_array_equal(in_blocks.exponents_, whole.exponents_)


def with_value(value):
    rows = X.copy()
    rows[-1, 1] = value
    return rows


REFUSED = {
    "NaN": with_value(np.nan),
    "infinity": with_value(np.inf),
    "equal rows": np.tile(X[:1], (90, 1)),
    "one row": X[:1],
    "1-D": X[:, 0],
    "3-D": X[None],
    "complex": X + 1j,
}


@every_model
@pytest.mark.parametrize("case", REFUSED)
def test_rows_on_disk_are_refused_in_the_words_for_arrays(name, case, on_disk):
    with pytest.raises(ValueError) as array:
        MODELS[name]().fit(REFUSED[case])
    model = MODELS[name]()
    with pytest.raises(ValueError) as mapped:
        model.fit(on_disk(REFUSED[case]))
    assert str(mapped.value).split("\n")[0] == str(array.value).split("\n")[0]
    with pytest.raises(NotFittedError):
        model.sample(1)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no blocks"),
        ([X[:50], with_value(np.nan)], "block 1 of X: Input X contains NaN"),
        ([X[:50], X[50:, :2]], "block 1 of X: X has 2 features, but .* is expecting 3"),
        ([X[0], X[1]], "block 0 of X: Expected 2D array"),
        ([X[:50].astype(np.float32), X[50:]], "first is float32, block 1 float64"),
        ([X[:1]], "minimum of 2|1 sample"),
    ],
    ids=["none", "NaN", "fewer columns", "rows", "two types", "one row"],
)
@pytest.mark.parametrize("make", [MODELS["GaussianModel"], lambda: manifold("GaussianModel")])
def test_blocks_that_are_no_table_are_refused(blocks, message, make):
    with pytest.raises(ValueError, match=message):
        make().fit(iter(blocks))


def test_blocks_are_for_fit_alone():
    fitted = manifold("GaussianModel").fit(X)
    for question in (fitted.transform, fitted.model_.score_samples, ManifoldSupport(fitted).fit):
        with pytest.raises(ValueError, match="iterable of blocks"):
            question(iter([X]))


# --- memory -----------------------------------------------------------------------------------


def peak_of(call):
    """Bytes that numpy had at most during a call, beyond what it had before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FITS = {
    "Diffusion": MODELS["Diffusion"],
    "FlowMatching": MODELS["FlowMatching"],
    "GaussianModel": MODELS["GaussianModel"],
    "LyapunovManifold": lambda: manifold("GaussianModel"),
}


@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
def test_memory_of_a_fit_does_not_grow_with_rows_on_disk(make, on_disk, rng, monkeypatch):
    """It grows with an array in memory, by at least its copy in double precision."""
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", 2**15)
    monkeypatch.setattr(trained, "_HELD_OUT", 500)
    monkeypatch.setattr(pieces, "_MAX_ROWS", 500)
    scales = np.where(np.arange(40) < 2, 1.0, 1e-3)
    rows = (rng.normal(size=(40_000, 40)) * scales).astype(np.float32)
    few, many = rows[:20_000], rows
    make().fit(few[:90])  # what the first fit imports
    peaks = [peak_of(lambda r=r: make().fit(r)) for r in (on_disk(few), on_disk(many), few, many)]
    more = many.nbytes - few.nbytes
    assert peaks[1] - peaks[0] < 0.2 * more
    assert peaks[3] - peaks[2] > 1.9 * more


def test_manifold_keeps_landmarks_and_not_the_rows(on_disk):
    rows = on_disk(X)
    mapped, array = (manifold("KernelDiffusion").set_params(n_landmarks=60) for _ in range(2))
    mapped.fit(rows)
    array.fit(X)
    for question in ("lyapunov_exponents", "tangent_space", "transform", "project"):
        np.testing.assert_array_equal(*(getattr(m, question)(X[:9]) for m in (mapped, array)))
    assert len(mapped._lazy_chart.X) == 60
    assert not hasattr(mapped, "embedding_") and array.embedding_.shape == (150, 2)
    with pytest.raises(AttributeError, match="left on disk: ask transform"):
        mapped.embedding_  # noqa: B018
    twin = pickle.loads(pickle.dumps(mapped))
    np.testing.assert_array_equal(twin.transform(X[:9]), mapped.transform(X[:9]))


def test_at_most_a_fixed_number_of_rows_is_held_out():
    model = MODELS["Diffusion"](validation_fraction=0.5)
    kept, held = model._split(torch.arange(100_000), 1)
    assert len(held) == 20_000
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(100_000))


# --- blocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 10, 10**9])
@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (7, 0), (7, 3), (100, 1)])
def test_blocks_cover_every_row_once_in_order(shape, block, monkeypatch):
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", block)
    slices = list(row_blocks(*shape))
    assert [i for rows in slices for i in range(shape[0])[rows]] == list(range(shape[0]))
    assert slices and all(s.stop - s.start <= max(1, block // max(1, shape[1])) for s in slices)


TABLES = {
    "tall": lambda rng: rng.normal(size=(90, 6)) * [5, 3, 1, 1, 0.1, 1e-3] + 7,
    "wide": lambda rng: rng.normal(size=(9, 40)) + 7,
    "in a subspace": lambda rng: rng.normal(size=(90, 3)) @ rng.normal(size=(3, 8)),
    "huge": lambda rng: rng.normal(size=(90, 4)) * 1e300,
}


@pytest.mark.parametrize("table", TABLES)
def test_statistics_in_blocks_are_those_of_the_whole_table(table, rng, monkeypatch):
    rows = TABLES[table](rng)
    in_blocks = Scaling.fit(rows)
    x = in_blocks.to_model(rows, torch.empty(0, dtype=torch.float64))
    moments = Gaussian.fit(x)
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", 10**9)
    whole, expected = Scaling.fit(rows), Gaussian.fit(x)
    assert (in_blocks.exponent, in_blocks.rank) == (whole.exponent, whole.rank)
    np.testing.assert_allclose(in_blocks.scale, whole.scale, rtol=1e-13)
    np.testing.assert_allclose(in_blocks.center, whole.center, atol=1e-14 * whole.scale)
    np.testing.assert_allclose(moments.variances, expected.variances, rtol=1e-10, atol=1e-25)
    y = torch.randn(5, rows.shape[1], dtype=torch.float64)
    s = torch.tensor(0.5)
    torch.testing.assert_close(moments.denoise(y, s), expected.denoise(y, s), rtol=0, atol=1e-12)


def test_fingerprint_of_rows_on_disk_is_that_of_the_array(on_disk):
    """So that a fit begun with the one goes on with the other."""
    model = MODELS["Diffusion"]()
    whole, mapped = (model._training_rows(rows) for rows in (X, on_disk(X)))
    assert fingerprint(model, whole) == fingerprint(model, mapped)
    assert fingerprint(model, whole) != fingerprint(model, model._training_rows(X[1:]))
