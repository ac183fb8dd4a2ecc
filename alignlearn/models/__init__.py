"""Generative models: one family, one file."""

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
