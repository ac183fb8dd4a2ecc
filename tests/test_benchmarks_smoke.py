"""The benchmark scripts run on tiny data, resume after a kill, and end in tables."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_random_manifold, make_sphere, make_torus
from alignlearn.metrics import tangent_error
from alignlearn.models import Diffusion, GaussianModel

pytestmark = pytest.mark.usefixtures("scripts")


def tiny(common, **model):
    case = common.Case("tiny", "torus, tiny", make_torus, 120, 0.05, is_torus=True)
    model = {"max_iter": 3, "width": 8, "n_blocks": 1, "batch_size": 32, "n_estimators": 1} | model
    manifold = LyapunovManifold(model=Diffusion(**model), n_steps=2, n_paths=1, n_reference=10)
    return common.Job(case, 0, manifold)


def test_local_pca_finds_a_plane_at_every_size():
    import common

    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 2))).Q
    X = rng.standard_normal((50, 2)) @ basis.T
    tangents = common.local_pca_tangents(X, X[:7], 2, sizes=(2, 3, 5, 20, 80))
    assert sorted(tangents) == [3, 5, 20]  # more than d neighbours, at most n
    for vectors in tangents.values():
        np.testing.assert_allclose(tangent_error(vectors, basis), 0, atol=1e-5)


def small_network(size, channels):
    """A convolution in the place of a UNet2DModel."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images, time):
            return SimpleNamespace(sample=self.layer(images))

    return Network()


@pytest.mark.parametrize("n_draws", [0, 2])
def test_jacobian_of_a_gaussian_model_finds_its_principal_axes(n_draws):
    import common

    X = np.random.default_rng(0).standard_normal((300, 4)) * [3, 2, 0.1, 0.1]
    model = GaussianModel().fit(X)
    vectors = common.jacobian_tangents(model, X[:5], 2, 0.1, n_draws=n_draws)
    axes = np.linalg.svd(X - X.mean(0)).Vh[:2].T
    np.testing.assert_allclose(tangent_error(vectors, axes), 0, atol=1e-3)


def test_cases_draw_fresh_points_of_the_same_manifold():
    import common

    case = common.Case("c", "c", partial(make_random_manifold, dim=1, n_features=3), 4000)
    train, fresh = case.sample(3).points, case.fresh(3, 20).points
    distance = np.linalg.norm(fresh[:, None] - train[None], axis=-1).min(1)
    assert 0 < distance.max() < 0.05


def test_cases_measure_the_angle_they_name():
    import common

    A = np.eye(4)[None, :, :2]
    B = np.linalg.qr(A + 0.1 * np.eye(4)[None, :, 2:] * [1, 3]).Q
    angles = np.degrees(np.arctan([0.1, 0.3]))
    assert common.CASES["random5"].error(A, B) == pytest.approx(np.sqrt(np.mean(angles**2)))
    assert common.CASES["sphere5-R20"].error(A, B) == pytest.approx(angles[1])
    assert common.CASES["torus-300-0"].error(A[:, :3], np.eye(3)[None, :, 1:]) == pytest.approx(90)


def test_settings_ignore_the_seed_and_see_the_model():
    import common

    job = tiny(common)
    other_seed = common.Job(job.case, 0, LyapunovManifold(**job.manifold.get_params(deep=False)))
    other_seed.manifold.set_params(random_state=5)
    assert job.key("x") == other_seed.key("x")
    assert job.key("x") != tiny(common, max_iter=4).key("x")
    default = LyapunovManifold(), LyapunovManifold(model=Diffusion())
    assert common.settings_of(default[0]) == common.settings_of(default[1])


def test_killed_run_resumes_and_failed_jobs_run_again(tmp_path, capsys):
    import common

    job = tiny(common)
    jobs = [common.Job(job.case, seed, job.manifold) for seed in range(3)]
    store, calls = common.Store("x", tmp_path), []

    def measure(job):
        calls.append(job.seed)
        if job.seed == 1 and calls.count(1) == 1:
            raise ValueError("no luck")
        return {"value": job.seed}

    assert common.run_jobs(measure, jobs, store, workers=1) == 1
    assert "no luck" in capsys.readouterr().err
    with store.path.open("a") as file:
        file.write('{"key": "cut sho')  # killed while it wrote
    assert common.run_jobs(measure, jobs, store, workers=1) == 0
    assert common.run_jobs(measure, jobs, store, workers=1) == 0
    assert calls == [0, 1, 2, 1]
    assert sorted(record["result"]["value"] for record in store.records()) == [0, 1, 2]


def test_only_the_newest_settings_enter_a_table(tmp_path):
    import common

    store = common.Store("x", tmp_path)
    old, new = tiny(common), tiny(common, max_iter=4)
    for seed in (0, 1):
        common.run_jobs(lambda job: {}, [common.Job(old.case, seed, old.manifold)], store)
    common.run_jobs(lambda job: {}, [new], store, workers=1)
    assert [record["key"] for record in store.latest()] == [new.key("x")]


@pytest.mark.filterwarnings("ignore")
def test_every_script_measures_and_makes_its_tables(tmp_path):
    import budget
    import column_cost
    import common
    import dimension
    import downstream
    import embedding
    import embedding_peers
    import extraction
    import failures
    import frame_cost
    import frame_speed
    import images
    import make_tables
    import model_selection
    import networks
    import out_of_core
    import peer_speed
    import projection
    import robustness
    import robustness_tables
    import size
    import tangents
    import training_speed
    import workers

    job = tiny(common)
    common.N_CORES = 1  # short calls are slower with two threads
    extraction.N_POINTS, extraction.N_PATHS, extraction.STEPS_PER_DECADE = 10, (1, 4), 2
    kept = partial(tangents.measure, models=tmp_path / "models")
    for name, measure in {"tangents": kept, "extraction": extraction.measure}.items():
        store = common.Store(name, tmp_path)
        assert common.run_jobs(measure, [job], store, workers=1) == 0
    sphere = common.Case("s", "S^2", partial(make_sphere, dim=2), 120)
    jobs = networks.make_jobs([sphere], [0], job.manifold.model)
    assert len(jobs) == 5
    for some in jobs[:2]:
        some.manifold.set_params(n_steps=2, n_paths=1, n_reference=10)
    store = common.Store("networks", tmp_path)
    assert common.run_jobs(networks.measure, jobs[:2], store, workers=1) == 0
    for script in (frame_cost, peer_speed):  # a network of default size has little to say here
        script.Diffusion = partial(Diffusion, width=8, n_blocks=1, window=(0.1, 1.0))
    common.Store("frame_cost", tmp_path).append(
        {
            **store.records()[0],
            "result": frame_cost.measure_here(4, 3, 3, n_train=30, repeats=1),
        }
    )
    size.NARROW = {"width": 8, "n_blocks": 1}
    for n in (20, 30):
        cell = size.measure_here(n, 3, 2, narrow=True, out=True, n_train=30)
        cell = {**store.records()[0], "key": f"n{n}", "case": f"n{n}", "result": cell}
        common.Store("size", tmp_path).append(cell)
    workers.reader_of = lambda X, narrow: size.reader_of(X, narrow=True)
    one = workers.measure_here("loky", 1, n=12)
    two = {**one, "workers": 2, "worker_cpu_s": [0.1, 0.1]}
    for result in (one, two):
        of = {
            **store.records()[0],
            "key": str(result["workers"]),
            "options": {"x": result["workers"]},
        }
        common.Store("workers", tmp_path).append({**of, "result": result})
    budgets = budget.make_jobs([sphere], [0], (2, 3), job.manifold)
    assert [b.manifold.model.max_iter for b in budgets] == [2, 3]
    store = common.Store("budget", tmp_path)
    assert common.run_jobs(budget.measure, budgets, store, workers=1) == 0
    options = {"frame_speed": {"n": 5, "n_obvious": 2}}
    options["training_speed"] = {"threads": 1, "seconds": 0}
    for script in (frame_speed, training_speed):
        store = common.Store(script.__name__, tmp_path)
        timed = common.Job(job.case, 0, job.manifold, options[script.__name__])
        assert common.run_jobs(script.measure, [timed], store, workers=1) == 0
    options, rows = {"width": 8, "n_blocks": 1, "max_iter": 2}, tmp_path / "rows.npy"
    np.save(rows, next(out_of_core.rows_in_blocks(300)))
    [on_disk] = out_of_core.make_jobs({"disk": (300,)}, job.manifold)
    common.run_jobs(
        lambda job: out_of_core.measure_here(**job.options, path=str(rows), model=options),
        [on_disk],
        common.Store("out_of_core", tmp_path),
    )
    column_cost.make_network = small_network  # works without diffusers
    [columns] = column_cost.make_jobs([(4, 1, 2)], job.manifold, repeats=1)
    store = common.Store("column_cost", tmp_path)
    assert common.run_jobs(column_cost.measure, [columns], store, workers=1) == 0
    random = peer_speed.case_of(30, 4, 2)
    found = {"method": "alignlearn", "n": 30, "D": 4, "d": 2, "limit_s": 9.0, "too_slow": False}
    found |= peer_speed.measure_here("alignlearn", 30, 4, 2, 0, max_iter=2)
    slow = {**found, "method": "DANCo", "seconds": None, "dimension": None, "too_slow": True}
    for result in (found, slow):
        peers = common.Job(random, 0, job.manifold, {"method": result["method"]})
        store = common.Store("peer_speed", tmp_path)
        common.run_jobs(lambda _, result=result: result, [peers], store, workers=1)
    store, case = common.Store("failures", tmp_path), failures.CASES["failures/torus-30"]
    failed = common.Job(case, 0, job.manifold)
    assert common.run_jobs(failures.measure, [failed], store, workers=1) == 0
    selection = model_selection.make_jobs([job.case], [0], [(2, 8, 1), (3, 8, 1)])
    store = common.Store("model_selection", tmp_path)
    assert common.run_jobs(model_selection.measure, selection, store, workers=1) == 0
    store = common.Store("dimension", tmp_path)
    dimensions = common.Job(sphere, 0, job.manifold)
    assert common.run_jobs(dimension.measure, [dimensions], store, workers=1) == 0
    ours, peer = store.records()[0], {"peer": "MLE", "dimension": None, "mae": None, "D": 3}
    peer |= {"failure": "ValueError: no", "cpu_s": 1.0}  # runs without scikit-dimension
    sets = {"bm/M1_Sphere/1000": [2], "bm/M1_Sphere/2500": [2], "iddiff/sphere10": [2]}
    for name, d in (sets | {"mixture": [1, 3]}).items():
        copied = {**ours, "case": name, "title": name, "key": name}
        store.append({**copied, "result": ours["result"] | {"d": d}})
        common.Store("dimension_peers", tmp_path).append({**copied, "result": peer | {"d": d}})
    embedding_peers.NEIGHBORS, models = (5, 8), tmp_path / "models"
    roll = replace(embedding.CASES["embed/roll"], n=80)
    two = clone(job.manifold).set_params(n_components=2)
    peer, pca = ({"peer": "Isomap"}, {"method": "PCA", "d": 2})
    for measure, embedded in [
        (partial(embedding.measure, models=models), common.Job(roll, 0, two)),
        (embedding_peers.measure, embedding_peers.PeerJob(roll, 0, two, peer)),
        (
            partial(projection.measure, models=models),
            common.Job(replace(projection.CASES["project/torus-0.1"], n=80), 0, two),
        ),
        (
            downstream.measure,
            downstream.DownstreamJob(replace(downstream.CASES["digits"], n=80), 0, two, pca),
        ),
    ]:
        name = getattr(measure, "func", measure).__module__
        assert common.run_jobs(measure, [embedded], common.Store(name, tmp_path), workers=1) == 0
    robustness.N_SAMPLES, robustness.N_FRAMES, robustness_tables.N_RESAMPLES = 20, 3, 3
    [errs] = robustness.make_jobs(["robust/circle"], [0], ["CFM"], ["velocity"], max_iter=2)
    assert common.run_jobs(robustness.measure, [errs], common.Store("robustness", tmp_path)) == 0
    images.READING, images.N_FRESH = {"n_steps": 1, "n_paths": 1, "n_reference": 2}, 2
    images.N_JACOBIAN, images.SCALES = 1, (0.5,)
    store = common.Store("images", tmp_path)
    for name in ("images/blobs4", "images/fixed-blobs10"):
        scene = images.CASES[name]
        small = replace(scene.case, n=40, make=partial(scene.case.make, image_size=6))
        images.CASES[name] = scene._replace(case=small, shape=(6, 6))
    real = images.CASES["images/digits"]
    images.CASES["images/digits"] = real._replace(case=replace(real.case, n=40))
    methods_of = {"blobs4": ["U-Net", "MLP"], "fixed-blobs10": ["U-Net"], "digits": ["U-Net"]}
    for name, methods in methods_of.items():
        jobs = images.make_jobs([f"images/{name}"], [0], methods, max_iter=1)
        assert common.run_jobs(images.measure, jobs, store, workers=1) == 0
    record = common.Store("tangents", tmp_path).records()[0]
    for name in ("torus-300-0", "sphere2"):
        copied = {**record, "case": name, "title": name, "key": name}
        common.Store("tangents", tmp_path).append(copied)
    page = "".join(f"<!-- table:{name} -->STALE<!-- /table -->\n" for name in make_tables.TABLES)
    filled = make_tables.fill(page, tmp_path)
    tables = {name: make_tables.make_table(name, tmp_path) for name in make_tables.TABLES}
    missing = {name for name, text in tables.items() if "Not run" in text}
    # One needs diffusers, one a GPU; both have smoke tests of their own.
    assert missing == {"pretrained", *(name for name in tables if name.startswith("gpu-"))}
    assert "STALE" not in filled
    assert "| torus, tiny | training |" in filled
    assert "sphere2 |" in make_tables.make_table("largest-angle", tmp_path)
    assert "sphere2 |" not in make_tables.make_table("tangents", tmp_path)
    assert "| **8.7** |" in make_tables.make_table("published", tmp_path)  # the lowest
    assert "too slow, over 9" in make_tables.make_table("peer-speed", tmp_path)
    assert "| n, to a file | 20 to 30 |" in make_tables.make_table("growth", tmp_path)
    assert "| loky | 2 |" in make_tables.make_table("workers", tmp_path)
    assert "| MLE | ValueError: no | 4 |" in make_tables.make_table("dimension-failures", tmp_path)
    assert make_tables.fill(filled, tmp_path) == filled
    empty = make_tables.fill(page, tmp_path / "nowhere")
    assert empty.count("Not run yet") == len(make_tables.TABLES)


@pytest.mark.filterwarnings("ignore")
def test_obvious_code_gives_the_same_frames():
    import common
    import frame_speed

    result = frame_speed.measure(
        common.Job(
            tiny(common).case, 0, tiny(common, max_iter=60).manifold, {"n": 9, "n_obvious": 4}
        )
    )
    for code in ("batched", "obvious"):
        assert result[code]["angle_median"] < 0.01
        assert result[code]["exponents_max"] < 1e-3
    assert result["obvious_s"] == pytest.approx(result["obvious_measured_s"] * 9 / 4)


def test_products_of_a_training_step_are_those_of_the_linear_layers():
    import training_speed

    X = np.random.default_rng(0).standard_normal((80, 4))
    model = Diffusion(max_iter=1, width=8, n_blocks=2, batch_size=16, random_state=0).fit(X)
    expected = 0
    for name, layer in training_speed.network_of(model).named_modules():
        if isinstance(layer, torch.nn.Linear):
            no_input_gradient = "encode" in name or "noise" in name
            expected += 2 * layer.weight.numel() * 16 * (2 if no_input_gradient else 3)
    products = training_speed.products_of_step(model)
    assert training_speed.flop(products) == expected
    assert training_speed.seconds_of_products(products, 0) > 0


def test_peer_that_takes_too_long_is_ended_and_recorded():
    import common
    import peer_speed

    options = {"method": "alignlearn", "limit_s": 0.01}
    job = common.Job(peer_speed.case_of(60, 4, 2), 0, LyapunovManifold(), options)
    result = peer_speed.measure(job)
    assert result["too_slow"] and result["seconds"] is None


def test_peers_find_a_dimension():
    pytest.importorskip("skdim")
    import peer_speed

    result = peer_speed.measure_here("TwoNN", 110, 4, 2, 0)
    assert result["seconds"] > 0 and 1 < result["dimension"] < 4


def test_agreement_of_scores_with_accuracy():
    import model_selection

    errors = [5.0, 3.0, 1.0]
    assert model_selection.agreement([-3, -2, -1], errors) == (pytest.approx(1), 0)
    assert model_selection.agreement([-1, -2, -3], errors) == (pytest.approx(-1), 4)
    assert model_selection.agreement([1, 1, 0.5], errors) == (pytest.approx(-0.866, abs=1e-3), 3)
    assert model_selection.agreement([1, 1, 1], errors) == (0, 2)  # says nothing: any of them


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("D", [3, 50])
def test_plain_network_has_the_weights_of_the_gated_one(D, normalize):
    import networks

    generator = torch.Generator().manual_seed(0)
    gated = networks.GatedNetwork(D, width=64, n_blocks=3, generator=generator)
    plain = networks.PlainNetwork(D, width=64, n_blocks=3, normalize=normalize, seed=0)
    n_gated, n_plain = (sum(p.numel() for p in net.parameters()) for net in (gated, plain))
    assert abs(n_plain / n_gated - 1) < 0.01
    assert plain(torch.zeros(4, D), torch.zeros(())).shape == (4, D)


def test_pages_have_the_markers_of_every_table():
    import make_tables

    text = "".join(page.read_text() for page in make_tables.PAGES)
    for name in make_tables.TABLES:
        assert f"<!-- table:{name} -->" in text


def test_records_are_plain_json(tmp_path):
    import common

    store = common.Store("x", tmp_path)
    common.run_jobs(lambda job: {"a": 1.5}, [tiny(common)], store, workers=1)
    record = json.loads(store.path.read_text())
    assert {"script", "case", "seed", "settings", "code", "machine", "date", "load"} <= set(record)


def test_every_script_has_a_table_and_every_table_a_script():
    import importlib

    import make_tables

    everything, needed = importlib.import_module("all"), set()
    for scripts, _ in make_tables.TABLES.values():
        needed |= {scripts} if isinstance(scripts, str) else set(scripts)
    assert needed == {script.__name__ for script, _ in everything.SCRIPTS}


@pytest.mark.parametrize("has_peers", [True, False])
def test_one_command_runs_every_script_with_its_own_seeds(tmp_path, monkeypatch, capsys, has_peers):
    import importlib

    import make_tables

    page = tmp_path / "page.md"
    page.write_text("<!-- table:tangents --><!-- /table -->")
    everything, ran = importlib.import_module("all"), {}
    for script, _ in everything.SCRIPTS:

        def record(measure, jobs, store, *, workers):
            ran[store.script] = {job.seed for job in jobs}
            return 0

        monkeypatch.setattr(script, "run_jobs", record)
    spec = object() if has_peers else None
    monkeypatch.setattr(everything.dimension_peers, "find_spec", lambda name: spec)
    monkeypatch.setattr("embedders.find_spec", lambda name: spec)
    options = ["--results", str(tmp_path), "--page", str(page)]
    assert everything.main(options) == int(not has_peers)  # something is missing, the rest goes on
    assert ("alignlearn[benchmark]" in capsys.readouterr().err) != has_peers
    expected = {
        "frame_cost": {0},
        "frame_speed": {0},
        "column_cost": {0},
        "training_speed": {0},
        "gpu": {0} if torch.cuda.is_available() else set(),
        "out_of_core": {0},
        "peer_speed": {0},
        "size": {0},
        "workers": {0},
        "tangents": {0, 1, 2, 3, 4},
        "extraction": {100, 101},
        "networks": {0, 1, 2},
        "budget": {0, 1, 2},
        "failures": {0, 1},
        "model_selection": {0, 1, 2},
        "dimension": {0, 1, 2},
        "dimension_peers": {0, 1, 2},
        "embedding": {0, 1, 2},
        "embedding_peers": {0, 1, 2},  # those of scikit-learn at least
        "projection": {0, 1, 2},
        "downstream": {0, 1, 2},
        "robustness": {0, 1, 2, 3, 4},
        "pretrained": {0},
        "images": {0},
    }
    if not has_peers:
        del expected["dimension_peers"]
    assert ran == expected
    assert page.read_text() == make_tables.fill("<!-- table:tangents --><!-- /table -->", tmp_path)
