"""Answers at more rows than memory holds: in chunks, written as they come, kept when killed."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy import sparse
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from alignlearn import __version__
from alignlearn._arrays import shared_threads
from alignlearn._blocks import row_blocks, rows_of_block
from alignlearn._journal import Journal
from alignlearn._plain import Encoder
from alignlearn.checkpoint import describe

__all__ = ["Resumable"]

# Chunks under way for each worker: they bound the memory where writing is slower than computing.
_AHEAD = 16


class Resumable:
    """An array that results are streamed into, with a journal of the rows that are finished.

    Passed as ``out=`` to a method of `LyapunovManifold`. If the process or a worker is killed, the
    same call goes on with the rows that are missing, and the result is the same bit by bit. A line
    of the journal holds the sha256 of the rows as they lie in the array: what was never written,
    was written by half or was overwritten since is computed again.

    ``out="name.npy"`` is short for a memory-mapped file, made where it is missing, with its journal
    ``name.npy.journal`` beside it.

    Parameters
    ----------
    array : array-like
        Has `shape` and `dtype`, and reads and writes slices of rows: a writable memmap, a dataset
        of h5py or zarr.
    journal : str or os.PathLike
        Text file, made if missing. For one call with one model and one set of rows at a time;
        anything else is refused with a ValueError.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from alignlearn import LyapunovManifold
    >>> from alignlearn.datasets import make_sphere
    >>> from alignlearn.models import GaussianModel
    >>> from alignlearn.streaming import Resumable
    >>> X = make_sphere(50, 2, random_state=0).points
    >>> m = LyapunovManifold(model=GaussianModel(), random_state=0).fit(X)
    >>> out = np.empty((50, 3, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = os.path.join(folder, "journal")
    ...     result = m.tangent_space(X, n_components=2, out=Resumable(out, journal))
    >>> result is out, bool((out == m.tangent_space(X, n_components=2)).all())
    (True, True)
    """

    def __init__(self, array, journal):
        self.array = array
        self.journal = journal


class Question(Protocol):
    """What is asked of every row alone, in chunks, and by workers: a value that can be pickled."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the answers depend on, by name."""

    def chunks(self, n_rows: int) -> Iterator[slice]:
        """Rows that are answered together, in order: as many as memory allows."""

    def answer(self, X: np.ndarray) -> tuple[np.ndarray, ...]:
        """One array or several with as many rows as X (n, D)."""


class Rows:
    """Rows of X as float64, checked before anything is computed; what is stored stays there.

    Parameters
    ----------
    X : array-like of shape (n, D)
        A memmap, and what else has a shape, a dtype and slices but is no array in memory, is
        read in blocks, once to check it and once to answer; anything else is validated as a whole.
    validate : callable
        Gives float64 rows or raises.
    check : callable
        Raises for valid rows that have no answer.
    """

    def __init__(self, X, validate: Callable, check: Callable[[np.ndarray], Any]) -> None:
        self.is_stored = _is_stored(X)
        self.X = X if self.is_stored else validate(X)
        self._validate = validate if self.is_stored else np.asarray
        for block in self._blocks():
            check(block)

    def __len__(self) -> int:
        return int(self.X.shape[0])

    @property
    def _n_columns(self) -> int:
        return int(np.prod(self.X.shape[1:]))

    def _read(self, start: int, stop: int) -> np.ndarray:
        return np.ascontiguousarray(self._validate(self.X[start:stop]))

    def _blocks(self) -> Iterator[np.ndarray]:
        for rows in row_blocks(len(self), self._n_columns):
            yield self._read(rows.start, rows.stop)

    def chunks(self, places: Iterator[slice]) -> Iterator[tuple[slice, np.ndarray]]:
        """Ascending places and the rows (n_chunk, D) there, in C order: strides change rounding."""
        start, block, size = 0, np.empty((0, 0)), rows_of_block(self._n_columns)
        for place in places:
            if place.stop > start + len(block):
                start = place.start
                block = self._read(start, max(place.stop, min(start + size, len(self))))
            yield place, block[place.start - start : place.stop - start]

    def digest(self) -> str:
        """The sha256 of shape and contents, in short."""
        digest = hashlib.sha256(f"{tuple(self.X.shape)}".encode())
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()[:16]


def _is_stored(X) -> bool:
    in_memory = isinstance(X, np.ndarray | Tensor) and not isinstance(X, np.memmap)
    sliced = hasattr(type(X), "dtype") and hasattr(X, "shape") and hasattr(X, "__getitem__")
    return sliced and not in_memory and not sparse.issparse(X)


def stream(
    question: Question,
    rows: Rows,
    types: Sequence[np.dtype],
    out: Sequence | None = None,
    *,
    finish: Callable[..., tuple] = lambda *parts: parts,
    n_jobs: int | None = None,
    job: dict | None = None,
) -> tuple:
    """Answers at rows, chunk by chunk: the memory needed does not grow with their number.

    Parameters
    ----------
    question : Question
        Computed by the workers.
    rows : Rows
    types : sequence of numpy.dtype
        Of each result, with the shape of one row's: ``np.dtype((float, (D, d)))``.
    out : sequence of array-like, path or Resumable, optional
        Where each result is written; default new arrays.
    finish : callable, optional
        Results from the parts of an answer, in this process.
    n_jobs : int, optional
        Workers, through joblib.
    job : dict, optional
        What the results depend on beside the question's settings and the rows, by name.

    Returns
    -------
    tuple of array-like

    Raises
    ------
    ValueError
        If `out` does not fit, or belongs to another job.
    TypeError
        If `out` is nothing that rows can be written to.
    """
    out = [None] * len(types) if out is None else list(out)
    fingerprint = {}
    if any(isinstance(target, str | os.PathLike | Resumable) for target in out):
        fingerprint = _fingerprint(question, rows, job or {})
    targets = [_Target(o, len(rows), t, fingerprint) for o, t in zip(out, types, strict=True)]
    todo = (
        place
        for place in question.chunks(len(rows))
        if not all(target.has(place) for target in targets)
    )
    try:
        with shared_threads(n_jobs):
            for place, parts in _answers(question, rows.chunks(todo), n_jobs):
                for target, result in zip(targets, finish(*parts), strict=True):
                    target.write(place, result)
    except BaseException as error:  # also Ctrl-C and a worker that was killed
        if fingerprint:
            error.add_note(
                "What was finished is kept: the same call with the same out= goes on from there."
            )
        raise
    return tuple(target.array for target in targets)


def stream_one(
    question: Question,
    rows: Rows,
    row: np.dtype,
    out=None,
    finish: Callable[[np.ndarray], np.ndarray] = lambda part: part,
    *,
    n_jobs: int | None = None,
    **job,
):
    """The one result of `stream`, of type `row`; `finish` makes it of an answer and of `job`."""
    [found] = stream(
        question,
        rows,
        [row],
        None if out is None else [out],
        finish=lambda part: (finish(part),),
        n_jobs=n_jobs,
        job=job,
    )
    return found


def _answers(question: Question, chunks: Iterator, n_jobs: int | None) -> Iterator[tuple]:
    """Places and answers as workers finish them, at most `_AHEAD` chunks for each under way."""
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:  # multiprocessing and ray answer in lists only
        parallel = Parallel(n_jobs=n_jobs)
    with parallel:
        while wave := list(islice(chunks, _AHEAD * effective_n_jobs(n_jobs))):
            yield from parallel(delayed(_answer)(question, *chunk) for chunk in wave)


def _answer(question: Question, place: slice, X: np.ndarray) -> tuple:
    return place, question.answer(X)


class _Target:
    """An array that takes the rows of a result, and which of them it has."""

    def __init__(self, out, n_rows: int, row: np.dtype, fingerprint: dict[str, str]) -> None:
        shape, self.journal, self._done = (n_rows, *row.shape), None, None
        if out is None:
            self.array = np.empty(shape, row.base)
            return
        if isinstance(out, str | os.PathLike):
            path = _npy_path(out)
            self.journal = Journal(f"{path}.journal", fingerprint)
            if not path.exists():
                _create_npy(path, shape, row.base)
            out = np.load(path, mmap_mode="r+")
        elif isinstance(out, Resumable):
            self.journal, out = Journal(out.journal, fingerprint), out.array
        _check_fits(out, shape, row.base)
        self.array = out
        if self.journal is not None:
            self._done = self.journal.finished(out)

    def has(self, place: slice) -> bool:
        """Whether these rows are there already."""
        return self._done is not None and bool(self._done[place].all())

    def write(self, place: slice, result: np.ndarray) -> None:
        """Write rows, then enter them in the journal."""
        self.array[place] = result
        if self.journal is not None:
            self.journal.add(place, self.array)


def _check_fits(out, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if not all(hasattr(out, name) for name in ("shape", "dtype", "__getitem__", "__setitem__")):
        raise TypeError(
            "out must be a numpy array or memmap, a dataset of h5py or zarr, the path of a .npy "
            f"file, or a Resumable, got {type(out).__name__}."
        )
    if tuple(out.shape) != shape:
        raise ValueError(f"out must have the shape {shape}, got {tuple(out.shape)}.")
    if not np.can_cast(dtype, out.dtype, "same_kind"):
        raise ValueError(f"out must have a dtype that holds {dtype}, got {out.dtype}.")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only: open it for writing, a memmap with mode='r+'.")


def _npy_path(out) -> Path:
    path = Path(out)
    if path.suffix != ".npy":
        raise ValueError(f"out must be an array or the path of a .npy file, got {str(path)!r}.")
    if path.exists() and not Path(f"{path}.journal").exists():
        raise ValueError(
            f"out={str(path)!r} exists and has no journal beside it: delete it, or pass another "
            "path, or the array that it holds."
        )
    return path


def _create_npy(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Make the file as a whole, sparse where the disk can."""
    temporary = path.with_suffix(".npy.tmp")
    np.lib.format.open_memmap(temporary, "w+", dtype, shape).flush()
    os.replace(temporary, path)


class _Describer(Encoder):
    """Plain trees that are equal for equal answers, also in another process."""

    omitted = frozenset(
        {"_skl_callbacks", "callbacks", "checkpoint", "device", "n_jobs", "random_state"}
    )
    keeps_device = False

    def is_own(self, cls: type) -> bool:
        return super().is_own(cls) or issubclass(cls, BaseEstimator)  # a model of the user's

    def foreign(self, value: Any, path: str) -> Any:
        if isinstance(value, nn.Module):
            return describe(value)
        try:
            return joblib.hash(value)
        except (pickle.PicklingError, AttributeError, TypeError):
            return describe(value)


def _fingerprint(question: Question, rows: Rows, job: dict) -> dict[str, str]:
    """What the results depend on; the size of chunks is not in it, which changes rounding only."""
    encode = _Describer()
    parts = {k: v for k, v in (question.settings | job).items() if k not in encode.omitted}
    hashes = {name: joblib.hash(encode(part), coerce_mmap=True) for name, part in parts.items()}
    return {"alignlearn": __version__, "rows": rows.digest()} | hashes
