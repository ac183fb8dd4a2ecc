"""Lyapunov geometry of generative flows: tangent spaces and dimension of a data manifold."""

from alignlearn.manifold import LyapunovManifold

__version__ = "0.1.0"
__all__ = ["LyapunovManifold", "__version__"]
