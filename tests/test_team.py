"""Laws of fits in several processes: those of one, and nobody waits for ever."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import team_fits
import torch

from alignlearn._team import ALONE, Team

ROOT = Path(__file__).parent.parent
FITS = ["Diffusion", "FlowMatching", "rows on disk", "LyapunovManifold", "network of the user"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the rows are, and what comes out."""
    folder = tmp_path_factory.mktemp("team")
    team_fits.X.tofile(folder / "rows")
    return folder


@pytest.fixture(scope="module")
def team(folder):
    """What two processes ended with, started by torchrun."""
    if not torch.distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launch, str(ROOT / "tests/team_fits.py"), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"process {rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(folder):
    """What one process ends with."""
    return {name: team_fits.outcome(fit) for name, fit in team_fits.fits(folder).items()}


def assert_close(actual, expected):
    """Equal up to the rounding of single precision."""
    assert actual["steps"] == expected["steps"]
    np.testing.assert_allclose(actual["weights"], expected["weights"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FITS)
def test_two_processes_fit_the_model_of_one(name, team, alone):
    assert_close(team[0][name], alone[name])
    for curve in ("train", "held_out"):
        for losses, expected in zip(team[0][name][curve], alone[name][curve], strict=True):
            np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(team[0][name]["exponents"], alone[name]["exponents"], atol=1e-5)
    assert team[0][name]["dimension"] == alone[name]["dimension"]


@pytest.mark.parametrize("name", FITS)
def test_processes_end_with_the_same_bits(name, team):
    assert team[0][name] == team[1][name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other rows", "differ in center and scale of the data"),
        ("fewer rows", "differ in .*data"),
        ("another parameter", r"differ in width \(8 in process 0, 9 in 1\).*same data and param"),
        ("no seed", "random_state=None.*the same integer"),
        ("no seed of the manifold", "differ in random_state.*integer random_state"),
        ("tiny batch", "batch_size=1 rows cannot be shared by the 2 processes"),
    ],
)
def test_processes_that_were_given_different_things_are_all_refused(name, message, team):
    for process in team:
        assert process[name]["error"].startswith("ValueError: ")
    assert team[0][name] == team[1][name]
    assert re.search(message, team[0][name]["error"])


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("NaN", "ValueError: Input X contains NaN", "process 1 of the 2 that fit together: Value"),
        ("failure in a step", "OSError: no such luck", "another process"),
        ("failure in an evaluation", "OSError: no such luck", "another process"),
    ],
)
def test_failure_in_one_process_ends_the_others_too(name, own, message, team):
    assert team[1][name]["error"].startswith(own)
    assert message in team[0][name]["error"]


@pytest.mark.parametrize(
    "name", ["interrupt in a step", "interrupt in the first", "interrupt in an evaluation"]
)
def test_interrupt_of_one_process_keeps_the_same_best_weights_in_all(name, team):
    first, second = (process[name] for process in team)
    assert first == second
    assert len(first["steps"][0]) < len(team[0]["network of the user"]["steps"][0])
    assert "interrupted" in first["warnings"][0]


def test_callback_that_stops_one_process_stops_all_after_the_same_evaluation(team):
    assert team[0]["callback"] == team[1]["callback"]
    assert len(team[0]["callback"]["steps"]) == 3


def test_checkpoint_of_a_team_is_written_once_and_finished_by_one_process(team, alone, folder):
    assert [path.name for path in folder.glob("kept by *")] == ["kept by 0"]
    rest = team_fits.eventful().set_params(checkpoint=folder / "kept by 0")
    assert len(team[0]["checkpoint"]["steps"][0]) > 0
    assert_close(team_fits.outcome(lambda: rest.fit(team_fits.X)), alone["network of the user"])


def test_interrupted_team_goes_on_as_if_nothing_had_happened(team):
    for process in team:
        assert process["resumed"] == process["network of the user"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [7, 33, 256])
def test_shares_cover_all_rows_once_and_weights_make_the_mean(size, n):
    shares = [Team(rank, size) for rank in range(size)]
    assert [i for team in shares for i in range(n)[team.share(n)]] == list(range(n))
    means = [np.arange(n)[team.share(n)].mean() * team.weight(n) for team in shares]
    assert sum(means) == pytest.approx((n - 1) / 2)


def test_without_a_launcher_there_is_one_process():
    assert Team.current() == ALONE
