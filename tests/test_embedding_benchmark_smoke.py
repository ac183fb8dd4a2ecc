"""The embedding benchmark: its measures are the formulas, its truths are true."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import manifold

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion, GaussianModel

pytestmark = pytest.mark.usefixtures("scripts")


def test_trustworthiness_is_that_of_scikit_learn_and_continuity_exchanges_the_roles():
    from embedding_cases import Neighborhoods, trustworthiness

    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 4))
    Y = X[:, :2] + 0.3 * rng.standard_normal((90, 2))
    first, second = Neighborhoods(X, 7), Neighborhoods(Y, 7)
    expected = manifold.trustworthiness(X, Y, n_neighbors=7)
    assert trustworthiness(first, second) == pytest.approx(expected)
    assert expected < trustworthiness(first, first) == 1
    expected = manifold.trustworthiness(Y, X, n_neighbors=7)
    assert trustworthiness(second, first) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["embed/roll", "embed/roll-hole", "embed/s-curve"])
def test_true_coordinates_of_sheets_are_isometric(name):
    from embedding_cases import CASES

    sample = CASES[name].sample(0)
    truth = CASES[name].truth_of(sample)
    x, y = sample.clean[:, None] - sample.clean, truth[:, None] - truth
    in_space, on_sheet = np.linalg.norm(x, axis=2), np.linalg.norm(y, axis=2)
    near = (on_sheet > 0) & (on_sheet < 0.1)
    assert near.sum() > 10
    np.testing.assert_allclose(in_space[near], on_sheet[near], rtol=2e-3)


def test_a_linear_image_of_the_truth_has_full_marks_and_noise_has_none():
    from embedding_cases import CASES, Task

    task = Task(replace(CASES["embed/s-curve"], n=200), 0)

    class Oracle:
        def transform(self, X):
            return task.case.truth_of(task.fresh) @ [[1, 2], [-3, 0.5]] + 7

    line = task.truth @ [[1, 2], [-3, 0.5]] + 7
    scores = task.measure(lambda X: (Oracle(), line))
    assert scores["r2"] == pytest.approx(1) and scores["r2_fresh"] == pytest.approx(1)
    noise = np.random.default_rng(0).standard_normal(line.shape)
    scores = task.measure(lambda X: (Oracle(), noise))
    assert scores["r2"] < 0.1 and scores["trustworthiness_truth"] < 0.6
    with pytest.raises(ValueError, match="not finite"):
        task.measure(lambda X: (Oracle(), np.full_like(line, np.nan)))


@pytest.mark.parametrize("name", ["project/torus-0.1", "project/roll", "project/random5"])
def test_distance_to_the_manifold_is_that_along_a_normal(name):
    import projection

    case = replace(projection.CASES[name], n=40, noise=0.0)
    sample = case.sample(1)
    assert case.distance(sample.clean, sample, 1).max() < 2e-3
    rng = np.random.default_rng(0)
    E, normal = sample.tangents, rng.standard_normal(sample.points.shape)
    normal -= (E @ (E.swapaxes(1, 2) @ normal[..., None]))[..., 0]
    normal *= 0.01 / np.linalg.norm(normal, axis=1, keepdims=True)
    found = case.distance(sample.clean + normal, sample, 1)
    np.testing.assert_allclose(found, 0.01, rtol=0.03)


def test_setting_that_a_peer_cannot_take_is_a_result():
    import embedding_peers
    from embedding_cases import CASES

    embedding_peers.NEIGHBORS = (5, 8)
    case = replace(CASES["embed/s-curve"], n=80)
    job = embedding_peers.PeerJob(case, 0, LyapunovManifold(), {"peer": "Hessian LLE"})
    found = embedding_peers.measure(job)["by_neighbors"]
    assert "n_neighbors must be greater" in found[5]["failure"]
    assert 0 <= found[8]["r2"] <= 1


def test_sparse_eigensolver_that_fails_is_replaced_by_the_dense_one():
    from embedders import LLE

    X = np.random.default_rng(0).standard_normal((30, 1)) * [[1.0, 2.0, 3.0]]  # on a line
    peer = LLE(n_neighbors=5, n_components=1, method="ltsa", eigen_solver="arpack", random_state=0)
    with pytest.raises(ValueError, match="ARPACK"):
        super(LLE, peer).fit_transform(X)
    assert np.isfinite(peer.fit_transform(X)).all()
    with pytest.raises(ValueError, match="n_neighbors"):
        peer.set_params(n_neighbors=40).fit_transform(X)


def test_our_settings_do_not_make_the_peers_run_again():
    import downstream
    import embedding_peers
    from embedding_cases import CASES

    ours = (LyapunovManifold(), LyapunovManifold(n_steps=2))
    keys = {
        embedding_peers.PeerJob(CASES["embed/roll"], 0, m, {"peer": "LLE"}).key("x") for m in ours
    }
    assert len(keys) == 1
    for method, n_keys in [("LLE", 1), ("alignlearn", 2)]:
        options = {"method": method, "d": 2}
        job = [downstream.DownstreamJob(downstream.CASES["digits"], 0, m, options) for m in ours]
        assert len({j.key("x") for j in job}) == n_keys


@pytest.mark.filterwarnings("ignore")
def test_kept_model_is_the_trained_one_and_another_is_trained_again(tmp_path):
    from kept_models import KeptDiffusion, keeping, missing_seconds

    KeptDiffusion.folder = tmp_path
    X = np.random.default_rng(0).standard_normal((60, 3))
    model = Diffusion(max_iter=3, width=8, n_blocks=1)
    plain = LyapunovManifold(model=model, n_steps=2, n_paths=1, n_reference=10, random_state=0)
    expected = plain.fit(X).exponents_
    for loaded in (False, True):
        m = keeping(plain).fit(X)
        np.testing.assert_array_equal(m.exponents_, expected)
        assert m.model_.loaded_ == loaded
        assert (missing_seconds(m.model_)["wall"] > 0) == loaded
    assert not keeping(plain).fit(X[:50]).model_.loaded_
    assert not keeping(plain).set_params(model__max_iter=4).fit(X).model_.loaded_
    assert len(list(tmp_path.iterdir())) == 3
    assert keeping(LyapunovManifold(model=GaussianModel())).model.__class__ is GaussianModel
    assert isinstance(keeping(LyapunovManifold()).model, KeptDiffusion)


def test_umap_that_is_not_installed_is_said_and_left_out(monkeypatch, capsys):
    import embedders

    monkeypatch.setattr(embedders, "find_spec", lambda name: None)
    assert embedders.available(["LLE", "UMAP"]) == ["LLE"]
    assert "alignlearn[benchmark]" in capsys.readouterr().err
    monkeypatch.setattr(embedders, "find_spec", lambda name: object())
    assert embedders.available(["LLE", "UMAP"]) == ["LLE", "UMAP"]


def test_best_setting_passes_over_failures():
    import embedding_tables

    assert embedding_tables.best({"5": 0.5, "8": None, "10": 0.9}) == (0.9, "10")
    assert embedding_tables.best({"5": 0.5, "10": 0.9}, min) == (0.5, "5")
    assert embedding_tables.best({"5": None}) is None
