"""Checkpoint: the state of a fit in a folder, from which a fit that was killed goes on."""

from __future__ import annotations

import hashlib
import secrets
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from torch import Tensor, nn

from alignlearn import __version__, _files
from alignlearn._blocks import row_blocks
from alignlearn._rows import DiskRows

FILE = "training.safetensors"

# Writing takes at most about one part in so many of the time.
_SHARE = 20


class Checkpoint:
    """Trainings of one fit, one after the other, each finished or under way.

    A fit that runs again does everything in the same order as before, from the same seed; only the
    trainings that it finds here are not repeated but taken over, with the state of the generator
    that they left. So nothing else needs to be stored, and the end is the same bit by bit.

    Parameters
    ----------
    folder : str or os.PathLike
        Made if missing. For one fit at a time.
    fingerprint : dict of str
        What the fit depends on, by name, see `fingerprint`.

    Attributes
    ----------
    seed : int
        For a fit without a seed of its own: as random as the first time, the same afterwards.
    writes : bool
        Whether to write; of several processes that train together, only one does.

    Raises
    ------
    ValueError
        If the folder is a file, or holds another fit or a damaged checkpoint.
    """

    def __init__(self, folder, fingerprint: dict[str, str]) -> None:
        self.path = Path(folder) / FILE
        if self.path.parent.exists() and not self.path.parent.is_dir():
            raise ValueError(f"checkpoint must be a folder or None, got the file {str(folder)!r}.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left in self.path.parent.glob(f"{FILE}.*.tmp"):  # by a process killed while it wrote
            with suppress(OSError):
                left.unlink()
        self.fingerprint = fingerprint
        self.seed = secrets.randbelow(np.iinfo(np.int32).max)  # leaves global generators alone
        self.writes = True
        self._found: list[dict] = []
        self._trainings: list[dict] = []
        self._last_write, self._cost = -np.inf, 0.0
        if self.path.exists():
            saved = _files.read(self.path, {}, "checkpoint")
            self._check_same_fit(saved["fingerprint"])
            self.seed, self._found = saved["seed"], saved["trainings"]

    def _check_same_fit(self, found: dict[str, str]) -> None:
        names = sorted(found.keys() | self.fingerprint.keys())
        other = [name for name in names if found.get(name) != self.fingerprint.get(name)]
        if other:
            was, now = ([str(of.get(k)) for k in other] for of in (found, self.fingerprint))
            differences = ", ".join(
                f"{k} ({a:.40} there, {b:.40} here)"
                for k, a, b in zip(other, was, now, strict=True)
            )
            raise ValueError(
                f"checkpoint={str(self.path.parent)!r} holds another fit, which differs in "
                f"{differences}. Pass the same data and parameters to go on with it (an integer "
                "random_state, if that is what differs), or another folder to start anew."
            )

    def restore(self, state: Any) -> None:
        """Bring the next training to where it was left, if it was begun."""
        i = len(self._trainings)
        self._trainings.append({})
        if i < len(self._found):
            self._trainings[i] = self._found[i]
            state.load_state_dict(self._found[i])

    def keep(self, state: Any) -> None:
        """Write the state of the training under way, unless that was done a moment ago."""
        if time.monotonic() - self._last_write >= _SHARE * self._cost:
            self._write(state.state_dict())

    def finish(self, state: Any) -> None:
        """Write what is left of a training that is over, unless it came from here."""
        if self._trainings[-1].keys() != (saved := state.state_dict(finished=True)).keys():
            self._write(saved)

    def _write(self, training: dict) -> None:
        self._trainings[-1] = training
        if not self.writes:
            return
        content = {
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "trainings": self._trainings,
        }
        start = time.monotonic()
        try:
            _files.write(self.path, content, {}, "checkpoint")
        except OSError as error:  # rather lose the checkpoint than the training
            warnings.warn(
                f"the checkpoint {str(self.path)!r} could not be written: {error}. Training goes "
                "on; if it is killed, it resumes from the last one that could.",
                RuntimeWarning,
                stacklevel=2,
            )
        self._last_write = time.monotonic()
        self._cost = self._last_write - start


def fingerprint(estimator, x: Tensor | DiskRows) -> dict[str, str]:
    """What a fit depends on: parameters, rows in the model's coordinates, device and version."""
    params = estimator.get_params(deep=False).items()
    return {
        "data": digest(x),
        "device": x.device.type,
        "alignlearn": __version__,
        **{k: describe(v) for k, v in params if k not in ("checkpoint", "device")},
    }


def describe(value) -> str:
    """Text that is the same for equal values, also in another process."""
    if isinstance(value, nn.Module):
        return f"{type(value).__qualname__} {digest(*value.state_dict().values())}"
    if isinstance(value, np.random.RandomState):
        return f"RandomState {value.get_state()[2]} {digest(value.get_state()[1])}"
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


def digest(*arrays) -> str:
    """The sha256 of shapes, types and contents, in short; tables are taken in blocks."""
    sha = hashlib.sha256()
    for array in arrays:
        shape = tuple(array.shape)
        for i, rows in enumerate(row_blocks(*shape) if len(shape) == 2 else [...]):
            part = array[rows]
            part = part.detach().cpu().numpy() if isinstance(part, Tensor) else part
            sha.update(f"{part.dtype} {shape}".encode() if i == 0 else b"")
            sha.update(part.tobytes())
    return sha.hexdigest()[:16]
