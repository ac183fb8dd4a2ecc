"""Values as trees of plain ones, and back: what pickles, files and checkpoints are made of.

A plain tree holds None, bool, int, float, str, lists, numpy arrays, and nodes for all else:

===============================================  ==================================================
``{"tuple": [...]}``                             tuple
``{"dict": [[key, value], ...]}``                dict
``{"scalar": array}``                            numpy scalar
``{"tensor": array, "device": name}``            tensor; a file has no device
``{"device": name}``                             torch.device
``{"random_state": tuple}``                      numpy RandomState, with its state
``{"class": cls, "fields": {...}}``              NamedTuple, dataclass, estimator or plain object
``{"class": cls, "parameters": {...}, ...}``     module, structurally: nothing is called to build it
===============================================  ==================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from alignlearn._arrays import resolve_device

_PLAIN = (type(None), bool, int, float, str, np.ndarray, np.memmap)
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
_TORCH_MODULES = (nn.Conv2d, nn.Linear, nn.ModuleList)


class Encoder:
    """Makes plain trees, for pickle and the like: what is not the library's own is left alone."""

    omitted: frozenset[str] = frozenset()  # fields of objects that are left out
    keeps_device = True

    def is_own(self, cls: type) -> bool:
        """Whether objects of a class are taken apart: not those that pickle in their own way."""
        own = cls.__module__.partition(".")[0] == "alignlearn" or cls in _TORCH_MODULES
        return own and cls.__reduce__ is object.__reduce__

    def foreign(self, value: Any, path: str) -> Any:
        """What becomes of a value that is neither plain nor own; `path` says where it is."""
        return value

    def __call__(self, value: Any, path: str = "") -> Any:
        """Plain tree of a value."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is list:
            return [self(item, f"{path}[{i}]") for i, item in enumerate(value)]
        if kind is tuple:
            return {"tuple": self(list(value), path)}
        if kind is dict:
            return {"dict": [[self(k, path), self(v, f"{path}[{k!r}]")] for k, v in value.items()]}
        if isinstance(value, np.generic):
            return {"scalar": np.asarray(value)}
        if isinstance(value, Tensor):
            return self._tensor(value)
        if kind is torch.device:
            return {"device": str(value)}
        if kind is np.random.RandomState:
            return {"random_state": self(value.get_state())}
        if not self.is_own(kind):
            return self.foreign(value, path)
        if isinstance(value, nn.Module):
            return self._module(value, path)
        fields = value._asdict() if isinstance(value, tuple) else vars(value)
        return {"class": kind, "fields": self._named(fields, path)}

    def _named(self, values: dict, path: str) -> dict:
        """Plain trees of attributes by name."""
        start = f"{path}." if path else ""
        return {k: self(v, start + k) for k, v in values.items() if k not in self.omitted}

    def _tensor(self, value: Tensor) -> dict:
        node = {"tensor": value.detach().cpu().numpy()}
        if self.keeps_device and value.device.type != "cpu":
            node["device"] = str(value.device)
        return node

    def _module(self, value: nn.Module, path: str) -> dict:
        own = {k: v for k, v in vars(value).items() if k not in _MODULE_ATTRIBUTES}
        return {
            "class": type(value),
            "parameters": self._named(value._parameters, path),
            "trained": [
                k for k, p in value._parameters.items() if p is not None and p.requires_grad
            ],
            "buffers": self._named(value._buffers, path),
            "modules": self._named(value._modules, path),
            "training": value.training,
            "fields": self._named(own, path),
        }


def decode(node: Any, device: torch.device | None = None) -> Any:
    """Value of a plain tree, its tensors on a device: None is the one they came from, if usable."""
    if type(node) is list:
        return [decode(item, device) for item in node]
    if type(node) is not dict:
        return node
    if "class" in node:
        build = _module if "parameters" in node else _object
        return build(node, device)
    if "tensor" in node:
        return _tensor(node["tensor"], _usable(node.get("device", "cpu")) if not device else device)
    (kind, content), *rest = node.items()
    if rest:
        raise ValueError(f"expected a node of one kind, got {sorted(node)}.")
    if kind == "tuple":
        return tuple(decode(content, device))
    if kind == "dict":
        return {decode(key, device): decode(value, device) for key, value in content}
    if kind == "scalar":
        return content[()]
    if kind == "device":
        return torch.device(content)
    if kind == "random_state":
        random_state = np.random.RandomState(0)
        random_state.set_state(decode(content))
        return random_state
    raise ValueError(f"expected a node of a known kind, got {kind!r}.")


def _usable(name: str) -> torch.device:
    """The device of that name, or the CPU where it is missing."""
    try:
        return resolve_device(name)
    except ValueError:
        return torch.device("cpu")


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """A tensor of its own memory with the strides of the array: products round alike."""
    array = array if array.flags.writeable else array.copy(order="K")
    return torch.from_numpy(array).clone().to(device)


def _named(nodes: dict, device) -> dict:
    return {name: decode(node, device) for name, node in nodes.items()}


def _object(node: dict, device) -> Any:
    cls, fields = node["class"], _named(node["fields"], device)
    if issubclass(cls, tuple):
        return cls(**fields)
    # An older file knows nothing of newer parameters: an estimator starts from its defaults.
    value = cls() if issubclass(cls, BaseEstimator) else object.__new__(cls)
    vars(value).update(fields)
    return value


def _module(node: dict, device) -> nn.Module:
    module = node["class"].__new__(node["class"])
    nn.Module.__init__(module)
    vars(module).update(_named(node["fields"], device))
    for name, value in _named(node["parameters"], device).items():
        trained = name in node["trained"]
        value = None if value is None else nn.Parameter(value, requires_grad=trained)
        module.register_parameter(name, value)
    for name, value in _named(node["buffers"], device).items():
        module.register_buffer(name, value)
    for name, value in _named(node["modules"], device).items():
        module.add_module(name, value)
    return module.train(node["training"])
