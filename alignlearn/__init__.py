"""Lyapunov geometry of generative flows: tangent spaces and dimension of a data manifold."""

from typing import TYPE_CHECKING

from alignlearn._lazy import names_of

__version__ = "0.1.0"

if TYPE_CHECKING:
    from alignlearn.manifold import LyapunovManifold
    from alignlearn.persistence import load, save
    from alignlearn.support import ManifoldSupport

__all__ = ["LyapunovManifold", "ManifoldSupport", "__version__", "load", "save"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "LyapunovManifold": "manifold",
        "ManifoldSupport": "support",
        "load": "persistence",
        "save": "persistence",
    },
)
