"""Workers, threads and global state change no bit of an answer; chunks change its last digits."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn import config_context, get_config
from tables import MODELS

from alignlearn import LyapunovManifold
from alignlearn._arrays import torch_threads
from alignlearn.datasets import make_sphere
from alignlearn.tangent import LyapunovFrame

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_ROWS, N_CHUNKS = 9, 3
OPTIONS = {"n_paths": 2, "n_steps": 2, "n_reference": 10, "random_state": 0}
# A model in float64 without training, and a trained one in float32.
FAMILIES = {
    "KernelDiffusion": MODELS["KernelDiffusion"],
    "Diffusion": lambda: MODELS["Diffusion"](n_estimators=1),
}


def streamed(m, X):
    """Tangent spaces at rows in a file, written to another."""
    with TemporaryDirectory() as folder:
        np.save(f"{folder}/rows.npy", X)
        rows = np.load(f"{folder}/rows.npy", mmap_mode="r")
        return np.array(m.tangent_space(rows, 2, out=f"{folder}/out.npy"))


# Every public question, as a function of a fitted manifold and rows.
ANSWERS = {
    "lyapunov_exponents": lambda m, X: m.lyapunov_exponents(X),
    "tangent_space": lambda m, X: m.tangent_space(X, 2),
    "streamed": streamed,
    "dimension": lambda m, X: m.dimension(X),
    "score_samples": lambda m, X: m.score_samples(X),
    "scale_spectrum": lambda m, X: m.scale_spectrum(X, 2).exponents,
    "sample": lambda m, X: m.sample(len(X)),
    "transform": lambda m, X: m.transform(X),
    "project": lambda m, X: m.project(X),
}


@pytest.fixture(scope="module")
def X():
    return make_sphere(40, 2, random_state=0).points


@pytest.fixture(scope="module")
def manifolds(X):
    """Fitted manifolds with their charts, which small chunks would take long to make."""
    fitted = {
        name: LyapunovManifold(model=make(), **OPTIONS).fit(X) for name, make in FAMILIES.items()
    }
    assert all(np.isfinite(manifold.embedding_).all() for manifold in fitted.values())
    return fitted


@pytest.fixture(scope="module")
def serial(manifolds, X):
    """Answers of every manifold without workers, in several chunks."""
    return {name: ask(manifold, X) for name, manifold in manifolds.items()}


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture
def manifold(manifolds, name):
    return manifolds[name]


def several_chunks(manifold):
    """A budget of memory that splits `N_ROWS` rows into `N_CHUNKS`."""
    row = manifold.model_._bytes_per_column() * manifold.n_features_in_
    return config_context(working_memory=(N_ROWS / N_CHUNKS + 0.5) * row / 2**20)


def ask(manifold, X, n_jobs=None):
    """All answers at the first rows, by workers if that many are asked for."""
    manifold.set_params(n_jobs=n_jobs)
    try:
        with several_chunks(manifold):
            return {name: answer(manifold, X[:N_ROWS]) for name, answer in ANSWERS.items()}
    finally:
        manifold.set_params(n_jobs=None)


def assert_same_bits(actual, expected):
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name, strict=True)


# --- workers ----------------------------------------------------------------------------------


@contextmanager
def dask_cluster():
    """A process of dask.distributed on this machine with two threads; `loky` has two processes."""
    distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": True}
    with (
        distributed.LocalCluster(
            host="127.0.0.1", dashboard_address=None, silence_logs=50, **options
        ) as cluster,
        distributed.Client(cluster),
        parallel_config("dask"),
    ):
        yield


BACKENDS = {
    "sequential": lambda: parallel_config("sequential"),
    "threading": lambda: parallel_config("threading"),
    "loky": lambda: parallel_config("loky"),
    "dask": dask_cluster,
}


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_workers_of_every_backend_give_the_serial_answer(backend, manifolds, serial, X):
    with backend():
        for name, manifold in manifolds.items():
            assert_same_bits(ask(manifold, X, n_jobs=2), serial[name])


def test_one_worker_gives_the_answer_of_none(manifold, name, serial, X):
    assert_same_bits(ask(manifold, X, n_jobs=1), serial[name])


def test_fit_with_workers_measures_the_same(X):
    """The default backend, and a reference that needs several chunks."""
    template = LyapunovManifold(model=MODELS["KernelDiffusion"](), **OPTIONS)
    with config_context(working_memory=0.01):
        serial, parallel = (template.set_params(n_jobs=n).fit(X).exponents_ for n in (None, 2))
    np.testing.assert_array_equal(parallel, serial)


def test_threads_of_workers_share_those_of_torch(manifold, X, monkeypatch):
    """Two workers that are threads, on four threads of torch, have two each: eight are too many."""
    seen = []

    def spy(reader, x, *args):
        seen.append(torch.get_num_threads())
        return LyapunovFrame(np.zeros((len(x), 3)), np.zeros((len(x), 3, 3)), np.zeros((len(x), 3)))

    monkeypatch.setattr("alignlearn.frames.FrameReader._read_chunk", spy)
    monkeypatch.setattr(manifold, "n_jobs", 2)
    with torch_threads(4), parallel_config("threading"), several_chunks(manifold):
        manifold.lyapunov_exponents(X[:N_ROWS])
        assert torch.get_num_threads() == 4
    assert seen == [2] * N_CHUNKS


def test_size_of_a_chunk_changes_rounding_only(manifold, X):
    """A matrix product adds up in another order when it has another number of rows.

    So a row alone is the row in a batch to the precision of the model: float64 for the kernel and
    for every density, float32 for the frames of a network.
    """
    eps = torch.finfo(manifold.model_.gaussian_.basis.dtype).eps
    whole = {name: answer(manifold, X[:5]) for name, answer in ANSWERS.items()}
    with config_context(working_memory=1e-6):
        alone = {name: answer(manifold, X[:5]) for name, answer in ANSWERS.items()}
    for name in ANSWERS:
        atol = 1e-12 if name == "score_samples" else 100 * eps
        np.testing.assert_allclose(alone[name], whole[name], rtol=0, atol=atol, err_msg=name)


# --- threads ----------------------------------------------------------------------------------


def test_eight_threads_that_ask_one_manifold_get_the_serial_answers(manifold, X):
    questions = [(answer, X[i : i + 2]) for i in range(2) for answer in ANSWERS.values()]
    expected = [answer(manifold, rows) for answer, rows in questions]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda question: question[0](manifold, question[1]), questions))
    for actual, wanted in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_fits_at_the_same_time_equal_fits_one_after_the_other(X):
    def fit(job):
        name, seed = job
        model = MODELS[name]().set_params(random_state=seed)
        fitted = LyapunovManifold(model=model, **OPTIONS).fit(X)
        return fitted.exponents_, fitted.sample(3)

    jobs = [(name, seed) for name in MODELS for seed in range(2)]
    serial = [fit(job) for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        at_once = list(pool.map(fit, jobs))
    for actual, expected in zip(at_once, serial, strict=True):
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)


# --- global state -----------------------------------------------------------------------------


def global_state():
    """Everything that another part of the user's program could notice."""
    return {
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": repr(np.random.mtrand._rand.get_state(legacy=False)),
        "python's generator": random.getstate(),
        "numpy's errors": np.geterr(),
        "scikit-learn's configuration": get_config(),
    }


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# What the rest of a program may have set.
SURROUNDINGS = {
    "nothing": nullcontext,
    "no_grad": torch.no_grad,
    "double by default": lambda: default_dtype(torch.float64),
}
every_surrounding = pytest.mark.parametrize("enter", SURROUNDINGS.values(), ids=SURROUNDINGS)


@every_surrounding
def test_answers_neither_read_nor_change_global_state(enter, manifold, name, serial, X):
    with enter():
        before = global_state()
        actual = ask(manifold, X)
        assert global_state() == before
    assert_same_bits(actual, serial[name])


@every_surrounding
def test_fit_neither_reads_nor_changes_global_state(enter, name, X):
    template = LyapunovManifold(model=FAMILIES[name](), **OPTIONS)
    expected = template.fit(X).exponents_
    with enter():
        before = global_state()
        actual = template.fit(X).exponents_
        assert global_state() == before
    np.testing.assert_array_equal(actual, expected)
