"""What every test file shares: few threads, and generators that start the same."""

import os

# Before scipy is imported: it lets scikit-learn run its array API checks.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def rng():
    """NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def generator():
    """Torch generator with a fixed seed, on the CPU."""
    return torch.Generator().manual_seed(0)
