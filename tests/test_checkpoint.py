"""Laws of the checkpoint: a fit that was killed ends as if it had not been."""

import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_fits import EVERY, MOMENTS, STEPS
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from alignlearn import LyapunovManifold, _files, training
from alignlearn.checkpoint import FILE
from alignlearn.datasets import make_sphere
from alignlearn.models import Diffusion

X = make_sphere(60, 2, random_state=0).points
ROOT = Path(__file__).parent.parent


def small(checkpoint=None, **options):
    options = {"width": 16, "n_blocks": 1, "max_iter": 12, "random_state": 0} | options
    return Diffusion(checkpoint=checkpoint, **options)


def answers(model):
    return [*model.denoiser_.state_dict().values(), model.histories_, model.sample(3).tolist()]


def assert_same(model, other):
    for a, b in zip(answers(model), answers(other), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# --- killed -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What the fits of `killed_fits` came to."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    command = [sys.executable, str(ROOT / "tests/killed_fits.py"), tmp_path_factory.mktemp("fits")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_fit_ends_bitwise_like_the_whole_one(moment, killed):
    """Weights, training curves and samples, after one more fit or several."""
    assert killed[moment]["killed"]
    assert killed[moment]["hash"] == killed["whole"]["hash"]


@pytest.mark.parametrize("moment", ["first network", "just after a network", "last step"])
def test_killed_fit_repeats_no_more_than_one_evaluation_interval(moment, killed):
    ((_, step),) = MOMENTS[moment]
    assert killed["whole"]["steps"] == 2 * STEPS
    assert 2 * STEPS - step < killed[moment]["steps"] <= 2 * STEPS - step + EVERY


@pytest.mark.parametrize("moment", MOMENTS)
def test_process_killed_while_writing_leaves_no_litter(moment, killed):
    assert killed[moment]["files"] == [FILE]


def test_finished_fit_returns_at_once_and_equal(killed):
    assert killed["finished"] == {"hash": killed["whole"]["hash"], "steps": 0}


# --- interrupted, early, in a manifold --------------------------------------------------------


def interrupt_at(monkeypatch, step):
    """Raise KeyboardInterrupt before a step, once."""
    calls, one_cycle = [], training.one_cycle

    def counted(progress):
        calls.append(progress)
        if len(calls) == step:
            raise KeyboardInterrupt
        return one_cycle(progress)

    monkeypatch.setattr(training, "one_cycle", counted)


def test_checkpoint_changes_no_float(tmp_path):
    assert_same(small(tmp_path / "new" / "folder").fit(X), small().fit(X))


@pytest.mark.parametrize("step", [1, 5, 17])
def test_interrupted_fit_keeps_its_model_and_goes_on_when_fitted_again(step, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.warns(ConvergenceWarning, match="interrupted"):
        interrupt_at(patch, step)
        cut = small(tmp_path).fit(X)
    assert np.isfinite(cut.sample(3)).all()
    assert_same(small(tmp_path).fit(X), small().fit(X))


def test_trainings_that_stop_early_are_resumed_too(tmp_path, monkeypatch):
    options = {"learning_rate": 0.5, "n_iter_no_change": 1, "n_estimators": 2, "max_iter": 80}
    whole = small(**options).fit(X)
    assert len(whole.histories_) > 2
    with monkeypatch.context() as patch, pytest.warns(ConvergenceWarning, match="interrupted"):
        interrupt_at(patch, sum(h.steps[-1] for h in whole.histories_[:2]) + 1)
        small(tmp_path, **options).fit(X)
    assert_same(small(tmp_path, **options).fit(X), whole)


def test_fit_without_a_seed_goes_on_with_the_one_it_had(tmp_path):
    first = small(tmp_path, random_state=None).fit(X)
    again = small(tmp_path, random_state=None).fit(X)
    assert first.histories_ == again.histories_
    assert first.histories_ != small(random_state=None).fit(X).histories_


def test_random_state_objects_are_told_apart_by_their_state(tmp_path):
    first = small(tmp_path, random_state=np.random.RandomState(1)).fit(X)
    again = small(tmp_path, random_state=np.random.RandomState(1)).fit(X)
    assert first.histories_ == again.histories_
    with pytest.raises(ValueError, match="random_state"):
        small(tmp_path, random_state=np.random.RandomState(2)).fit(X)


def test_checkpoint_leaves_the_global_generator_alone(tmp_path):
    before = np.random.mtrand._rand.get_state()[1].tolist()
    small(tmp_path).fit(X)
    assert np.random.mtrand._rand.get_state()[1].tolist() == before


def test_network_of_the_user_is_resumed(tmp_path, monkeypatch):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x, log_s):
            return self.layer(x)

    torch.manual_seed(0)
    network = Network()
    with monkeypatch.context() as patch, pytest.warns(ConvergenceWarning, match="interrupted"):
        interrupt_at(patch, 17)
        small(tmp_path, network=network).fit(X)
    assert_same(small(tmp_path, network=network).fit(X), small(network=network).fit(X))
    with pytest.raises(ValueError, match="network"):
        small(tmp_path, network=Network()).fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_manifold_passes_the_checkpoint_through(tmp_path):
    options = {"n_steps": 2, "n_paths": 1, "n_reference": 10, "random_state": 3}
    first, again, plain = (
        LyapunovManifold(model=small(folder, random_state=None), **options).fit(X)
        for folder in (tmp_path, tmp_path, None)
    )
    for twin in (again, plain):
        np.testing.assert_array_equal(first.tangent_space(X), twin.tangent_space(X))


# --- another fit's folder ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "data", "named"),
    [
        ({"random_state": 1}, X, "random_state"),
        ({"max_iter": 13}, X, "max_iter"),
        ({"width": 8}, X, "width"),
        ({}, X[::-1], "data"),
        ({}, X[:50], "data"),
        ({}, np.nextafter(X, np.inf) + 1e-3 * X**2, "data"),
    ],
)
def test_folder_of_another_fit_is_refused_with_what_differs(options, data, named, tmp_path):
    small(tmp_path).fit(X)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ValueError, match=f"another fit.* {named} .*another folder"):
        small(tmp_path, **options).fit(data)
    assert (tmp_path / FILE).read_bytes() == before


def test_damaged_checkpoint_is_refused(tmp_path):
    small(tmp_path).fit(X)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[-1] ^= 1
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        small(tmp_path).fit(X)


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="checkpoint must be a folder"):
        small(tmp_path / "file").fit(X)


@pytest.mark.parametrize("checkpoint", [3, b"folder", ["a"]])
def test_checkpoint_that_is_no_path_is_refused(checkpoint):
    with pytest.raises(ValueError, match="checkpoint must be a folder or None"):
        small(checkpoint).fit(X)


# --- a full disk ------------------------------------------------------------------------------


def test_full_disk_warns_keeps_the_old_file_and_does_not_end_training(tmp_path, monkeypatch):
    """The third write and all later ones fail; what the second one wrote is resumed from."""
    monkeypatch.setattr("alignlearn.checkpoint._SHARE", 0)
    fsync, calls, kept = _files.os.fsync, [], []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 5:  # two writes were two files and two folders
            kept.append((tmp_path / FILE).read_bytes())
        if len(calls) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(_files.os, "fsync", full)
        model = small(tmp_path).fit(X)
    assert any("No space left" in str(w.message) for w in caught)
    assert {w.category for w in caught} == {RuntimeWarning}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == kept[0]
    assert_same(model, small().fit(X))
    assert_same(small(tmp_path).fit(X), model)
