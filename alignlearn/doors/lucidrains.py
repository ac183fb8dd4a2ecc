"""Diffusion objects of lucidrains' denoising-diffusion-pytorch."""

from __future__ import annotations

import torch
from torch import Tensor

from alignlearn.clocks import LinearClock
from alignlearn.doors.wrapped import Wrapped
from alignlearn.models.pretrained import PretrainedModel
from alignlearn.predictions import NoisePrediction, SamplePrediction, VPrediction
from alignlearn.tabulated import Tabulated

_OBJECTIVES = {
    "pred_noise": NoisePrediction(),
    "pred_x0": SamplePrediction(),
    "pred_v": VPrediction(),
}


class LucidrainsNetwork(Wrapped):
    """``(x, step) -> network(x, step, None)``: without self-conditioning, which starts at zero."""

    def __call__(self, x: Tensor, tau: Tensor) -> Tensor:
        """Rows x (n, ...), steps tau (n,)."""
        return self.network(x, tau, None)


def from_lucidrains(diffusion, **options):
    """Model of a ``GaussianDiffusion`` or ``GaussianDiffusion1D``: network, objective and schedule.

    X is in [0, 1] where the object normalises images by itself (``auto_normalize``), and in the
    network's units otherwise. Pass an exponential moving average of it, ``ema.ema_model``, rather.

    Parameters
    ----------
    diffusion : GaussianDiffusion
        With ``model``, ``objective``, ``alphas_cumprod``, ``image_size`` or ``seq_length``, and
        ``normalize``, in evaluation mode.
    **options
        Further parameters of `PretrainedModel`; ``shift`` and ``scale`` replace the normalisation.

    Returns
    -------
    model : PretrainedModel
        Not fitted.

    Raises
    ------
    TypeError
        If it is no such object.
    ValueError
        If its objective is unknown.
    """
    needed = ("model", "objective", "alphas_cumprod", "normalize")
    missing = [name for name in needed if not hasattr(diffusion, name)]
    if missing:
        raise TypeError(
            f"expected a GaussianDiffusion of denoising-diffusion-pytorch, got {diffusion!r}, "
            f"which has no {', '.join(missing)}. For ElucidatedDiffusion use "
            "from_edm(diffusion.preconditioned_network_forward)."
        )
    if diffusion.objective not in _OBJECTIVES:
        raise ValueError(
            f"objective must be one of {', '.join(_OBJECTIVES)}, got {diffusion.objective!r}."
        )
    schedule = Tabulated.from_alphas_cumprod(diffusion.alphas_cumprod.tolist())
    low, high = diffusion.normalize(torch.tensor([0.0, 1.0])).tolist()
    scale = 1 / (high - low)
    units = {"shift": -low * scale, "scale": scale, "shape": _shape(diffusion)}
    return PretrainedModel(
        LucidrainsNetwork(diffusion.model),
        _OBJECTIVES[diffusion.objective],
        schedule,
        clock=LinearClock(schedule.n_levels - 1),
        **(units | options),
    )


def _shape(diffusion) -> tuple[int, ...]:
    size = diffusion.image_size if hasattr(diffusion, "image_size") else diffusion.seq_length
    channels = getattr(diffusion, "channels", getattr(diffusion.model, "channels", 1))
    if not hasattr(diffusion, "image_size"):
        return (channels, size)
    return (channels, *size) if isinstance(size, tuple | list) else (channels, size, size)
