"""Laws of saving and loading: the same answers, nothing foreign, nothing half."""

import copy
import errno
import io
import json
import math
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load as read_safetensors
from safetensors.numpy import save as to_safetensors
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from tables import MODELS, PREDICTIONS, SCHEDULES, SOLVERS, cases
from torch import nn

from alignlearn import LyapunovManifold, _files, load, save
from alignlearn.clocks import LogNoiseClock, NoiseClock
from alignlearn.datasets import make_sphere
from alignlearn.models import Diffusion, GaussianModel, KernelDiffusion, PretrainedModel
from alignlearn.models.denoisers import PreconditionedDenoiser
from alignlearn.networks import ColumnTime, GatedNetwork
from alignlearn.persistence import CLASSES
from alignlearn.predictions import SamplePrediction
from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import ExponentialMidpoint

DATA = Path(__file__).parent / "data"
SPHERE = make_sphere(60, 2, random_state=0).points
FLAT = SPHERE @ np.random.default_rng(0).standard_normal((3, 5))  # learned in its span
IMAGES = np.random.default_rng(0).random((40, 20))

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def manifold_of(make_model):
    return lambda: LyapunovManifold(
        model=make_model(), n_steps=2, n_paths=1, n_reference=10, random_state=0
    )


def one_network():
    return MODELS["Diffusion"](n_estimators=1)


def own_network():
    """A pretrained model whose network is the library's: all that a file holds."""
    generator = torch.Generator().manual_seed(0)
    network = PreconditionedDenoiser(GatedNetwork(3, width=8, n_blocks=1, generator=generator))
    return PretrainedModel(
        ColumnTime(network.requires_grad_(False).eval()),
        SamplePrediction(),
        VarianceExploding(0.01, 50.0),
        clock=NoiseClock(),
        random_state=0,
    )


SAVED_MODELS = MODELS | {"PretrainedModel": own_network}
ESTIMATORS = SAVED_MODELS | {
    "manifold of GaussianModel": manifold_of(MODELS["GaussianModel"]),
    "manifold of Diffusion": manifold_of(one_network),
}
FITTED = {
    **{name: (make, SPHERE) for name, make in ESTIMATORS.items()},
    "Diffusion in a subspace": (one_network, FLAT),
    "Diffusion of images": (lambda: one_network().set_params(image_shape=(4, 5)), IMAGES),
}


@pytest.fixture(scope="module", params=FITTED.values(), ids=FITTED)
def fitted(request):
    """A fitted estimator, its data and its answers; not to be changed."""
    make, X = request.param
    estimator = make().fit(X)
    return estimator, X, answers(estimator, X)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "estimator.safetensors"


def answers(estimator, X):
    """What an estimator says, as arrays."""
    said = [estimator.sample(2), estimator.score_samples(X[:2])]
    if isinstance(estimator, LyapunovManifold):
        frame = estimator.lyapunov_frame(X[:5])
        said += [*frame, estimator.dimension(X[:5]), estimator.reference_exponents_]
        said += [np.array([estimator.noise_level_, *estimator.dimension_estimate_])]
        said += [estimator.project(X[:5]), estimator.transform(X[:5])]
    else:
        said += [estimator.encode(X).cpu().numpy(), np.array(estimator.noise_range_)]
    return said


def assert_answers(twin, X, expected):
    for a, b in zip(answers(twin, X), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def digest_of(file):
    with safe_open(file, framework="numpy") as opened:
        return opened.metadata()["sha256"]


# --- save and load ----------------------------------------------------------------------------


def test_loaded_estimator_answers_bitwise_the_same(fitted, path):
    estimator, X, expected = fitted
    save(estimator, path)
    twin = load(path, device="cpu")
    assert_answers(twin, X, expected)
    assert type(twin) is type(estimator)
    assert vars(twin).keys() == vars(estimator).keys()
    assert repr(twin.get_params()) == repr(estimator.get_params())


def test_chart_that_nobody_asked_for_yet_is_computed_after_loading(path):
    manifold = ESTIMATORS["manifold of Diffusion"]().fit(SPHERE)
    save(manifold, path)
    np.testing.assert_array_equal(load(path, device="cpu").embedding_, manifold.embedding_)


def test_loaded_estimator_can_be_fitted_again(fitted, path):
    estimator, X, expected = fitted
    save(estimator, path)
    assert_answers(load(path, device="cpu").fit(X), X, expected)


@pytest.mark.parametrize("make", **cases(ESTIMATORS))
def test_estimator_that_is_not_fitted_is_saved_as_such(make, path):
    save(make(), path)
    twin = load(path)
    assert repr(twin.get_params()) == repr(make().get_params())
    assert vars(twin).keys() == vars(make()).keys()


@pytest.mark.parametrize("prediction", **cases(PREDICTIONS))
def test_every_prediction_is_saved(prediction, path):
    save(PretrainedModel(prediction=prediction, clock=LogNoiseClock(0.25)), path)
    assert load(path).prediction == prediction
    assert load(path).clock == LogNoiseClock(0.25)


@pytest.mark.parametrize("make_solver", **cases(SOLVERS))
@pytest.mark.parametrize("schedule", **cases(SCHEDULES))
def test_every_solver_and_schedule_is_saved(make_solver, schedule, path):
    solver = make_solver(schedule)
    save(LyapunovManifold(solver=solver), path)
    assert load(path).solver == solver


VALUES = {
    "None": None,
    "bool": True,
    "int": 2**70,
    "float": 0.1 + 0.2,
    "smallest float": 5e-324,
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
    "-0.0": -0.0,
    "text": 'ä\udc80"\x00',
    "tuple": (1, (2.5, "a"), [3, (4,)]),
    "dict": {"a": (1,), 2: [None], (3, 4): {"tuple": 5}},
    "numpy scalar": np.float64(0.1),
    "numpy bool": np.bool_(True),
    "small float": np.float32(0.1),
    "empty": np.zeros((0, 3)),
    "0-dimensional": np.array(1.5),
    "special floats": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    "Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(24).reshape(4, 6)[::2, ::-1],
    "turned": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    "big-endian": np.arange(3, dtype=">f8"),
    "bits": np.array([True, False]),
    "integers": np.arange(3, dtype=np.uint8),
    "names": np.array(["a", "bb"], dtype=object),
    "more names": np.array([["a", "bb"]]),
    "device": torch.device("cuda:1"),
    "tensor": torch.arange(6.0).reshape(2, 3).T,
    "half": torch.ones(2, dtype=torch.float16),
}


@pytest.mark.parametrize("value", **cases(VALUES))
def test_value_comes_back_as_it_was(value, path):
    """Values bit by bit, their types, and the order of arrays in memory."""
    save(GaussianModel(s_min=value), path)
    back = load(path, device="cpu").s_min
    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(back, value)
        assert back.dtype == value.dtype.newbyteorder("=")
        assert back.flags.f_contiguous == value.flags.f_contiguous or value.base is not None
    elif isinstance(value, torch.Tensor):
        assert torch.equal(back, value) and back.dtype == value.dtype
        assert back.stride() == value.stride()
    else:
        assert repr(back) == repr(value)


def test_random_state_object_comes_back_in_its_state(path):
    random_state = np.random.RandomState(3)
    random_state.normal(size=3)  # leaves one drawn ahead
    save(GaussianModel(random_state=random_state), path)
    np.testing.assert_array_equal(
        load(path).random_state.normal(size=9), random_state.normal(size=9)
    )


def test_feature_names_survive(path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(SPHERE, columns=["a", "b", "c"])
    model = GaussianModel(random_state=0).fit(X)
    save(model, path)
    np.testing.assert_array_equal(load(path).feature_names_in_, model.feature_names_in_)
    assert load(path).feature_names_in_.dtype == object


def test_callbacks_are_not_saved(path):
    callback = pytest.importorskip("sklearn.callback")
    model = MODELS["Diffusion"]().set_callbacks(callback.ProgressBar())
    save(LyapunovManifold(model=model), path)
    assert vars(load(path).model).keys() == vars(MODELS["Diffusion"]()).keys()


def test_parameter_that_is_newer_than_the_file_has_its_default(path, monkeypatch):
    model = KernelDiffusion(s_max=3.0).fit(SPHERE)
    del model.n_neighbors  # as if written before there was one
    save(model, path)
    assert load(path).n_neighbors == 5 and load(path).s_max == 3.0


class OnAnotherDevice(torch.Tensor):
    """Stands in for a tensor on CUDA: no way to numpy but through the CPU."""

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is another device: see below")
def test_model_saved_on_another_device_loads_on_the_cpu(path):
    model = KernelDiffusion(random_state=0).fit(SPHERE)
    expected = model.score_samples(SPHERE)
    model.points_ = model.points_.as_subclass(OnAnotherDevice)
    save(model, path)
    assert b"cpu" not in path.read_bytes() and b"cuda" not in path.read_bytes()
    np.testing.assert_array_equal(load(path, device="cpu").score_samples(SPHERE), expected)
    with pytest.raises(ValueError, match="device"):
        load(path, device="no such device")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_model_saved_on_cuda_loads_on_the_cpu(path):
    model = MODELS["Diffusion"](device="cuda").fit(SPHERE)
    save(model, path)
    twin = load(path, device="cpu")
    assert {p.device.type for p in twin.denoiser_.parameters()} == {"cpu"}
    np.testing.assert_allclose(twin.sample(3), model.sample(3), atol=1e-3)


# --- what is no part of a file ----------------------------------------------------------------


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x, log_s):
        return self.layer(x)


class OwnSolver(ExponentialMidpoint):
    pass


class OwnModel(GaussianModel):
    pass


FOREIGN = {
    "network": (Diffusion(network=Network()), r"network is a .*Network"),
    "fitted network": (
        lambda: Diffusion(network=Network(), max_iter=1).fit(SPHERE).set_params(network=None),
        r"denoiser_\.members\.0\.network is a .*Network",
    ),
    "solver": (LyapunovManifold(solver=OwnSolver()), r"solver is a .*OwnSolver"),
    "model": (LyapunovManifold(model=OwnModel()), r"model is a .*OwnModel"),
    "nested": (LyapunovManifold(model=Diffusion(network=Network())), r"model\.network is a"),
    "function": (GaussianModel(window=(1, [len])), r"window\[1\]\[0\] is a builtins\.builtin"),
    "generator": (GaussianModel(random_state=np.random.default_rng(0)), r"random_state is a numpy"),
    "objects": (GaussianModel(window=np.array([None])), r"window is an array of object"),
    "own model": (OwnModel(), r"save takes .*got OwnModel"),
    "pipeline": (make_pipeline(PCA(), GaussianModel()), r"save takes .*steps of a pipeline"),
    "number": (3, r"save takes .*got int"),
}


@pytest.mark.parametrize(("estimator", "message"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_object_is_refused_by_name_and_nothing_is_written(estimator, message, path):
    estimator = estimator() if callable(estimator) else estimator
    with pytest.raises(TypeError, match=message):
        save(estimator, path)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_and_no_litter(name, error, path, monkeypatch):
    def fail(*args):
        raise error

    save(GaussianModel(), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(_files.os, name, fail)
        save(KernelDiffusion(), path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_folder_that_is_missing_is_an_error_of_the_file_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        save(GaussianModel(), tmp_path / "missing" / "file")
    with pytest.raises(IsADirectoryError):
        save(GaussianModel(), tmp_path)
    assert not list(tmp_path.iterdir())


# --- damaged and foreign files ----------------------------------------------------------------


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "b")
    return buffer.getvalue()


def written(tmp_path, **metadata):
    """A file that is right but for some metadata, its hash included."""
    save(GaussianModel(), tmp_path / "right")
    with safe_open(tmp_path / "right", framework="numpy") as file:
        metadata = file.metadata() | metadata
    metadata["sha256"] = _files._digest(metadata, {})
    return to_safetensors({}, metadata)


CONTENT = '{"class": "%s", "fields": {}}'
DAMAGED = {
    "empty": (lambda _: b"", "no file of alignlearn"),
    "pickle": (lambda _: pickle.dumps(GaussianModel()), "no file of alignlearn"),
    "zip": (lambda _: zipped(), "no file of alignlearn"),
    "text": (lambda _: b"a,b\n1,2\n" * 9, "no file of alignlearn"),
    "huge header": (lambda _: struct.pack("<Q", 2**62) + b"{}", "no file of alignlearn"),
    "other safetensors": (
        lambda _: to_safetensors({"a": np.ones(3)}, {"format": "pt"}),
        "no alignlearn estimator: it is pt",
    ),
    "no metadata": (lambda _: to_safetensors({"a": np.ones(3)}), "of something else"),
    "checkpoint": (
        lambda folder: written(folder, format="alignlearn checkpoint"),
        "no alignlearn estimator: it is alignlearn checkpoint",
    ),
    "newer": (
        lambda folder: written(folder, format_version="2", library_version="9.1"),
        "format 2, written by alignlearn 9.1.*update",
    ),
    "unknown class": (
        lambda folder: written(folder, content=CONTENT % "os.system"),
        r"cannot rebuild: class os\.system is none of this version",
    ),
    "unknown field": (
        lambda folder: written(
            folder, content='{"class": "Gaussian", "fields": {"a": 1, "basis": 2}}'
        ),
        "cannot rebuild",
    ),
    "unknown node": (lambda folder: written(folder, content='{"lambda": 1}'), "known kind"),
    "no node": (lambda folder: written(folder, content="{}"), "cannot rebuild"),
    "no array": (lambda folder: written(folder, content='{"array": "a"}'), "cannot rebuild"),
    "not JSON": (lambda folder: written(folder, content="{"), "cannot rebuild"),
    "deep": (lambda folder: written(folder, content="[" * 10**5), "cannot rebuild"),
}


@pytest.mark.parametrize(("make", "message"), DAMAGED.values(), ids=DAMAGED)
def test_file_that_is_none_of_ours_is_refused_with_the_cause(make, message, path, tmp_path):
    path.write_bytes(make(tmp_path))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_missing_file_and_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
    with pytest.raises(ValueError, match="got the folder"):
        load(tmp_path)


def test_file_cut_anywhere_is_refused(path):
    save(GaussianModel().fit(SPHERE), path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="alignlearn"):
            load(path)


NUMBERS = [0, 1, -1, 7, 2**31, 2**62, 2**64 - 1, 2**70, 1e300, None, "a", [], {}]


def mutated(data, rng):
    """One random mutation of a safetensors file: bits, splices, lengths, or its header."""
    data, kind = bytearray(data), rng.integers(6)
    i, j, k = sorted(rng.integers(len(data), size=3).tolist())
    if kind == 0:
        for at in rng.integers(len(data), size=rng.integers(1, 9)):
            data[at] ^= 1 << rng.integers(8)
    elif kind == 1:
        data[i:j] = data[j:k]
    elif kind == 2:
        data[i:i] = rng.bytes(rng.integers(1, 40)) if rng.integers(2) else data[j:k]
    elif kind == 3:
        del data[i : i + int(rng.integers(1, 40))]
    elif kind == 4:
        length = struct.unpack("<Q", data[:8])[0]
        lengths = [0, 1, length - 1, length + 1, length + 8, len(data), 10**8, 2**63, 2**64 - 1]
        data[:8] = struct.pack("<Q", lengths[rng.integers(len(lengths))])
    else:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        edited(header, rng)
        text = json.dumps(header).encode() + b" " * int(rng.integers(9))
        data = struct.pack("<Q", len(text)) + text + data[8 + size :]
    return bytes(data)


def edited(header, rng):
    """Change, drop or rename a random entry of a JSON object, or of one inside it."""
    key = sorted(header)[rng.integers(len(header))]
    value = header[key]
    if isinstance(value, dict | list) and value and rng.integers(4):
        if isinstance(value, dict):
            return edited(value, rng)
        value[rng.integers(len(value))] = NUMBERS[rng.integers(len(NUMBERS))]
    elif key == "content" and rng.integers(2):
        content = json.loads(value)
        edited(content, rng)
        header[key] = json.dumps(content)
    else:
        choice = rng.integers(4)
        del header[key]
        if choice == 0:
            header[key] = NUMBERS[rng.integers(len(NUMBERS))]
        elif choice == 1:
            header[key] = {"F64": "I64", "I64": "F64"}.get(str(value), "BF16")
        elif choice == 2:
            header[key + "_"] = value
    return None


def test_every_one_of_3000_mutations_is_refused_or_harmless(path, tmp_path, monkeypatch):
    """Never another content, never another error, never memory that the file does not have."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(_files.os, "fsync", lambda descriptor: None)  # a slow disk is not the law
    save(GaussianModel(window=(0.02, math.inf), random_state=np.random.RandomState(0)), path)
    save(LyapunovManifold(model=GaussianModel(), n_reference=3).fit(SPHERE), path)
    whole, expected, refused = path.read_bytes(), digest_of(path), 0
    tracemalloc.start()
    for _ in range(3000):
        path.write_bytes(mutated(whole, rng))
        try:
            twin = load(path, device="cpu")
        except ValueError as error:
            refused += "alignlearn" in str(error)
        else:
            save(twin, tmp_path / "again")
            assert digest_of(tmp_path / "again") == expected
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 2500 and peak < 2e7


# --- files of earlier versions ----------------------------------------------------------------


def test_file_of_version_0_1_gives_the_numbers_stored_beside_it():
    """Written by tests/data/make_saved.py, once; it must load for ever."""
    manifold = load(DATA / "manifold-0.1.safetensors", device="cpu")
    expected = read_safetensors((DATA / "answers-0.1.safetensors").read_bytes())
    X = expected["X"]
    assert manifold.dimension_ == expected["dimension"]
    assert isinstance(manifold.solver, ExponentialMidpoint)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(manifold.exponents_, expected["spectrum"], **close)
    np.testing.assert_allclose(manifold.lyapunov_exponents(X), expected["exponents"], **close)
    np.testing.assert_allclose(manifold.score_samples(X), expected["log_density"], **close)
    np.testing.assert_allclose(manifold.sample(3), expected["sample"], **close)
    np.testing.assert_allclose(manifold.transform(X), expected["coordinates"], **close)


# --- pickle, joblib, deepcopy, skops ----------------------------------------------------------


def by_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def by_skops(estimator):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(estimator)
    types = skops.get_untrusted_types(data=data)
    named = {f"{cls.__module__}.{cls.__qualname__}" for cls in CLASSES.values()}
    assert set(types) <= named, "only the library's own classes need the user's trust"
    return skops.loads(data, trusted=types)


COPIES = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "joblib": by_joblib,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "skops": by_skops,
}


@pytest.mark.parametrize("duplicate", **cases(COPIES))
def test_copy_answers_bitwise_the_same(duplicate, fitted):
    estimator, X, expected = fitted
    assert_answers(duplicate(estimator), X, expected)


@pytest.mark.parametrize("duplicate", **cases(COPIES))
@pytest.mark.parametrize("make", **cases(ESTIMATORS))
def test_copy_of_an_estimator_that_is_not_fitted_is_the_same(duplicate, make):
    twin = duplicate(make())
    assert repr(twin.get_params()) == repr(make().get_params())
    assert vars(twin).keys() == vars(make()).keys()


@pytest.mark.parametrize("duplicate", **cases(COPIES))
def test_copy_can_be_fitted_again(duplicate):
    model = one_network().fit(SPHERE)
    assert_answers(duplicate(model).fit(SPHERE), SPHERE, answers(model, SPHERE))


@pytest.mark.parametrize("make", **cases(SAVED_MODELS))
def test_state_of_a_model_holds_no_tensor_and_no_module(make):
    def leaves(node):
        if isinstance(node, dict | list | tuple):
            for item in node.values() if isinstance(node, dict) else node:
                yield from leaves(item)
        else:
            yield node

    state = make().fit(SPHERE).__getstate__()
    assert not [leaf for leaf in leaves(state) if isinstance(leaf, torch.Tensor | nn.Module)]


def test_network_of_the_user_is_pickled_as_it_is():
    model = Diffusion(network=Network(), max_iter=1, random_state=0).fit(SPHERE)
    twin = pickle.loads(pickle.dumps(model))
    assert isinstance(twin.network, Network)
    np.testing.assert_array_equal(twin.sample(3), model.sample(3))
