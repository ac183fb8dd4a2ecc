"""IDX files, the format in which MNIST and its relatives are distributed: read, nothing fetched."""

from __future__ import annotations

import gzip
import math
import os
import zlib

import numpy as np

# Third byte of the magic number: what the numbers are, big-endian.
_TYPES = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP, _CHUNK = b"\x1f\x8b", 1 << 20


def load_idx(path, *, max_bytes: int = 1 << 30) -> np.ndarray:
    """Array in an IDX file, such as ``train-images-idx3-ubyte`` or the same with ``.gz``.

    Two zero bytes, a byte for the type, a byte for the number of axes, their lengths as big-endian
    32-bit numbers, then the entries, last axis fastest. Whether it is compressed is read from its
    content. Nothing is allocated for what a file only declares.

    Parameters
    ----------
    path : str or os.PathLike
        A local file.
    max_bytes : int, default=2**30
        Entries of more bytes are refused.

    Returns
    -------
    array : ndarray
        In the machine's own byte order. Images have shape (n, height, width): ``array.reshape(n,
        -1)`` are the rows that `fit` takes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a folder, no IDX file, of an unknown type, shorter or longer than it declares, a
        damaged gzip file, or larger than `max_bytes`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from alignlearn.datasets import load_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "two-images")
    ...     header = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2])
    ...     _ = file.write_bytes(header + bytes([5, 6, 7, 8]))
    ...     load_idx(file)
    array([[[5, 6]],
    <BLANKLINE>
           [[7, 8]]], dtype=uint8)
    """
    name = repr(os.fspath(path))
    if os.path.isdir(path):
        raise ValueError(f"expected an IDX file, got the folder {name}.")
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        if not compressed:
            return _read(file, name, max_bytes)
        try:
            with gzip.open(file) as inner:
                return _read(inner, name, max_bytes)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"{name} is a damaged or truncated gzip file ({error}): copy it anew."
            ) from error


def _read(file, name: str, max_bytes: int) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"{name} is no IDX file: expected two zero bytes, a type and a number of axes, got the "
            f"bytes {magic.hex(' ') or 'of an empty file'}."
        )
    if magic[2] not in _TYPES:
        known = ", ".join(f"0x{code:02X}" for code in _TYPES)
        raise ValueError(f"{name} has entries of type 0x{magic[2]:02X}; IDX files have {known}.")
    if not 1 <= magic[3] <= 32:  # more axes than NumPy may have
        raise ValueError(f"{name} declares {magic[3]} axes: expected 1 to 32.")
    lengths = file.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise ValueError(f"{name} ends within its header of {magic[3]} axes: copy it anew.")
    dtype = _TYPES[magic[2]]
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > max_bytes:
        raise ValueError(
            f"{name} declares shape {shape}, {n_bytes} bytes: more than max_bytes = {max_bytes}. "
            "Pass a larger max_bytes if the file is meant to be so large."
        )
    data = bytearray()
    while len(data) <= n_bytes and (piece := file.read(min(_CHUNK, n_bytes + 1 - len(data)))):
        data += piece
    if len(data) != n_bytes:
        found = f"only {len(data)}" if len(data) < n_bytes else "more"
        raise ValueError(
            f"{name} declares shape {shape}, {n_bytes} bytes, and has {found}: it is truncated or "
            "of another format; copy it anew."
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))
