"""What every test file shares: few threads, and generators that start the same."""

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def rng():
    """NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def generator():
    """Torch generator with a fixed seed, on the CPU."""
    return torch.Generator().manual_seed(0)
