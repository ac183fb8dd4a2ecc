"""Journals of rows that are finished, so that a call that was killed can go on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from alignlearn import _files

_FORMAT = "alignlearn journal 1"


class Journal:
    """A text file with a line of JSON that says which job, and one for each finished chunk of it.

    Parameters
    ----------
    path : str or os.PathLike
        Made if missing.
    fingerprint : dict of str
        What the results depend on, by name.

    Raises
    ------
    ValueError
        If the file is no journal, or that of another job.
    """

    def __init__(self, path, fingerprint: dict[str, str]) -> None:
        self.path, job = Path(path), {"format": _FORMAT} | fingerprint
        if not self.path.exists():
            _files.write_atomically(self.path, json.dumps(job).encode())
        try:
            found, *self._lines = self.path.read_text().split("\n")
            found = dict(json.loads(found))
        except (ValueError, TypeError):
            found = {}
        if found.get("format") != _FORMAT:
            raise ValueError(f"{str(path)!r} is no journal of alignlearn: pass another path.")
        other = sorted(k for k in found.keys() | job.keys() if found.get(k) != job.get(k))
        if other:
            raise ValueError(
                f"the journal {str(path)!r} is of another job, which differs in "
                f"{', '.join(other)}. Pass the same rows, parameters and fitted model to go on "
                "with it, or another path to start anew."
            )

    def finished(self, array) -> np.ndarray:
        """Which rows (n,) of the array are as they were when they were entered."""
        done = np.zeros(array.shape[0], dtype=bool)
        for line in self._lines:
            start, _, rest = line.partition(" ")
            stop, _, digest = rest.partition(" ")
            if start.isdecimal() and stop.isdecimal():  # not a line cut short by a kill
                place = slice(int(start), int(stop))
                done[place] |= digest == _digest(array, place)
        return done

    def add(self, place: slice, array) -> None:
        """Enter rows that were written."""
        if hasattr(array, "flush"):  # h5py holds what is written back
            array.flush()
        line = f"\n{place.start} {place.stop} {_digest(array, place)}"  # ends one cut short
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def _digest(array, place: slice) -> str:
    """The sha256 of rows as they are read back."""
    return hashlib.sha256(np.ascontiguousarray(array[place])).hexdigest()
