"""One safetensors file of plain values: arrays, a JSON text, checked by a hash, written at once."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from alignlearn import __version__
from alignlearn._plain import Encoder, decode

FORMAT_VERSION = 1
_ARRAY_KINDS = "biufc"
_NO_ARRAYS = ("float128", "complex128", "complex256")  # no such thing in safetensors
_TAGS = frozenset({"class", "fields", "parameters", "buffers", "modules", "tensor", "dict"})


class FileEncoder(Encoder):
    """Plain trees for files: objects of the classes listed and nothing else, without a device."""

    omitted = frozenset({"_skl_callbacks"})  # scikit-learn's, for one session
    keeps_device = False

    def __init__(self, classes: Mapping[str, type]) -> None:
        self._own = frozenset(classes.values())

    def is_own(self, cls: type) -> bool:
        """Whether the table has the class."""
        return cls in self._own

    def foreign(self, value: Any, path: str) -> Any:
        """Refuse it.

        Raises
        ------
        TypeError
            Always, with the attribute's name and what to do.
        """
        raise TypeError(
            f"{path or 'the value'} is a {type(value).__module__}.{type(value).__qualname__}: a "
            "file holds the library's own objects and plain values only, so that reading it runs "
            "no foreign code. Keep it apart (of a torch module the state_dict()), or use pickle."
        )


def write(path, value: Any, classes: Mapping[str, type], kind: str) -> None:
    """Write a value to one file, atomically.

    Parameters
    ----------
    path : str or os.PathLike
    value : object
        Plain values, tensors and objects of `classes`, nested.
    classes : mapping of str to type
        The closed table: names in the file and what they stand for.
    kind : str
        What the file is, asked again by `read`.

    Raises
    ------
    TypeError
        If the value holds anything else; nothing is written.
    OSError
        If writing fails; a file that was there is unchanged.
    """
    arrays: dict[str, np.ndarray] = {}
    names = {cls: name for name, cls in classes.items()}
    tree = _pack(FileEncoder(classes)(value), "", arrays, names)
    metadata = {
        "format": f"alignlearn {kind}",
        "format_version": str(FORMAT_VERSION),
        "library_version": __version__,
        "content": json.dumps(tree, allow_nan=False),
    }
    metadata["sha256"] = _digest(metadata, arrays)
    write_atomically(path, to_safetensors(arrays, metadata))


def read(path, classes: Mapping[str, type], kind: str, device: torch.device | None = None) -> Any:
    """Value that `write` wrote, its tensors on a device.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, foreign, of another kind or from a newer version of the library.
    """
    if os.path.isdir(path):
        raise ValueError(f"expected a file, got the folder {os.fspath(path)!r}.")
    metadata, arrays = _read_safetensors(path)
    if metadata.get("format") != f"alignlearn {kind}":
        found = metadata.get("format", "a safetensors file of something else")
        raise ValueError(f"{os.fspath(path)!r} is no alignlearn {kind}: it is {found!s:.80}.")
    version = metadata.get("format_version", "")
    if version.isdecimal() and int(version[:9]) > FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} is in format {version[:9]}, written by alignlearn "
            f"{metadata.get('library_version')!s:.40}; this is alignlearn {__version__}, which "
            f"reads formats up to {FORMAT_VERSION}: update alignlearn."
        )
    if metadata.get("sha256") != _digest(metadata, arrays):
        raise ValueError(f"{os.fspath(path)!r} is damaged: its content does not match its sha256.")
    try:
        return decode(_unpack(json.loads(metadata["content"]), arrays, classes), device)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{os.fspath(path)!r}, written by alignlearn {metadata.get('library_version')!s:.40}, "
            f"holds what alignlearn {__version__} cannot rebuild: {error}"
        ) from error


def write_atomically(path, data: bytes) -> None:
    """Write a file so that at any moment it is the old or the new one, as a whole.

    Raises
    ------
    OSError
        If writing fails; no temporary file is left.
    """
    path = os.path.realpath(os.fsdecode(path))
    temporary = f"{path}.{secrets.token_hex(6)}.tmp"  # same folder, so that renaming is atomic
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # the renaming itself onto the disk, where folders can be opened
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read_safetensors(path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if not metadata.get("format", "").startswith("alignlearn "):
                return metadata, {}
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # whatever a parser says of bytes that are none of ours
        raise ValueError(
            f"{os.fspath(path)!r} is no file of alignlearn, or it is damaged: {error!s:.200}"
        ) from error


def _digest(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """The sha256 of all names and contents but itself, each with its length before it."""
    digest = hashlib.sha256()

    def add(data) -> None:
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)

    for name in sorted(metadata.keys() - {"sha256"}):
        add(name)
        add(metadata[name])
    for name in sorted(arrays):
        array = arrays[name]
        add(name)
        add(f"{array.dtype.name} {array.shape}")
        add(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _pack(node: Any, path: str, arrays: dict[str, np.ndarray], names: Mapping[type, str]) -> Any:
    """JSON of a plain tree; arrays go into `arrays`, named by their place; classes become names."""
    if isinstance(node, list):
        return [_pack(item, _join(path, i), arrays, names) for i, item in enumerate(node)]
    if isinstance(node, dict):
        return {k: _pack(item, _join(path, k), arrays, names) for k, item in node.items()}
    if isinstance(node, type):
        return names[node]
    if isinstance(node, float) and not math.isfinite(node):
        return {"float": str(node)}
    if not isinstance(node, np.ndarray):
        return node
    if node.dtype.kind == "U" or (node.dtype == object and all(type(t) is str for t in node.flat)):
        return {"text": node.tolist(), "object": node.dtype == object}
    if node.dtype.kind not in _ARRAY_KINDS or node.dtype.name in _NO_ARRAYS:
        raise TypeError(
            f"{path} is an array of {node.dtype}: expected numbers of up to 64 bits, booleans or "
            "text."
        )
    while path in arrays:
        path += "_"
    # Strides survive, since a product may round otherwise with others: stored in memory order.
    axes = sorted(range(node.ndim), key=lambda i: -abs(node.strides[i]))
    arrays[path] = node.transpose(axes).astype(node.dtype.newbyteorder("="), order="C")
    return {"array": path, "axes": axes}


def _join(path: str, key) -> str:
    if key in _TAGS:
        return path
    return f"{path}.{key}" if path else str(key)


def _unpack(tree: Any, arrays: Mapping[str, np.ndarray], classes: Mapping[str, type]) -> Any:
    """Plain tree of a JSON text."""
    if isinstance(tree, list):
        return [_unpack(item, arrays, classes) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "float" in tree:
        return float(tree["float"])
    if "text" in tree:
        return np.array(tree["text"], dtype=object if tree["object"] else str)
    if "array" in tree:
        return arrays[tree["array"]].transpose(np.argsort(tree["axes"]))
    node = {key: _unpack(item, arrays, classes) for key, item in tree.items()}
    if "class" in node:
        if node["class"] not in classes:
            raise ValueError(f"class {node['class']!s:.80} is none of this version.")
        node["class"] = classes[node["class"]]
    return node
