"""The benchmark of detectors: its outliers are what it says, a tiny run gives a table."""

from dataclasses import replace

import numpy as np
import pytest

from alignlearn import LyapunovManifold
from alignlearn.models import GaussianModel

pytestmark = [
    pytest.mark.usefixtures("scripts"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def test_steps_across_are_normal_and_as_long_as_their_name():
    import detector

    case = replace(detector.CASES["off/sphere5"], n=50)
    sample, fresh = case.sample(0), case.fresh(0, 20)
    found = detector.outliers(case, sample, fresh, 0)
    step = found["across 0.5"] - fresh.points
    np.testing.assert_allclose(np.linalg.norm(step, axis=1), 0.5 * sample.points.std())
    along = fresh.tangents.swapaxes(1, 2) @ step[..., None]
    np.testing.assert_allclose(along, 0, atol=1e-12)


def test_digits_to_learn_from_and_to_be_judged_share_no_row():
    import detector

    case = detector.CASES["off/digits"]
    train, fresh = case.sample(3), case.fresh(3, 500)
    assert len(train.points) + len(fresh.points) <= 1797
    seen = {row.tobytes() for row in train.points}
    assert not [row for row in fresh.points if row.tobytes() in seen]
    spoiled = detector.outliers(case, train, fresh, 3)
    for name, X in spoiled.items():
        assert X.shape == fresh.points.shape and 0 <= X.min() and X.max() <= 1, name
        assert np.mean((X != fresh.points).any(axis=1)) > 0.99, name


def test_a_tiny_run_measures_every_detector_and_makes_a_table(tmp_path):
    import detector
    from common import Job, Store, run_jobs

    case = replace(detector.CASES["off/sphere5"], n=60)
    manifold = LyapunovManifold(model=GaussianModel(), n_steps=2, n_paths=1, n_reference=10)
    job = Job(case, 0, manifold)
    result = detector.measure(job, tmp_path)
    kinds = {"midpoints", *(f"across {step:g}" for step in detector.STEPS)}
    for name, auc in result["auc"].items():
        assert set(auc) == kinds and all(0 <= value <= 1 for value in auc.values()), name
    store = Store("detector", tmp_path)
    assert run_jobs(lambda job: result, [job], store) == 0
    assert run_jobs(lambda job: 1 / 0, [job], store) == 0  # done already
    rows = detector.table(store.latest()).splitlines()
    assert len(rows) == 2 + len(kinds) and all(row.count("|") == 11 for row in rows)
    header, _, row = detector.summary(store.latest()).splitlines()
    assert header.count("|") == row.count("|") == 3 + len(kinds) and row.count(" / ") == 2 * len(
        kinds
    )
    best = detector.best_of(result["auc"], "OneClassSVM")
    assert all(best[kind] >= result["auc"]["OneClassSVM"][kind] for kind in kinds)


def test_command_runs_nothing_when_only_the_table_is_asked_for(tmp_path, capsys):
    import detector

    assert detector.main(["--table", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("| data | outliers |")
