"""Models of Hugging Face diffusers: a local folder, or a network and a scheduler at hand."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from alignlearn._arrays import resolve_device
from alignlearn.clocks import LinearClock
from alignlearn.doors.edm import from_edm
from alignlearn.doors.wrapped import Wrapped, like_rows
from alignlearn.models.pretrained import PretrainedModel
from alignlearn.predictions import (
    NoisePrediction,
    SamplePrediction,
    VelocityPrediction,
    VPrediction,
)
from alignlearn.schedules import Rectified
from alignlearn.tabulated import Tabulated

_PREDICTIONS = {
    "epsilon": NoisePrediction(),
    "sample": SamplePrediction(),
    "v_prediction": VPrediction(),
}
# What only changes samples, and would flatten the denoiser if it were done.
_CLIPPING = ("clip_sample", "thresholding")


class DiffusersNetwork(Wrapped):
    """``(x, tau) -> network(x, tau, **condition)[0]`` with as many channels as x.

    Parameters
    ----------
    network : diffusers.ModelMixin
        Its first output is the prediction; beyond the channels of x it may hold a variance.
    condition : mapping of str to object
        Further arguments; tensors with one row are repeated for all rows.
    """

    def __init__(self, network, condition: Mapping[str, Any]) -> None:
        super().__init__(network)
        self.condition = dict(condition)

    def __call__(self, x: Tensor, tau: Tensor) -> Tensor:
        """Rows x (n, ...), steps tau (n,)."""
        condition = {name: _for_rows(value, x) for name, value in self.condition.items()}
        return self.network(x, tau, return_dict=False, **condition)[0][:, : x.shape[1]]


class KarrasPreconditioned(Wrapped):
    """Denoiser ``c_skip x + c_out network(c_in x, log(sigma) / 4)`` (Karras et al. 2022, table 1).

    Parameters
    ----------
    network : callable (x, tau) -> Tensor
    sigma_data : float
    sign : int
        Of c_out: -1 for diffusers' "v_prediction".
    """

    def __init__(self, network, sigma_data: float, sign: int) -> None:
        super().__init__(network)
        self.sigma_data, self.sign = sigma_data, sign

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Rows x (n, ...), sigma (n,)."""
        s, m = like_rows(sigma, x), self.sigma_data
        norm = torch.sqrt(s * s + m * m)
        output = self.network(x / norm, sigma.log() / 4)
        return (m / norm) ** 2 * x + self.sign * s * m / norm * output


def _for_rows(value, x: Tensor):
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    value = value.to(x.device)
    return value.expand(len(x), *value.shape[1:]) if len(value) == 1 else value


def from_diffusers(model, scheduler=None, *, condition=None, shape=None, device=None, **options):
    """Model of a diffusers network and its scheduler; nothing is downloaded.

    The network is asked at times between its steps too, as samplers in continuous time do.
    Clipping and thresholding of samples are left out: they flatten what is differentiated.

    Parameters
    ----------
    model : str, os.PathLike or diffusers.ModelMixin
        Folder of ``save_pretrained``, of a pipeline (with ``model_index.json``) or of a network
        alone, with safetensors weights; or the network itself, in evaluation mode.
    scheduler : str, os.PathLike or diffusers.SchedulerMixin, optional
        Folder or object; default that of the pipeline. With ``alphas_cumprod`` (DDPM, DDIM, PNDM,
        Euler, DPM-Solver, ...), for flow matching, or EDM.
    condition : dict, optional
        Further arguments of the network, such as ``{"class_labels": torch.tensor([3])}`` or
        ``{"encoder_hidden_states": prompt}``; a tensor with one row serves all rows.
    shape : tuple of int, optional
        Of a row as the network takes it; default (channels, size, size) of its configuration.
    device : str or torch.device, optional
        Where a network that is read goes; None is CUDA where there is one, else the CPU.
    **options
        Further parameters of `PretrainedModel`, such as ``shift`` and ``scale``: diffusers' image
        models see [-1, 1].

    Returns
    -------
    model : PretrainedModel
        Not fitted.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no safetensors weights in it.
    ImportError
        If a folder is to be read and diffusers is not installed.
    TypeError
        If the scheduler is of no known kind.
    ValueError
        If its prediction type is unknown, the network needs a condition that is missing, or its
        image size is unknown.

    Warns
    -----
    UserWarning
        If the scheduler is configured to clip.
    """
    network = _read_network(model, device) if _is_path(model) else model
    if scheduler is None:
        if not _is_path(model):
            raise TypeError("pass the scheduler of the network too: it says what is predicted.")
        scheduler = os.path.join(model, "scheduler")
    scheduler = _read_scheduler(scheduler) if _is_path(scheduler) else scheduler
    config = scheduler.config
    condition = {} if condition is None else condition
    _check_condition(network, condition)
    clips = [name for name in _CLIPPING if config.get(name)]
    if clips:
        warnings.warn(
            f"{type(scheduler).__name__} is configured with {' and '.join(clips)}, which is left "
            "out here.",
            UserWarning,
            stacklevel=2,
        )
    shape = _shape(network) if shape is None else shape
    return _with_scheduler(DiffusersNetwork(network, condition), scheduler, shape, options)


def _with_scheduler(network: DiffusersNetwork, scheduler, shape, options) -> PretrainedModel:
    config, name = scheduler.config, type(scheduler).__name__
    if "sigma_data" in config:
        signs = {"epsilon": 1, "v_prediction": -1}
        sign = _look_up(signs, config.get("prediction_type", "epsilon"))
        denoiser = KarrasPreconditioned(network, config["sigma_data"], sign)
        ends = {"sigma_min": config["sigma_min"], "sigma_max": config["sigma_max"]}
        return from_edm(denoiser, shape=shape, **(ends | options))
    if "FlowMatch" in name:
        clock = LinearClock(config["num_train_timesteps"])
        return PretrainedModel(
            network, VelocityPrediction(), Rectified(), clock=clock, shape=shape, **options
        )
    if not hasattr(scheduler, "alphas_cumprod") or config.get("use_flow_sigmas"):
        raise TypeError(
            f"scheduler must have alphas_cumprod, be of flow matching or of EDM, got {name}: pass "
            "the network to PretrainedModel with schedule, clock and prediction of its training."
        )
    prediction = _look_up(_PREDICTIONS, config.get("prediction_type", "epsilon"))
    schedule = Tabulated.from_alphas_cumprod(_squared_scales(scheduler))
    clock = LinearClock(schedule.n_levels - 1)
    return PretrainedModel(network, prediction, schedule, clock=clock, shape=shape, **options)


def _squared_scales(scheduler) -> list[float]:
    """``alphas_cumprod``; some schedulers have a last one that stands for zero."""
    squares = scheduler.alphas_cumprod.tolist()
    if scheduler.config.get("rescale_betas_zero_snr"):
        squares[-1] = 0.0
    return squares


def _look_up(table: Mapping[str, Any], name: str) -> Any:
    if name not in table:
        raise ValueError(f"prediction_type must be one of {', '.join(table)}, got {name!r}.")
    return table[name]


def _is_path(value) -> bool:
    return isinstance(value, str | os.PathLike)


def _config(folder, name: str) -> dict:
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"expected a folder of diffusers' save_pretrained with {name}, got "
            f"{os.fspath(folder)!r}: models are read from local folders only, so download it first."
        )
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _class(name: str, kind: str):
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "reading a folder of diffusers needs that package: pip install 'alignlearn[image]'."
        ) from error
    cls = getattr(diffusers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, getattr(diffusers, kind))):
        raise ValueError(f"expected the name of a {kind} of diffusers, got {name!r}.")
    return cls


def _read_network(folder, device):
    """The network of a pipeline's or its own folder, frozen, in evaluation mode."""
    if os.path.isfile(os.path.join(folder, "model_index.json")):
        parts = [
            part for part in ("unet", "transformer") if part in _config(folder, "model_index.json")
        ]
        if not parts:
            raise ValueError(f"the pipeline in {os.fspath(folder)!r} has no unet or transformer.")
        folder = os.path.join(folder, parts[0])
    cls = _class(_config(folder, "config.json").get("_class_name", ""), "ModelMixin")
    if not any(
        name.endswith((".safetensors", ".safetensors.index.json")) for name in os.listdir(folder)
    ):
        raise FileNotFoundError(
            f"expected weights in safetensors in {os.fspath(folder)!r}: other files can run code "
            "when they are read. Load the model yourself, if you trust it, and write it with "
            "save_pretrained(folder, safe_serialization=True), or pass it as it is."
        )
    network = cls.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    return network.requires_grad_(False).eval().to(resolve_device(device))


def _read_scheduler(folder):
    name = _config(folder, "scheduler_config.json").get("_class_name", "")
    return _class(name, "SchedulerMixin").from_pretrained(folder, local_files_only=True)


def _check_condition(network, condition) -> None:
    """Refuse a conditional network without its condition: it would fail deep inside."""
    config = network.config
    by_class = config.get("class_embed_type") or config.get("num_class_embeds")
    needed = ["class_labels"] if by_class else []
    if "cross_attention_dim" in config and type(network).__name__.endswith("ConditionModel"):
        needed.append("encoder_hidden_states")
    missing = [name for name in needed if name not in condition]
    if missing:
        raise ValueError(
            f"{type(network).__name__} needs a condition: pass condition={{{missing[0]!r}: tensor}}"
            ", with one row for all rows of X."
        )


def _shape(network) -> tuple[int, ...]:
    channels, size = network.config.get("in_channels"), network.config.get("sample_size")
    if channels is None or size is None:
        raise ValueError(
            "the configuration of the network has no in_channels or sample_size: pass "
            "shape=(channels, height, width)."
        )
    return (channels, *size) if isinstance(size, tuple | list) else (channels, size, size)
