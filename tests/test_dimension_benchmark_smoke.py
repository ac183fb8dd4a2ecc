"""The dimension benchmark runs on tiny data, ends in tables, and its estimates are the formulas."""

import math
import time
from functools import partial

import numpy as np
import pytest
from oracles import gaussian_log_density

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_sphere
from alignlearn.models import Diffusion, GaussianModel

pytestmark = pytest.mark.usefixtures("scripts")


def flat_gaussian(n=400, d=2, D=5):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((D, d))).Q
    return rng.standard_normal((n, d)) * np.linspace(1, 2, d) @ Q.T


@pytest.mark.parametrize("s", [0.05, 0.5, 2.0])
def test_flipd_is_the_derivative_of_the_log_density_by_the_noise(s):
    import dimension_cases

    X, h = flat_gaussian(), 1e-4
    model = GaussianModel().fit(X)
    x = model.encode(X).numpy()
    up, down = (gaussian_log_density(x[:20], x, s * math.exp(step)) for step in (h, -h))
    expected = x.shape[1] + (up - down) / (2 * h)
    found = dimension_cases.flipd(model, X[:20], s, n_rows=7)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_both_estimates_find_the_dimension_of_a_flat_gaussian():
    import dimension_cases

    X = flat_gaussian(d=3, D=7)
    model = GaussianModel().fit(X)
    for estimate in dimension_cases.ESTIMATES.values():
        np.testing.assert_allclose(estimate(model, X[:5], 0.01), 3, atol=0.01)


def test_cases_have_the_size_and_dimension_they_name():
    from dimension_cases import CASES, make_blobs, make_mixture, make_squares, truth

    pytest.importorskip("skdim")
    sample = CASES["bm/M4_Nonlinear/1000"].sample(0)
    assert sample.points.shape == (1000, 8) and sample.dimension == 4
    sample = make_squares(150, n_objects=100, random_state=0)
    assert np.linalg.matrix_rank(sample.points) == sample.dimension == 100
    images = make_blobs(20, n_objects=3, image_size=8, random_state=0).points
    assert images.min() == 0 and images.max() == 1
    sample = make_mixture(600, random_state=0)
    for d in (10, 30, 90):
        piece = sample.points[truth(sample) == d]
        assert np.linalg.matrix_rank(piece - piece.mean(axis=0), tol=1e-6) == d


def test_benchmark_sets_are_those_of_scikit_dimension():
    datasets = pytest.importorskip("skdim.datasets")
    from dimension_cases import CASES, MANIFOLDS

    suite = datasets.BenchmarkManifolds(random_state=3)
    data = suite.generate(n=1000)
    assert tuple(data) == MANIFOLDS
    np.testing.assert_array_equal(CASES["bm/M12_Norm/1000"].sample(3).points, data["M12_Norm"])


def test_peers_exist_and_all_of_them_are_run():
    skdim = pytest.importorskip("skdim")
    import dimension_peers

    names = {name for name in vars(skdim.id) if isinstance(getattr(skdim.id, name), type)}
    assert names == {*dimension_peers.LOCAL, *dimension_peers.GLOBAL}


def forever(*args):
    while time.process_time() < math.inf:
        pass


def test_slow_and_failing_peers_are_results(monkeypatch):
    pytest.importorskip("skdim")
    import common
    import dimension_peers

    case = common.Case("s", "S^2", partial(make_sphere, dim=2), 60)
    job = dimension_peers.PeerJob(case, 0, LyapunovManifold(), {"peer": "GRIDE"})
    monkeypatch.setattr(dimension_peers, "LIMIT_S", 0.05)
    monkeypatch.setattr(dimension_peers, "estimate", forever)
    assert "too slow" in dimension_peers.measure(job)["failure"]
    monkeypatch.setattr(dimension_peers, "estimate", lambda *args: float("nan"))
    assert "nan" in dimension_peers.measure(job)["failure"]
    monkeypatch.setattr(dimension_peers, "estimate", lambda *args: 1 / 0)
    assert "ZeroDivisionError" in dimension_peers.measure(job)["failure"]


def test_our_settings_do_not_make_the_peers_run_again():
    pytest.importorskip("skdim")
    import common
    import dimension_peers

    case = common.Case("s", "S^2", partial(make_sphere, dim=2), 60)
    keys = {
        dimension_peers.PeerJob(case, 0, manifold, {"peer": "MLE"}).key("x")
        for manifold in (LyapunovManifold(), LyapunovManifold(n_steps=2))
    }
    assert len(keys) == 1


@pytest.mark.filterwarnings("ignore")
def test_scripts_measure_and_make_their_tables(tmp_path, monkeypatch):
    pytest.importorskip("skdim")
    import common
    import dimension
    import dimension_cases
    import dimension_peers
    import dimension_tables

    monkeypatch.setattr(common, "N_CORES", 1)
    monkeypatch.setattr(dimension, "N_POINTS", {"flipd": (4, 2), "normal_bundle": (2, 1)})
    monkeypatch.setattr(dimension, "N_QUERY", 10)
    model = Diffusion(max_iter=3, width=8, n_blocks=1, batch_size=32)
    manifold = LyapunovManifold(model=model, n_steps=2, n_paths=1, n_reference=10)
    real = dimension_cases.parse_args

    def small(*args):
        parsed = real(*args)
        parsed.manifold = manifold
        return parsed

    mixture = partial(dimension_cases.make_mixture, dims=(1, 3), n_features=5)
    cases = {
        "bm/M5a_Helix1d/1000": dimension_cases.CASES["bm/M5a_Helix1d/1000"],
        "iddiff/sphere10": common.Case("iddiff/sphere10", "S^2", partial(make_sphere, dim=2), 150),
        "mixture": common.Case("mixture", "1 + 3", mixture, 150),
    }
    for module in (dimension_cases, dimension, dimension_peers):
        monkeypatch.setattr(module, "CASES", cases)
    for module in (dimension, dimension_peers):
        monkeypatch.setattr(module, "parse_args", small)
    options = ["--workers", "1", "--seeds", "1", "--results", str(tmp_path)]
    models = ["--models", str(tmp_path / "models")]
    assert dimension.main([*options, *models, "--cases", "*"]) == 0
    assert dimension_peers.main([*options, "--peers", "GRIDE", "MLE"]) == 0
    stores = [common.Store(name, tmp_path) for name in ("dimension", "dimension_peers")]
    ours, peers = (store.records() for store in stores)
    assert len(ours) == 3 and len(peers) == 6
    assert all(record["result"]["failure"] is None for record in peers)
    monkeypatch.setattr(dimension_tables, "CASES", cases)
    tables = {
        name: build(ours + peers) for name, (build, _) in dimension_tables.DIMENSION_TABLES.items()
    }
    assert "| GRIDE |" in tables["dimension-sets-1000"]
    assert "GeoMLE" in tables["dimension-sets-1000"]
    assert "| M5a_Helix1d | 1 | 3 |" in tables["dimension-each-1000"]
    assert "| S^2 | 2 |" in tables["dimension-iddiff"]
    assert "| MLE |" in tables["dimension-mixture"]
    assert tables["dimension-sets-2500"] == "*Not run yet.*"
    assert all(build([]) for build, _ in dimension_tables.DIMENSION_TABLES.values())


def test_summary_counts_failures_as_wrong_and_keeps_them_out_of_the_error():
    import dimension_tables

    def record(peer, dimension, name, seed=0):
        result = {"peer": peer, "dimension": dimension, "d": [4], "D": 8, "cpu_s": 1.0}
        return {"case": f"bm/{name}/1000", "seed": seed, "result": result}

    values = {"M4_Nonlinear": 5.0, "M9_Affine": None, "M12_Norm": 4.4}
    records = [record("X", value, name) for name, value in values.items()]
    text = dimension_tables.sets_summary_table(records)
    assert "| X | 17.5 % | 33.3 % | 1 of 3 | 1.00 |" in text


@pytest.mark.parametrize("pattern, count", [("bm/*/1000", 24), ("mixture", 1), ("iddiff/*", 9)])
def test_patterns_choose_cases(pattern, count):
    import dimension_cases

    args = dimension_cases.parse_args("x", 1, ["--cases", pattern])
    assert len(args.cases) == count
    with pytest.raises(SystemExit):
        dimension_cases.parse_args("x", 1, ["--cases", "nothing"])
