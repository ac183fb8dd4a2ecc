"""The study of errors in generation: true supports, orders and correlations, and a tiny run."""

from dataclasses import replace

import numpy as np
import pytest

from alignlearn import LyapunovManifold, ManifoldSupport
from alignlearn.models import GaussianModel

pytestmark = [
    pytest.mark.usefixtures("scripts"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def test_nearest_points_are_those_that_points_were_lifted_from(rng):
    import robustness

    for name, case in robustness.CASES.items():
        sample = replace(case, noise=0.0, n=300).sample(0)
        normals = np.linalg.svd(sample.tangents).U[..., -1]
        X = sample.points + rng.uniform(-0.1, 0.1, (300, 1)) * normals
        points, found = robustness.NEAREST[name](X)
        np.testing.assert_allclose(points, sample.points, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(np.abs(np.sum(found * normals, axis=1)), 1, err_msg=name)
        far = sample.points + rng.standard_normal(X.shape)
        best = np.linalg.norm(far - robustness.NEAREST[name](far)[0], axis=1)
        others = np.linalg.norm(far[:, None] - sample.points, axis=-1).min(axis=1)
        assert (best <= others + 1e-12).all(), name
    beyond = np.array([[-1.2, -0.4], [2.3, 0.9]])  # ends of the moons
    np.testing.assert_allclose(
        robustness.nearest_on_moons(beyond)[0], [[-1, 0], [2, 0.5]], atol=1e-12
    )


def test_moves_are_split_by_the_true_support():
    import robustness

    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    X = np.c_[np.cos(angle), np.sin(angle)]
    ruler = robustness.Ruler(X, X, robustness.nearest_on_sphere, 0.0)
    assert ruler.unit == pytest.approx(0.5**0.5)
    turned = X @ np.array([[0.0, 1.0], [-1.0, 0.0]])  # a quarter of the circle
    along = ruler(X, turned)
    assert along["along"] == pytest.approx(2.0) and along["off"] == pytest.approx(0, abs=1e-12)
    assert along["near"] == 1 and along["margin_kept"] == pytest.approx(1)
    off = ruler(0.9 * X, 1.2 * X)  # through the support
    assert off["along"] == pytest.approx(0, abs=1e-12)
    assert off["off"] == pytest.approx(0.3 * 2**0.5) and off["near"] == 0
    assert off["distance"] == pytest.approx(0.2 * 2**0.5)
    assert off["margin_kept"] < 0.9 and off["inside"] == 0


def test_partial_rank_correlation_takes_out_the_third(rng):
    import robustness_tables as tables

    z = rng.standard_normal(4000)
    x, y = (z + 0.5 * rng.standard_normal(4000) for _ in range(2))
    assert tables.rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert tables.rank_correlation(x, y) > 0.7
    assert abs(tables.rank_correlation(x, y, z)) < 0.06
    assert np.isnan(tables.rank_correlation(x, np.ones(4000)))


def tiny_records(tmp_path, monkeypatch):
    import robustness
    from common import Store, run_jobs

    monkeypatch.setattr(robustness, "N_SAMPLES", 30)
    monkeypatch.setattr(robustness, "N_FRAMES", 4)
    short = {name: (solver, 3) for name, (solver, _) in robustness.PROCESSES.items()}
    monkeypatch.setattr(robustness, "PROCESSES", short)
    monkeypatch.setattr(robustness, "FLOW_STEPS", 3)
    jobs = robustness.make_jobs(
        ["robust/moons", "robust/circle"], [0], ["SGM", "CFM"], ["velocity", "score"], max_iter=2
    )
    assert [job.options["source"] for job in jobs].count("8 Gaussians") == 1
    small = [replace(job, case=replace(job.case, n=60)) for job in jobs]
    for job in small:
        job.manifold.model.set_params(width=8, n_blocks=1)
    store = Store("robustness", tmp_path)
    assert run_jobs(robustness.measure, small, store) == 0
    assert run_jobs(lambda job: 1 / 0, small, store) == 0  # done already
    return store.latest()


def test_a_tiny_run_measures_every_process_and_makes_its_tables(tmp_path, monkeypatch):
    import robustness
    import robustness_tables as tables

    monkeypatch.setattr(tables, "N_RESAMPLES", 5)
    records = tiny_records(tmp_path, monkeypatch)
    runs = tables.runs_of(records)
    processes = {key[2] for key in runs}
    assert processes == {*robustness.PROCESSES, "CFM"}
    for seeds in runs.values():
        part = seeds[0]
        assert 0 <= part["alignment"] <= part["alignment_95"] <= 1
        still, large = part["errors"]["velocity"]["0"], part["errors"]["velocity"]["1"]
        assert still["along"] == still["off"] == 0 < large["off"]
        assert ("score" in part["errors"]) == (part["errors"].keys() != {"velocity"})
    for name, (_, build) in tables.ROBUSTNESS_TABLES.items():
        lines = build(records).splitlines()
        assert len(lines) > 2 and len({line.count(" | ") for line in lines}) == 1, name
    order = tables.order_table(records)
    assert "SGM-ODE" in order and "two moons, curve" in order


def test_digits_move_by_one_length_in_every_direction(rng):
    import digits_support

    X = rng.standard_normal((50, 4)) * [2, 1, 0.1, 0.1]
    frames = np.broadcast_to(np.eye(4)[:, :2], (50, 4, 2))
    for name, Y in digits_support.moved(X, frames, 0.7, rng).items():
        np.testing.assert_allclose(np.linalg.norm(Y - X, axis=1), 0.7)
        assert (name == "along") == np.allclose((Y - X)[:, 2:], 0)
        assert (name == "across") == np.allclose((Y - X)[:, :2], 0)
    manifold = LyapunovManifold(model=GaussianModel(), n_steps=4, n_paths=1, n_reference=10)
    support = ManifoldSupport(manifold, random_state=0).fit(X)
    assert digits_support.inside_table(support, X, 0).count("\n") == 1 + len(digits_support.SHARES)
