"""Denoisers in variance-exploding coordinates: EDM, k-diffusion, elucidated diffusion."""

from __future__ import annotations

from alignlearn.clocks import NoiseClock
from alignlearn.models.pretrained import PretrainedModel
from alignlearn.predictions import SamplePrediction
from alignlearn.schedules import VarianceExploding


def from_edm(denoiser, *, sigma_min=0.002, sigma_max=80.0, shape=None, **options):
    """Model of a denoiser ``D(x, sigma)`` (Karras et al. 2022): EDM, k-diffusion.

    Also the bound method ``preconditioned_network_forward`` of lucidrains' ElucidatedDiffusion.

    Parameters
    ----------
    denoiser : callable
        ``(x, sigma) -> E[x_0 | x_0 + sigma z = x]``, with its preconditioning, sigma of shape (n,).
    sigma_min, sigma_max : float, default=0.002, 80
        Noise levels of its training, in its own units.
    shape : tuple of int, optional
        Of a row as the denoiser takes it; default what its attributes ``img_channels`` and
        ``img_resolution`` say, if it has them.
    **options
        Further parameters of `PretrainedModel`, such as ``shift`` and ``scale``.

    Returns
    -------
    model : PretrainedModel
        Not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.doors import from_edm
    >>> model = from_edm(lambda x, sigma: x / (1 + sigma[:, None] ** 2))  # standard normal data
    >>> model.fit(np.random.default_rng(0).normal(size=(200, 2))).sample(3).shape
    (3, 2)
    """
    if shape is None and hasattr(denoiser, "img_resolution"):
        side = denoiser.img_resolution
        shape = (denoiser.img_channels, side, side)
    return PretrainedModel(
        denoiser,
        SamplePrediction(),
        VarianceExploding(sigma_min, sigma_max),
        clock=NoiseClock(),
        shape=shape,
        **options,
    )
