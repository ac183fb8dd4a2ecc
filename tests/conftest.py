"""What every test file shares: few threads, generators that start the same, the scripts."""

import os
import sys
from pathlib import Path

# Before scipy is imported: it lets scikit-learn run its array API checks.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

# Files whose fixtures take long: one worker of xdist has all their tests.
TOGETHER = {"test_checkpoint.py", "test_parallel.py", "test_streaming.py", "test_team.py"}

SCRIPTS = Path(__file__).resolve().parents[1] / "examples" / "benchmarks"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Test by test, but for those that go together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return file if Path(file).name in TOGETHER else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="module", autouse=True)
def cpu_by_default(request):
    """As on a machine without a GPU, with tensors made here; but for the tests of one."""
    if request.module.__name__ == "test_cuda":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # in other processes
        yield


@pytest.fixture
def rng():
    """NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def generator():
    """Torch generator with a fixed seed, on the CPU."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def scripts(monkeypatch):
    """The benchmark scripts are no package: they import each other by name, from their folder."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)
    for path in SCRIPTS.glob("*.py"):
        sys.modules.pop(path.stem, None)
