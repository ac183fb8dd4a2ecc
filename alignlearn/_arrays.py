"""The only door between the user's numpy arrays and the library's tensors."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn import get_config
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor

from alignlearn._blocks import row_blocks
from alignlearn.guards import is_out_of_memory

T = TypeVar("T")

# Directions with less than this share of the data's standard deviation are no part of their span.
SPAN_TOLERANCE = 1e-4


def validate_rows(estimator, X, **options) -> np.ndarray:
    """scikit-learn's `validate_data` to float64 rows (n, D), also of tensors that numpy refuses.

    Those are tensors that require gradients, are bfloat16 or lie on another device.
    """
    if is_blocks(X):
        raise ValueError(
            f"expected an array of rows, got {X!r:.80}: an iterable of blocks is taken only by the "
            "fit of models and of LyapunovManifold. Pass the blocks one by one."
        )
    return validate_data(estimator, to_numpy(X), dtype=np.float64, **options)


def is_blocks(X) -> bool:
    """Whether X can be iterated and nothing else, as a generator or a DataLoader of blocks."""
    array_like = any(hasattr(X, name) for name in ("__getitem__", "__array__", "shape"))
    return isinstance(X, Iterable) and not array_like


def to_numpy(X) -> Any:
    """What numpy takes of tensors that it refuses, else X itself."""
    if isinstance(X, Tensor) and X.is_floating_point():
        known = X.dtype if X.dtype == torch.float32 else torch.float64
        return X.detach().to("cpu", known).numpy()
    return X


class Scaling(NamedTuple):
    """Isotropic scaling to zero mean and unit mean variance, safe from 1e-300 to 1e300.

    ``z = (x / 2^exponent - center) / scale``. One scalar for all columns, so that angles are the
    data's own; the power of two keeps squares in range and is exact. The variance is the mean over
    the `rank` dimensions of the data's linear span: an isometric embedding into more columns
    changes no length.
    """

    exponent: int
    center: np.ndarray
    scale: float
    rank: int

    @classmethod
    def fit(cls, X: np.ndarray) -> Scaling:
        """Statistics of X (n, D), in double precision; memory for a block of X and min(n, D) * D.

        Raises
        ------
        ValueError
            If all rows are equal: there is no direction to learn.
        """
        n, D = X.shape

        def blocks() -> Iterator[np.ndarray]:
            return (np.asarray(X[rows], dtype=np.float64) for rows in row_blocks(n, D))

        exponent = int(np.frexp(max(np.abs(block).max(initial=0.0) for block in blocks()))[1])
        center = sum(np.ldexp(block, -exponent).sum(axis=0) for block in blocks()) / n
        squares, gram, wide = 0.0, 0.0, []
        for block in blocks():
            centered = np.ldexp(block, -exponent) - center
            squares += float((centered**2).sum())
            if D <= n:
                gram = gram + centered.T @ centered
            else:
                wide.append(centered)
        if wide:
            centered = wide[0] if len(wide) == 1 else np.concatenate(wide)
            gram = centered @ centered.T
        rank = _span_rank(gram, n, D)
        scale = float(np.sqrt(squares / (n * D) * D / rank))
        if scale < 1e-14 or all((block == X[0]).all() for block in blocks()):
            raise ValueError(
                f"all {len(X)} rows of X are equal (n_samples={len(X)}) up to rounding: constant "
                "data have no geometry. Pass data that vary."
            )
        return cls(exponent, center, scale, rank)

    def to_model(self, X: np.ndarray, like: Tensor) -> Tensor:
        """Scaled rows with the dtype and device of `like`.

        Raises
        ------
        ValueError
            If a value is so far outside the training range that its square nearly overflows.
        """
        with np.errstate(over="ignore"):
            Z = (np.ldexp(X, -self.exponent) - self.center) / self.scale
        if not np.abs(Z).max(initial=0.0) < 1e-3 * np.sqrt(torch.finfo(like.dtype).max):
            raise ValueError(
                "X holds values too far from the training data to be represented: expected the "
                f"scale of the training data, about {np.ldexp(self.scale, self.exponent):.3g}, "
                f"got {np.abs(X).max():.3g}."
            )
        return torch.from_numpy(Z).to(like)

    def to_data(self, z: Tensor) -> np.ndarray:
        """Rows in the user's units, float64."""
        reduced = z.detach().double().cpu().numpy() * self.scale + self.center
        return np.ldexp(reduced, self.exponent)

    @property
    def log_unit(self) -> float:
        """Log of the length unit: ``x = unit * z + const``."""
        return float(np.log(self.scale) + self.exponent * np.log(2.0))


def _span_rank(gram: np.ndarray, n: int, D: int) -> int:
    """Dimension of the linear span of centred rows (n, D); D unless exactly smaller.

    From their products over rows (D, D) or over columns (n, n). Few rows span little and prove
    nothing: a span counts when at most half of the rows make it up.
    """
    variances = np.linalg.eigvalsh(gram) / n
    rank = int(np.sum(variances > SPAN_TOLERANCE**2 * variances.sum() / D))
    return rank if 0 < rank <= n // 2 else D


def check_seed(random_state) -> np.random.RandomState:
    """scikit-learn's `check_random_state` with an error that names the parameter."""
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise ValueError(
            f"random_state must be None, an int from 0 to 2**32 - 1 or a numpy RandomState, got "
            f"{random_state!r}."
        ) from error


def make_generator(random_state, device: str | torch.device = "cpu") -> torch.Generator:
    """Generator seeded from a scikit-learn `random_state`; global generators are not touched."""
    seed = int(check_seed(random_state).randint(np.iinfo(np.int32).max))
    return torch.Generator(device=device).manual_seed(seed)


def resolve_device(device) -> torch.device:
    """None is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If the device named is not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={device!r} is not usable here: {error}") from error
    return resolved


# What work on a chunk of rows may take for its speed, in bytes: about a processor's cache.
CACHE = 32 * 2**20
# Share of a GPU's memory: small chunks leave it idle. At its peak the work takes up to seven times
# what is counted here (`examples/benchmarks/gpu.py`).
_SHARE_OF_GPU = 1 / 16


def row_chunks(
    n_rows: int, bytes_per_row: int, cache: int = CACHE, device: torch.device | None = None
) -> Iterator[slice]:
    """Slices of rows whose work fits scikit-learn's `working_memory` and a cache.

    On a GPU, which has no use for a cache, a share of its memory, or `working_memory` if that is
    more. The size depends on the problem and the device alone, never on the number of workers, so
    that results do not depend on `n_jobs`.
    """
    limit = int(get_config()["working_memory"] * 2**20)
    if device is not None and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        limit = max(limit, int(_SHARE_OF_GPU * total))
    else:
        limit = min(limit, cache)
    size = max(1, limit // max(1, bytes_per_row))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def halved(work: Callable[[slice], T], rows: slice) -> list[T]:
    """Results of work on rows, in order: in one piece, or in halves where memory does not suffice.

    Raises
    ------
    Exception
        What `work` raises, also that memory does not suffice for a single row.
    """
    try:
        return [work(rows)]
    except Exception as error:
        if rows.stop - rows.start < 2 or not is_out_of_memory(error):
            raise
    # Out of the handler: the exception holds the frames of the work, and they its tensors.
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    middle = (rows.start + rows.stop) // 2
    return halved(work, slice(rows.start, middle)) + halved(work, slice(middle, rows.stop))


def in_chunks(work: Callable[[slice], T], chunks: Iterable[slice]) -> list[T]:
    """Results of work on chunks of rows, in order: of one, or of parts of it, see `halved`."""
    return [part for chunk in chunks for part in halved(work, chunk)]


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """That many threads in torch within the block; nothing is touched if it has them already."""
    before = torch.get_num_threads()
    if n_threads == before:
        yield
        return
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shared_threads(n_jobs: int | None) -> AbstractContextManager[None]:
    """Divide torch's threads among joblib's workers, so that they are not more than the cores.

    Worker processes have fewer threads from joblib or dask already; workers that are threads
    of this process take the number set here when they start.
    """
    return torch_threads(max(1, torch.get_num_threads() // effective_n_jobs(n_jobs)))
