"""The benchmark of a diffusers model runs on tiny data, keeps its network, and ends in a table."""

import json

import pytest

pytestmark = [
    pytest.mark.usefixtures("scripts"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def test_network_is_trained_once_and_measured(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    import common
    import pretrained

    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    monkeypatch.setattr(pretrained, "N_QUERY", 2)
    monkeypatch.setattr(pretrained, "NEIGHBORS", (5, 9))
    options = {"n_steps": 1, "n_paths": 1, "n_reference": 2}
    monkeypatch.setattr(pretrained, "MANIFOLD", options)
    case = common.Case("tiny", "tiny", pretrained.CASES["blob-2"].make, 30)
    monkeypatch.setitem(pretrained.CASES, "tiny", case)
    tiny = {"channels": (8, 8), "max_iter": 2}
    (job,) = pretrained.make_jobs(["tiny"], 1, common.LyapunovManifold(), **tiny)
    first, again = pretrained.measure(job), pretrained.measure(job)
    assert first["training_cpu_s"] == again["training_cpu_s"] > 0
    assert first["fresh"]["lyapunov"] == again["fresh"]["lyapunov"]
    assert set(first["train"]["local_pca"]) == {"5", "9"}
    record = {"case": "tiny", "title": "tiny", "seed": 0, "result": json.loads(json.dumps(first))}
    assert "tiny" in pretrained.pretrained_table([record])
