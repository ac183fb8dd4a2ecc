"""Lyapunov geometry of generative flows: tangent spaces and dimension of a data manifold."""

__version__ = "0.1.0"

from alignlearn.manifold import LyapunovManifold
from alignlearn.persistence import load, save
from alignlearn.support import ManifoldSupport

__all__ = ["LyapunovManifold", "ManifoldSupport", "__version__", "load", "save"]
