"""The tables of a GPU, from results as they are stored, and without a GPU none of its own."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("scripts")
LIMITS = {"device": "a GPU", "product_tflops": 50.0, "copy_tbs": 3.0}
RESULTS = {
    "training": {"one by one": 4.0, "played back": 0.5, "gflop": 5.0},
    "frames": {
        "wall_s": 2.0,
        "gain": 3.0,
        "peak_gb": 1.0,
        "tflop": 10.0,
        "image": False,
        "busy": 0.5,
        "kinds": {"products": 0.25, "factorisations": 0.5, "other": 0.25},
    },
    "factors": {"ms": {"torch.linalg.qr": 66.0, "cholesky_qr": 0.7}, "error": 1e-15},
}


def records(gpu):
    """One stored record of each kind."""
    rules = dict.fromkeys(gpu.PUSHES | gpu.PULLS, 1.5)
    chosen = [next(iter(gpu.PUSHES))]
    columns = {"forward_ms": 3.0, "tflops": 5.0, "per_column": rules, "chosen": chosen}
    found = []
    for job in gpu.make_jobs():
        what = job.options["what"]
        result = LIMITS | (RESULTS | {"columns": columns})[what]
        found.append({"options": job.options, "title": job.case.title, "result": result})
    return found


def test_tables_say_times_and_shares_of_the_limits():
    import gpu

    text = {name: make(records(gpu)) for name, (_, make) in gpu.GPU_TABLES.items()}
    assert "a GPU: float32 products 50.0 TFLOP/s" in text["gpu-limits"]
    assert "| 4.00 | **0.500** | 8.00 | 10.0 (20 %) |" in text["gpu-training"]
    frames = "| 2.00 | **2.00** | 3.00 | 1.00 | 5.00 (10 %) | 50 % | 25 % | 50 % | 25 % |"
    assert f"| 1000 | 3072 | 2 {frames}" in text["gpu-frames"]
    assert text["gpu-columns"].count("**1.50**") == len(gpu.COLUMNS)
    assert "5.00 (10 %)" in text["gpu-columns"]
    assert "| 66.0 | 0.700 | 1e-15 |" in text["gpu-factors"]


def test_what_was_not_run_is_said_to_be():
    import gpu

    assert {make([]) for _, make in gpu.GPU_TABLES.values()} == {"*Not run yet.*"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_nothing_is_measured(tmp_path, capsys):
    import gpu

    assert gpu.main(["--results", str(tmp_path)]) == 0
    assert "no NVIDIA GPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
