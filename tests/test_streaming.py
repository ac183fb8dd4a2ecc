"""`out=`: the answers of memory in bounded memory; errors before work; nothing lost by a kill."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from joblib._parallel_backends import ThreadingBackend
from joblib.externals.loky.process_executor import TerminatedWorkerError
from killed_streams import (
    LEFT,
    LEFT_AFTER,
    MOMENTS,
    N_CHUNKS,
    N_ROWS,
    Watched,
    X,
    in_chunks,
    manifold,
    n_answered,
)
from sklearn import config_context
from sklearn.mixture import GaussianMixture
from tables import MODELS, cases

from alignlearn import _blocks, load, save, streaming
from alignlearn.models import GaussianModel, KernelDiffusion
from alignlearn.streaming import Resumable

D, d = X.shape[1], 2

# Answers that stream, each with the shape and the kind of a row's.
STREAMS = {
    "lyapunov_exponents": ((D,), float),
    "tangent_space": ((D, d), float),
    "dimension": ((), int),
    "transform": ((d,), float),
    "project": ((D,), float),
    "score_samples": ((), float),
}
every_stream = pytest.mark.parametrize("question", STREAMS)


class ZarrLike:
    """Shape, dtype and slices of rows, and no array; knows how many rows were touched at once."""

    def __init__(self, array):
        self._array, self.largest = array, 0
        self.shape = array.shape

    dtype = property(lambda self: self._array.dtype)

    def __getitem__(self, rows):
        assert type(rows) is slice
        self.largest = max(self.largest, len(self._array[rows]))
        return self._array[rows].copy()

    def __setitem__(self, rows, values):
        assert type(rows) is slice
        self.largest = max(self.largest, len(values))
        self._array[rows] = values


def in_a_file(array, folder, name="rows", order="C"):
    path = folder / f"{name}.npy"
    np.save(path, np.asarray(array, order=order))
    return np.load(path, mmap_mode="r+")


# Where rows lie, and what `out=` can be, from an array and a folder.
SOURCES = {
    "array": lambda X, folder: X,
    "memmap": in_a_file,
    "memmap of columns": lambda X, folder: in_a_file(X, folder, order="F"),
    "zarr-like": lambda X, folder: ZarrLike(X),
}
TARGETS = {
    "array": lambda zeros, folder: zeros,
    "memmap": lambda zeros, folder: in_a_file(zeros, folder, "out"),
    "zarr-like": lambda zeros, folder: ZarrLike(zeros),
    "path": lambda zeros, folder: folder / "out.npy",
    "resumable": lambda zeros, folder: Resumable(ZarrLike(zeros), folder / "journal"),
}


@pytest.fixture(scope="module")
def m():
    return manifold()


@pytest.fixture(scope="module")
def expected(m):
    """Answers in memory, of the same chunks."""
    with in_chunks(m):
        return {question: getattr(m, question)(X) for question in STREAMS}


def zeros_for(question, n=N_ROWS):
    shape, kind = STREAMS[question]
    return np.zeros((n, *shape), kind)


# --- the same answers -------------------------------------------------------------------------


@every_stream
@pytest.mark.parametrize("source", **cases(SOURCES))
def test_answers_at_stored_rows_are_those_of_memory(m, expected, tmp_path, question, source):
    with in_chunks(m):
        found = getattr(m, question)(source(X, tmp_path))
    np.testing.assert_array_equal(found, expected[question], strict=True)


@every_stream
@pytest.mark.parametrize("target", **cases(TARGETS))
def test_answers_that_are_written_are_those_of_memory(m, expected, tmp_path, question, target):
    out = target(zeros_for(question), tmp_path)
    with in_chunks(m):
        found = getattr(m, question)(X, out=out)
    np.testing.assert_array_equal(found[:], expected[question], strict=True)
    if isinstance(out, Path):
        np.testing.assert_array_equal(np.load(out), expected[question], strict=True)
    else:
        assert found is getattr(out, "array", out)


@pytest.mark.parametrize("as_they_come", [True, False])
def test_workers_stream_the_same_in_several_waves(m, expected, monkeypatch, as_they_come):
    """Also where a backend has lists only, as ray and multiprocessing; all in `test_parallel`."""
    monkeypatch.setattr(m, "n_jobs", 2)
    monkeypatch.setattr(streaming, "_AHEAD", 1)
    monkeypatch.setattr(ThreadingBackend, "supports_return_generator", as_they_come)
    with parallel_config("threading"), in_chunks(m):
        found = m.tangent_space(ZarrLike(X), d)
    np.testing.assert_array_equal(found, expected["tangent_space"])


def test_a_frame_streams_its_vectors_and_exponents(m, expected, tmp_path):
    out = zeros_for("tangent_space"), tmp_path / "exponents.npy"
    with in_chunks(m):
        frame = m.lyapunov_frame(ZarrLike(X), d, out=out)
        in_memory = m.lyapunov_frame(X, d)
    assert frame.vectors is out[0]
    for found, wanted in zip(frame[1:], in_memory[1:], strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(frame.vectors, expected["tangent_space"])


def test_out_in_single_precision_holds_the_rounded_answers(m, expected):
    out = zeros_for("tangent_space").astype(np.float32)
    with in_chunks(m):
        m.tangent_space(X, d, out=out)
    np.testing.assert_array_equal(out, expected["tangent_space"].astype(np.float32))


def test_rows_can_be_projected_in_place(m, expected, tmp_path):
    rows = in_a_file(X, tmp_path)
    with in_chunks(m):
        m.project(rows, out=rows)
    np.testing.assert_array_equal(rows, expected["project"])


# --- in bounded memory ------------------------------------------------------------------------


@every_stream
def test_no_more_rows_than_a_block_are_held(m, monkeypatch, question):
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", 6 * D)
    rows, out = ZarrLike(X), ZarrLike(zeros_for(question))
    with in_chunks(m):
        getattr(m, question)(rows, out=out)
    assert rows.largest == 6 and out.largest <= N_ROWS // N_CHUNKS


def test_memory_is_a_fraction_of_the_rows_and_of_the_answers(m, tmp_path, monkeypatch):
    """All that numpy and Python take, and the garbage that was not collected yet."""
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", 2**9)
    rows = in_a_file(np.resize(X, (12_000, D)), tmp_path)
    out = in_a_file(np.zeros((12_000, D, d)), tmp_path, "out")
    with config_context(working_memory=0.1):
        tracemalloc.start()
        m.tangent_space(rows, d, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 0.5 * out.nbytes


# --- errors before anything is computed -------------------------------------------------------


def read_only(folder):
    out = zeros_for("tangent_space")
    out.flags.writeable = False
    return out


def file_without_journal(folder):
    np.save(folder / "out.npy", zeros_for("tangent_space"))
    return folder / "out.npy"


def file_as_journal(folder):
    (folder / "journal").write_text("text of somebody else\n")
    return Resumable(zeros_for("tangent_space"), folder / "journal")


REFUSED = {
    "another shape": (lambda f: np.zeros((N_ROWS, d, D)), r"shape \(24, 3, 2\), got \(24, 2, 3\)"),
    "fewer rows": (lambda f: np.zeros((9, D, d)), r"shape \(24, 3, 2\), got \(9, 3, 2\)"),
    "integers": (lambda f: np.zeros((N_ROWS, D, d), int), "dtype that holds float64, got int64"),
    "a list": (lambda f: [], "numpy array or memmap.*got list"),
    "read-only": (read_only, "read-only"),
    "another suffix": (lambda f: f / "out.h5", "path of a .npy file"),
    "a file of somebody else": (file_without_journal, "exists and has no journal"),
    "a journal of somebody else": (file_as_journal, "no journal of alignlearn"),
}


@pytest.mark.parametrize("make, words", **cases(REFUSED))
def test_out_that_does_not_fit_is_refused_before_work(m, tmp_path, monkeypatch, make, words):
    monkeypatch.setattr(streaming, "_answer", None)
    with pytest.raises((ValueError, TypeError), match=words):
        m.tangent_space(X, d, out=make(tmp_path))


def test_a_frame_without_two_outs_is_refused(m):
    with pytest.raises(TypeError, match=r"a pair \(vectors, exponents\), got ndarray"):
        m.lyapunov_frame(X, d, out=zeros_for("tangent_space"))


@pytest.mark.parametrize("value, words", [(np.nan, "NaN"), (1e200, "too far")])
def test_bad_rows_at_the_end_of_a_store_are_refused_before_work(m, monkeypatch, value, words):
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", 6 * D)
    monkeypatch.setattr(streaming, "_answer", None)
    bad = X.copy()
    bad[-1, 0] = value
    with pytest.raises(ValueError, match=words):
        m.tangent_space(ZarrLike(bad), d)


# --- nothing lost -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder and outcome of `killed_streams`."""
    root = tmp_path_factory.mktemp("streams")
    script = Path(__file__).with_name("killed_streams.py")
    done = subprocess.run([sys.executable, script, root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_process_goes_on_and_ends_the_same(killed, moment):
    found = killed[1][moment]
    assert found["killed"] and found["ended"] == 0 and found["equal"]
    assert found["files"] == ["log", "out.npy", "out.npy.journal"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("moment", MOMENTS)
def test_finished_chunks_are_not_computed_again(killed, moment):
    """But the one that was computed and not entered."""
    lost = sum(which in ("enter", "line") for which, _ in MOMENTS[moment])
    assert killed[1][moment]["answered"] == N_CHUNKS + lost


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_another_process_goes_on_with_the_saved_manifold(killed, expected, monkeypatch):
    answer, n_answers = streaming._answer, []
    monkeypatch.setattr(streaming, "_answer", lambda *a: n_answers.append(1) or answer(*a))
    m = load(killed[0] / "manifold.safetensors")
    with in_chunks(m):
        found = m.tangent_space(X, d, out=killed[0] / LEFT / "out.npy")
    np.testing.assert_array_equal(found, expected["tangent_space"])
    assert len(n_answers) == N_CHUNKS - (LEFT_AFTER - 1)


def test_killed_worker_loses_no_finished_chunk(tmp_path):
    m = manifold(Watched()).set_params(n_jobs=2)
    with in_chunks(m):
        whole = m.tangent_space(X, d)
        m.model_.log = str(tmp_path / "log")
        (tmp_path / "deadly").touch()
        out, journal = tmp_path / "out.npy", tmp_path / "out.npy.journal"
        with parallel_config("loky"):
            with pytest.raises(TerminatedWorkerError) as caught:
                m.tangent_space(X, d, out=out)
            assert "the same call" in caught.value.__notes__[0]
            before = n_answered(m.model_.log)
            n_kept = len(journal.read_text().splitlines()) - 1
        with parallel_config("threading"):  # a new start of processes takes longer than the rest
            found = m.tangent_space(X, d, out=out)
    np.testing.assert_array_equal(found, whole)
    assert n_answered(m.model_.log) - before == N_CHUNKS - n_kept


@pytest.fixture
def finished(m, tmp_path):
    """A result in a file with its journal, and the chunks answered since."""
    with in_chunks(m):
        m.tangent_space(X, d, out=tmp_path / "out.npy")
    return tmp_path / "out.npy"


@pytest.fixture
def places(monkeypatch):
    """First rows of the chunks answered since."""
    answer, places = streaming._answer, []
    monkeypatch.setattr(streaming, "_answer", lambda *a: places.append(a[1].start) or answer(*a))
    return places


def test_finished_call_computes_nothing(m, finished, places):
    with in_chunks(m):
        m.tangent_space(X, d, out=finished)
    assert places == []


def test_smaller_chunks_go_on_where_larger_ones_ended(m, finished, places):
    """As for a process that was killed for its memory."""
    with config_context(working_memory=1e-6):
        m.tangent_space(X, d, out=finished)
    assert places == []


def test_rows_that_are_not_as_they_were_entered_are_computed_again(m, expected, finished, places):
    np.load(finished, mmap_mode="r+")[[5, 17]] = np.nan
    with in_chunks(m):
        found = m.tangent_space(X, d, out=finished)
    np.testing.assert_array_equal(found, expected["tangent_space"])
    assert places == [4, 16]


def test_file_that_is_gone_is_made_again(m, expected, finished, places):
    finished.unlink()
    with in_chunks(m):
        found = m.tangent_space(X, d, out=finished)
    np.testing.assert_array_equal(found, expected["tangent_space"])
    assert len(places) == N_CHUNKS


def test_script_of_the_guide_runs_and_runs_again(m, tmp_path, monkeypatch, places):
    page = (Path(__file__).parents[1] / "docs" / "parallel.md").read_text()
    script = re.search(r"```python\n(# job.py\n.*?)```", page, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    save(m, "manifold.safetensors")
    np.save("rows.npy", X)
    with parallel_config("sequential"):
        exec(script, {})
        places.clear()
        exec(script, {})
    assert places == []
    np.testing.assert_array_equal(np.load("tangents.npy"), m.tangent_space(X))
    np.testing.assert_array_equal(np.load("dimensions.npy"), m.dimension(X))


class Mixture(GaussianModel):
    """A family of the user's with a scikit-learn estimator inside."""

    def fit(self, X, y=None):
        self.mixture_ = GaussianMixture(2, random_state=0).fit(X + self.random_state)
        return super().fit(X)


def test_model_of_the_user_is_told_from_another_fit_of_it(tmp_path):
    manifold(Mixture(random_state=1)).tangent_space(X, d, out=tmp_path / "out.npy")
    manifold(Mixture(random_state=1)).tangent_space(X, d, out=tmp_path / "out.npy")
    with pytest.raises(ValueError, match="differs in model"):
        manifold(Mixture(random_state=2)).tangent_space(X, d, out=tmp_path / "out.npy")


OTHER_JOBS = {
    "rows": (lambda m: m.tangent_space(X[::-1], d, out=...), "rows"),
    "model": (lambda m: manifold(KernelDiffusion()).tangent_space(X, d, out=...), "model"),
    "parameter": (lambda m: manifold().set_params(n_iter=2).tangent_space(X, d, out=...), "n_iter"),
    "columns": (lambda m: m.tangent_space(X, 3, out=...), "n_columns"),
    "question": (lambda m: m.score_samples(X, out=...), "dimension, n_columns"),
    "chart": (lambda m: m.transform(X, out=...), "chart"),
}


@pytest.mark.parametrize("job, words", **cases(OTHER_JOBS))
def test_journal_of_another_job_is_refused(m, finished, monkeypatch, job, words):
    before = finished.read_bytes()
    for name in STREAMS:  # `...` is the file of the job that is finished
        method = getattr(type(m), name)

        def with_file(self, *args, out, method=method):
            return method(self, *args, out=finished)

        monkeypatch.setattr(type(m), name, with_file)
    with pytest.raises(ValueError, match=f"another job, which differs in.*{words}"):
        job(m)
    assert finished.read_bytes() == before


@pytest.mark.parametrize("make_model", **cases(MODELS))
def test_fit_of_the_same_seed_goes_on(make_model, tmp_path, places):
    first, second = manifold(make_model()), manifold(make_model())
    places.clear()
    for m in (first, second):
        m.score_samples(X, out=str(tmp_path / "out.npy"))
    assert len(places) == 1
