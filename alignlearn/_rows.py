"""Rows to learn from that need not fit into memory: files mapped by numpy, and blocks of rows.

Files of any real type stay where they are; their rows are read, scaled and moved to the device when
a batch asks for them. Blocks are written to a file first, as training takes rows from all over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from alignlearn._arrays import Scaling, is_blocks, to_numpy, validate_rows
from alignlearn._blocks import row_blocks


def training_rows(estimator, X, **options) -> np.ndarray:
    """Validated rows (n, D) to learn from: float64 in memory, or `np.memmap` of any real type.

    A file is read in blocks; what is wrong with it is said in the words of `validate_rows`.
    """
    if is_blocks(X):
        X = _write_down(estimator, X)
    if not isinstance(X, np.memmap) or X.ndim != 2:
        return validate_rows(estimator, X, **options)
    for rows in row_blocks(*X.shape):
        validate_data(estimator, X[rows], dtype=np.float64, **options)
        options = {"reset": False}
    return X


def _write_down(estimator, blocks: Iterable) -> np.memmap:
    """Rows of all blocks, in a temporary file that goes when nobody uses it any more."""
    file, n, dtype = tempfile.TemporaryFile(), 0, None  # noqa: SIM115 - the memmap keeps it
    for i, block in enumerate(blocks):
        options: dict[str, Any] = {"dtype": [np.float64, np.float32], "reset": dtype is None}
        try:
            block = validate_data(estimator, to_numpy(block), **options)
        except ValueError as error:
            raise ValueError(f"block {i} of X: {error}") from error
        dtype = block.dtype if dtype is None else dtype
        if not np.can_cast(block.dtype, dtype):
            raise ValueError(
                f"blocks of X must have one type: the first is {dtype}, block {i} {block.dtype}."
            )
        file.write(np.ascontiguousarray(block, dtype=dtype).data)
        n += len(block)
    if not n:
        raise ValueError("X gave no blocks: expected arrays of shape (n_rows, n_features).")
    file.flush()
    return np.memmap(file, dtype, mode="r", shape=(n, estimator.n_features_in_))


@dataclass(frozen=True)
class DiskRows:
    """Rows of a file in the model's coordinates, read when they are asked for.

    Attributes
    ----------
    X : np.memmap of shape (n, D)
        In the user's units.
    scaling : Scaling
        From there to the model's.
    like : Tensor
        With the dtype and device of the rows.
    basis : Tensor of shape (D, r), optional
        Columns on which they are projected.
    """

    X: np.memmap
    scaling: Scaling
    like: Tensor
    basis: Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.X), self.X.shape[1] if self.basis is None else self.basis.shape[1]

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def device(self) -> torch.device:
        """Of the rows that come out."""
        return self.like.device

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Some rows, a tensor of its own memory."""
        index = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        X = np.ascontiguousarray(self.X[index], dtype=np.float64)
        x = self.scaling.to_model(X, torch.empty(0, dtype=self.like.dtype))
        if self.device.type == "cuda":  # the copy goes on while the next calls are prepared
            x = x.pin_memory().to(self.device, non_blocking=True)
        x = x.to(self.device)
        return x if self.basis is None else x @ self.basis

    def __matmul__(self, basis: Tensor) -> DiskRows:
        return replace(self, basis=basis)


@dataclass(frozen=True)
class Subset:
    """Some rows of a table, not copied: taken when a batch asks for them.

    Attributes
    ----------
    x : Tensor or DiskRows of shape (n, D)
        The table.
    index : Tensor of shape (m,), int
        Rows of it.
    """

    x: Tensor | DiskRows
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.x[self.index[rows]]
