"""Every script of the paper's figures runs with tiny sizes, draws, and prints its numbers."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "paper"
NAMES = [path.stem for path in FOLDER.glob("*.py")]
# What it draws, what it must say.
SCRIPTS = {
    "figure1": (["figure1"], ["tangential", "one QR sweep", "converged"]),
    "figure2": (["figure2"], ["largest gaps", "vector   1", "held-out loss"]),
    "figure3_4": (["figure3_4_moons", "figure3_4_eight"], ["learned score", "exact score"]),
    "figure5": (["figure5"], ["roughness"]),
    "figure7_8": (
        [f"figure{i}_{target}" for i in (7, 8) for target in ("strip", "curve")],
        ["OT-CFM", "CFM", "interpolant", "diffusion", "converged vectors in", "positive"],
    ),
    "mnist": (
        ["mnist_exponents", "mnist_vectors"],
        ["28 x 28 pixels", "largest gaps", "roughness"],
    ),
    "statements": (["statements"], ["Eq. (2)", "Theorem 4.3", "Lemma 4.4", "Proposition 4.1"]),
}


@pytest.fixture
def paper(monkeypatch):
    """The scripts import each other by name, from their folder; nothing of them stays."""
    monkeypatch.syspath_prepend(str(FOLDER))
    n_threads = torch.get_num_threads()
    yield lambda name: importlib.import_module(name)
    torch.set_num_threads(n_threads)
    for name in NAMES:
        sys.modules.pop(name, None)


def test_every_script_is_run_here_and_by_the_one_command(paper):
    of_the_paper_itself = set(SCRIPTS) - {"mnist"}  # for those who have the files
    assert {script.__name__ for script in paper("all").SCRIPTS} == of_the_paper_itself
    assert {name for name in NAMES if "def main(" in (FOLDER / f"{name}.py").read_text()} == {
        *SCRIPTS,
        "all",
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_draws_and_prints_its_numbers(paper, tmp_path, capsys, name):
    pictures, words = SCRIPTS[name]
    paper(name).main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for picture in pictures:
        assert (tmp_path / f"{picture}.png").read_bytes()[:4] == b"\x89PNG"
    assert not [word for word in words if word not in printed]
    assert len(re.findall(r"\d\.\d", printed)) > 5 and not re.search(r"\bnan\b", printed)


def test_digits_of_an_idx_file_are_drawn(paper, tmp_path, capsys, rng):
    images = rng.integers(0, 256, (40, 5, 6), dtype=np.uint8)
    header = bytes([0, 0, 8, 3]) + np.array(images.shape, ">u4").tobytes()
    (tmp_path / "images").write_bytes(header + images.tobytes())
    options = ["--quick", "--out", str(tmp_path), "--idx", str(tmp_path / "images")]
    paper("figure5").main(options)
    assert "40 images of 5 x 6 pixels" in capsys.readouterr().out


def test_mnist_is_found_in_its_folder_and_asked_for_elsewhere(paper, tmp_path):
    mnist = paper("mnist")
    with pytest.raises(SystemExit, match="expected train-images-idx3-ubyte"):
        mnist.main(["--quick", "--folder", str(tmp_path)])
    path = mnist.write_stand_in(tmp_path, 7)
    assert mnist.find_images(tmp_path) == path
    images = paper("images").load_images(path)
    assert images.shape == (7, 28, 28) and images.dtype == np.uint8 and images.max() == 255


def test_strip_is_the_curve_moved_along_the_diagonal(paper):
    """Against a sum over many shifted curves."""
    shared = paper("shared")
    from alignlearn.curves import circle

    strip = shared.SmoothedDensity.of(circle, s_min=0.2, shift=0.7)
    curve = shared.SmoothedDensity.of(circle, s_min=0.2)
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for s in (0.2, 0.3, 1.5):
        shifts = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * 0.7  # midpoint rule
        parts = torch.stack([curve.log_density(x - shift, s) for shift in shifts])
        slow = parts.logsumexp(0) - np.log(len(parts))
        torch.testing.assert_close(strip.log_density(x, s), slow, rtol=1e-4, atol=1e-4)


def test_coarser_levels_agree_with_the_finest(paper):
    shared = paper("shared")
    from alignlearn.curves import TWO_MOONS

    moons = shared.SmoothedDensity.of(*TWO_MOONS)
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for s in (0.02, 0.1, 0.4, 0.5, 2.5, 25.0):
        fine = moons.levels[0].denoise(x, s)
        torch.testing.assert_close(moons.denoise(x, s), fine, rtol=0, atol=1e-5)
    used = {len(moons.at(s).nodes) for s in (0.02, 0.1, 0.5, 2.5)}
    assert len(used) == 4


def test_paper_process_has_equal_steps_in_time_between_its_noise_levels(paper):
    flow = paper("shared").paper_process(lambda y, s: 0 * y, 7)
    steps = flow.times.diff()
    torch.testing.assert_close(steps, steps[:1].expand(7))
    ends = flow.solver.schedule.ratio(flow.times[[0, -1]])
    torch.testing.assert_close(ends, torch.tensor([25.0, 0.02], dtype=torch.float64))
