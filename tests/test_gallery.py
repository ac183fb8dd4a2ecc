"""Every script of the gallery runs, with little of everything, and draws."""

import runpy
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from alignlearn import LyapunovManifold
from alignlearn.models import diffusion, flow_matching, trained

plt = pytest.importorskip("matplotlib.pyplot")
SCRIPTS = sorted(Path(__file__).resolve().parents[1].glob("examples/plot_*.py"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Narrow networks, two steps, a pair of paths of two steps: the scripts end in seconds."""
    train, reader = diffusion.train, LyapunovManifold._reader
    monkeypatch.setattr(
        diffusion, "train", lambda *args, **kw: train(*args, **(kw | {"max_iter": 2}))
    )
    for module in (diffusion, flow_matching):
        monkeypatch.setattr(module, "default_width", lambda n_samples, n_features: 16)
    monkeypatch.setattr(trained, "IMAGE_WIDTH", 8)
    monkeypatch.setattr(
        LyapunovManifold, "_reader", lambda self: replace(reader(self), n_steps=2, n_paths=2)
    )
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    plt.close("all")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_gallery_script_runs_and_draws(script):
    runpy.run_path(str(script), run_name="__main__")
    figures = [plt.figure(number) for number in plt.get_fignums()]
    assert figures and all(any(ax.has_data() for ax in figure.axes) for figure in figures)
