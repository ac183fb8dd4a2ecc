"""The benchmark of failures runs on tiny data, knows its truth, and ends in a table."""

import numpy as np
import pytest

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion

pytestmark = pytest.mark.usefixtures("scripts")


def test_every_sample_has_orthonormal_tangents_as_many_as_its_dimension():
    import failures

    for case in failures.CASES.values():
        sample = failures.KnownSample(*case.make(min(case.n, 200), random_state=0))
        gram = sample.tangents.swapaxes(1, 2) @ sample.tangents
        expected = np.arange(gram.shape[1]) < sample.dimension[:, None]
        np.testing.assert_allclose(gram, expected[..., None] * np.eye(gram.shape[1]), atol=1e-9)
        assert len(sample.points) == len(sample.dimension) == len(sample.tangents)


def test_error_is_zero_for_the_truth_and_none_where_there_is_none_to_miss():
    import failures

    def error(name):
        case = failures.CASES[f"failures/{name}"]
        sample = case.make(200, random_state=0)
        frames = np.linalg.qr(sample.tangents + 1e-13).Q  # completes the columns that are zero
        return failures.angle_error(case, frames, sample)

    for name in ("torus-1000", "random10-300", "outliers-uniform", "pieces"):
        assert error(name) == pytest.approx(0, abs=1e-4)
    assert error("gaussian10") is error("digits") is None


def test_points_compared_are_no_outliers():
    import failures

    sample = failures.torus(400, outliers="uniform", random_state=0)
    rows = failures.query_rows(sample, 0)
    assert len(sample.points) == 404 and len(rows) == failures.N_QUERY and rows.max() < 400
    one = failures.torus(400, outliers="one", random_state=0).points
    sigma = np.sqrt(one[:-1].var(axis=0).mean())
    assert np.linalg.norm(one[-1] - one[:-1].mean(0)) == pytest.approx(50 * sigma)


def test_headline_ends_at_a_colon_or_full_stop_and_not_within_a_number():
    import failures

    assert failures.headline("only 0.5 of 1: either.") == "only 0.5 of 1"
    assert failures.headline("rate -0.12 here. Do that: x") == "rate -0.12 here"
    assert failures._without_numbers("a rate of only -0.12 (the floor)") == "a rate of only ..."


@pytest.mark.filterwarnings("ignore")
def test_script_measures_resumes_and_makes_its_table(tmp_path, monkeypatch, capsys):
    import common
    import failures

    monkeypatch.setattr(common, "N_CORES", 1)  # short calls are slower with two threads
    monkeypatch.setattr(failures, "N_QUERY", 10)
    monkeypatch.setattr(failures, "BUDGETS", (2,))
    small = {
        name: common.Case(case.name, case.title, case.make, 60, case.noise, case.is_torus)
        for name, case in failures.CASES.items()
        if name.split("/")[1] in ("torus-1000", "pieces", "gaussian10", "digits")
    }
    monkeypatch.setattr(failures, "CASES", small)
    model = Diffusion(max_iter=3, width=8, n_blocks=1, n_estimators=1, batch_size=32)
    manifold = LyapunovManifold(model=model, n_steps=2, n_paths=1, n_reference=10)
    jobs = failures.make_jobs(small, [0], manifold)
    assert [job.manifold.model.max_iter for job in jobs] == [3, 2, 3, 3, 3]
    store = common.Store("failures", tmp_path)
    assert common.run_jobs(failures.measure, jobs, store, workers=1) == 0
    assert common.run_jobs(failures.measure, jobs, store, workers=1) == 0
    assert "0 of 5 jobs to run" in capsys.readouterr().out
    script, build = failures.FAILURE_TABLES["failures"]
    monkeypatch.setitem(failures.ROWS, failures.BUDGET_HEADING, [(failures.TORUS, 2)])
    table = build(common.Store(script, tmp_path).latest())
    assert "| too little training | torus, n = 1000, max_iter = 2 |" in table
    assert "(1 and 3)" in table and "(10)" in table and "(?)" in table
    assert table.count("\n") == 6  # header, rule, five rows
