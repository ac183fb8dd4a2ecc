"""Generative models: one family, one file."""

from typing import TYPE_CHECKING

from alignlearn._lazy import names_of

if TYPE_CHECKING:
    from alignlearn.models.base import GenerativeModel
    from alignlearn.models.diffusion import Diffusion
    from alignlearn.models.flow_matching import FlowMatching
    from alignlearn.models.gaussian import GaussianModel
    from alignlearn.models.kernel import KernelDiffusion
    from alignlearn.models.pretrained import PretrainedModel

__all__ = [
    "Diffusion",
    "FlowMatching",
    "GaussianModel",
    "GenerativeModel",
    "KernelDiffusion",
    "PretrainedModel",
]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "Diffusion": "diffusion",
        "FlowMatching": "flow_matching",
        "GaussianModel": "gaussian",
        "GenerativeModel": "base",
        "KernelDiffusion": "kernel",
        "PretrainedModel": "pretrained",
    },
)
