"""The user's table from a file: csv, npy, npz or parquet, as a float64 matrix or a clear error."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
_NAMED = 5  # how many columns or arrays an error names


class TableError(ValueError):
    """A file that cannot be used as data; the message says what to do."""


class Table(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_features)
        Finite float64.
    columns : tuple of str
        Names of the columns; their numbers, from 1, where the file has none.
    notes : tuple of str
        What was changed on the way, to be shown to the user.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_table(path, key: str | None = None) -> Table:
    """Read the numeric table in a file; the suffix says how.

    Parameters
    ----------
    path : str or Path
        ``.csv`` or ``.tsv`` (with or without a line of names), ``.npy``, ``.npz`` or ``.parquet``
        (needs pandas).
    key : str, optional
        Which array of an ``.npz`` file; not needed if there is one only.

    Returns
    -------
    Table

    Raises
    ------
    TableError
        If the file is not there or not readable, or holds columns that are not numbers, or missing
        values. Pickled objects are never loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"no file {str(path)!r}: expected the path of a table.")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise TableError(
            f"{path.name}: unknown suffix {suffix!r}, expected one of {', '.join(_READERS)}."
        )
    if key is not None and suffix != ".npz":
        raise TableError(f"{path.name}: a key names an array of an .npz file, this is {suffix}.")
    try:
        table = _READERS[suffix](path, key)
    except TableError as error:
        raise TableError(f"{path.name}: {error}") from error
    except OSError as error:
        raise TableError(f"{path.name}: cannot be read: {error}") from error
    return table


def _finite(values: np.ndarray, columns: Sequence[str], notes: Sequence[str] = ()) -> Table:
    """Check a float matrix for emptiness and missing values."""
    if 0 in values.shape:
        raise TableError(f"the table is empty: {values.shape[0]} rows, {values.shape[1]} columns.")
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        kind = "a missing value" if np.isnan(values[row, column]) else "an infinite value"
        raise TableError(
            f"{kind} in row {row + 1}, column {columns[column]!r} ({bad.sum()} such in all; rows "
            "are counted from 1, without the line of names). Drop or impute these rows first."
        )
    return Table(values, tuple(columns), tuple(notes))


def _not_numeric(columns: Sequence[str], examples: Sequence[str]) -> TableError:
    shown = [f"{name!r} (such as {value!r})" for name, value in zip(columns, examples, strict=True)]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return TableError(
        f"not numeric: column {', '.join(shown[:_NAMED])}{more}. Every column must be numbers: "
        "drop these, or encode them first."
    )


def _number(cell: str) -> float | None:
    """Value of a cell, NaN for a missing one, None for text."""
    cell = cell.strip()
    if cell.lower() in _MISSING:
        return np.nan
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None


def _read_csv(path: Path, key: str | None) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"not a text file in UTF-8 (byte {error.start}). Save it as UTF-8 csv."
        ) from error
    first_line = text.lstrip().split("\n", 1)[0]
    delimiter = max("\t;,", key=first_line.count)
    lines = csv.reader(text.splitlines(), delimiter=delimiter)
    numbered = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    if not numbered:
        raise TableError("the file is empty.")
    width = len(numbered[0][1])
    for number, row in numbered:
        if len(row) != width:
            raise TableError(
                f"line {number} has {len(row)} cells, the first line has {width}. Expected a "
                "table whose lines have the same number of cells."
            )
    rows = [row for _, row in numbered]
    named = _has_names(rows)
    columns = [cell.strip() for cell in rows[0]] if named else _counted(width)
    rows = rows[named:]
    if not rows:
        raise TableError("the table is empty: a line of names and no rows.")
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError:
        values = _cells(rows, columns)
    return _finite(*_without_row_numbers(values, columns))


def _cells(rows: list[list[str]], columns: Sequence[str]) -> np.ndarray:
    """Cell by cell, for a table with missing values; text is an error that names its columns."""
    parsed = [[_number(cell) for cell in row] for row in rows]
    text = {}
    for row, numbers in zip(rows, parsed, strict=True):
        for j, number in enumerate(numbers):
            if number is None:
                text.setdefault(j, row[j].strip())
    if text:
        raise _not_numeric([columns[j] for j in sorted(text)], [text[j] for j in sorted(text)])
    return np.array(parsed, dtype=np.float64)


def _has_names(rows: list[list[str]]) -> bool:
    """Whether the first line names the columns.

    It does if a cell of it is text above a number, if all of it is text, or if it counts 0, 1, 2
    ..., as pandas writes a frame without names (an unnamed first column holds the row numbers).
    """
    first = [cell.strip() for cell in rows[0]]
    second = rows[1] if len(rows) > 1 else [""] * len(first)
    text = [_number(cell) is None for cell in first]
    above_number = any(
        t and _number(cell) is not None for t, cell in zip(text, second, strict=True)
    )
    counts = first[1:] if first[0] == "" else first
    counted = len(counts) > 2 and counts == [str(i) for i in range(len(counts))]
    return above_number or all(text) or counted


def _counted(n: int) -> list[str]:
    return [str(i + 1) for i in range(n)]


def _without_row_numbers(values: np.ndarray, columns: list[str]):
    """Drop an unnamed first column 0, 1, 2, ...: the index that pandas writes."""
    if columns[0] == "" and len(columns) > 1 and (values[:, 0] == np.arange(len(values))).all():
        return values[:, 1:], columns[1:], ["left out the unnamed first column: row numbers"]
    return values, [name or str(i + 1) for i, name in enumerate(columns)]


def _read_npy(path: Path, key: str | None) -> Table:
    return _from_array(_load(path))


def _read_npz(path: Path, key: str | None) -> Table:
    with _load(path) as archive:
        names = archive.files
        if key is None and len(names) != 1:
            raise TableError(f"holds {len(names)} arrays, name one with --key: {', '.join(names)}.")
        if key is not None and key not in names:
            raise TableError(f"no array {key!r}, the file holds {', '.join(names)}.")
        try:
            array = archive[names[0] if key is None else key]
        except ValueError as error:
            raise _object_error() from error
    return _from_array(array)


def _load(path: Path):
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if "allow_pickle" in str(error) and "Object arrays" in str(error):
            raise _object_error() from error
        raise TableError("not a file that numpy.save wrote, or damaged.") from error


def _object_error() -> TableError:
    return TableError(
        "holds Python objects, which are not loaded because that can run code. Save an array of "
        "numbers: numpy.save(file, array.astype(float))."
    )


def _from_array(array: np.ndarray) -> Table:
    if array.dtype.kind not in "fiub":
        raise TableError(f"expected an array of real numbers, got dtype {array.dtype}.")
    if array.ndim < 2:
        raise TableError(
            f"expected an array of shape (n_samples, n_features), got shape {array.shape}."
        )
    notes = []
    if array.ndim > 2:
        notes = [f"flattened shape {array.shape} to one row per sample"]
        array = array.reshape(len(array), int(np.prod(array.shape[1:])))
    return _finite(array.astype(np.float64), _counted(array.shape[1]), notes)


def _read_parquet(path: Path, key: str | None) -> Table:
    try:
        import pandas as pd

        frame = pd.read_parquet(path)
    except ImportError as error:
        raise TableError(
            "parquet files need pandas and pyarrow: pip install 'alignlearn[table]'."
        ) from error
    except (ValueError, TypeError) as error:
        raise TableError(f"not a readable parquet file: {error}") from error
    return _from_frame(frame)


def _from_frame(frame) -> Table:
    """A pandas data frame; its index is not data."""
    columns = [str(name) for name in frame.columns]
    numeric = [t.kind in "fiub" for t in frame.dtypes]
    if not all(numeric):
        text = [j for j, yes in enumerate(numeric) if not yes]
        examples = [str(frame.iloc[0, j]) if len(frame) else "" for j in text]
        raise _not_numeric([columns[j] for j in text], examples)
    return _finite(frame.to_numpy(dtype=np.float64, na_value=np.nan), columns)


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
