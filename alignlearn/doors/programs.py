"""Networks as programs: TorchScript and `torch.export`."""

from __future__ import annotations

import io
import os

import torch

from alignlearn._arrays import resolve_device
from alignlearn.doors.wrapped import Wrapped
from alignlearn.models.pretrained import PretrainedModel


class ScriptedNetwork(Wrapped):
    """A TorchScript module that can be pickled and copied, for workers in other processes."""

    def __reduce__(self):
        buffer = io.BytesIO()
        torch.jit.save(self.network, buffer)
        return _read_script, (buffer.getvalue(),)


def _read_script(data: bytes) -> ScriptedNetwork:
    return ScriptedNetwork(torch.jit.load(io.BytesIO(data)))


class ExportedNetwork(Wrapped):
    """An exported program that can be pickled and copied, for workers in other processes.

    Parameters
    ----------
    program : torch.export.ExportedProgram
    """

    def __init__(self, program) -> None:
        super().__init__(program.module())
        self.program = program

    def __reduce__(self):
        buffer = io.BytesIO()
        torch.export.save(self.program, buffer)
        return _read_program, (buffer.getvalue(),)


def _read_program(data: bytes) -> ExportedNetwork:
    return ExportedNetwork(torch.export.load(io.BytesIO(data)))


def from_torchscript(network, prediction, schedule, *, device=None, **options):
    """Model of a TorchScript network ``(x, t)``.

    Parameters
    ----------
    network : str, os.PathLike or torch.jit.ScriptModule
        File of ``torch.jit.save``, or the module, in evaluation mode.
    prediction : Prediction
        See `PretrainedModel`.
    schedule : Schedule
        See `PretrainedModel`.
    device : str or torch.device, optional
        Where a network that is read goes; None is CUDA where there is one, else the CPU.
    **options
        Further parameters of `PretrainedModel`, such as ``clock``, ``shape``, ``shift``, ``scale``.

    Returns
    -------
    model : PretrainedModel
        Not fitted.

    Raises
    ------
    TypeError
        If it is no TorchScript module.
    """
    if isinstance(network, str | os.PathLike):
        network = torch.jit.load(os.fspath(network), map_location=resolve_device(device)).eval()
    if not isinstance(network, torch.jit.ScriptModule):
        raise TypeError(f"network must be a TorchScript module or its file, got {network!r}.")
    return PretrainedModel(ScriptedNetwork(network), prediction, schedule, **options)


def from_exported(program, prediction, schedule, **options):
    """Model of an exported network ``(x, t)``.

    It must have been exported with a dynamic number of rows, the same for x and t, and in
    evaluation mode; it stays on the device on which it was exported.

    Parameters
    ----------
    program : str, os.PathLike or torch.export.ExportedProgram
        File of ``torch.export.save`` (``.pt2``), or the program.
    prediction : Prediction
        See `PretrainedModel`.
    schedule : Schedule
        See `PretrainedModel`.
    **options
        Further parameters of `PretrainedModel`, such as ``clock``, ``shape``, ``shift``, ``scale``.

    Returns
    -------
    model : PretrainedModel
        Not fitted.

    Raises
    ------
    TypeError
        If it is no exported program.
    """
    if isinstance(program, str | os.PathLike):
        program = torch.export.load(os.fspath(program))
    if not isinstance(program, torch.export.ExportedProgram):
        raise TypeError(f"program must be an ExportedProgram or its file, got {program!r}.")
    return PretrainedModel(ExportedNetwork(program), prediction, schedule, **options)
