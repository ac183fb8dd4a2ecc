"""Pictures, in the manner of scikit-learn's Displays: arrays in, `plot(ax)` draws them.

matplotlib is imported when something is drawn, not before.

=====================  ====================================================
display                shows
=====================  ====================================================
`SpectrumDisplay`      Lyapunov exponents with gap, floor and spread
`ScaleDisplay`         dimension against scale
`DimensionDisplay`     histogram of the pointwise dimension
`TangentDisplay`       tangent spaces in two or three dimensions
`EmbeddingDisplay`     one to three coordinates, coloured by class or value
`MarginDisplay`        margins of data, generated and moved points
`TrainingDisplay`      training and held-out loss against steps
`ImageMovesDisplay`    an image moved along Lyapunov vectors
`ImageGridDisplay`     sets of images side by side
=====================  ====================================================
"""

from alignlearn.plotting.dimensions import DimensionDisplay, ScaleDisplay
from alignlearn.plotting.embedding import EmbeddingDisplay
from alignlearn.plotting.images import ImageGridDisplay, ImageMovesDisplay
from alignlearn.plotting.margins import MarginDisplay
from alignlearn.plotting.spectrum import SpectrumDisplay
from alignlearn.plotting.tangents import TangentDisplay
from alignlearn.plotting.training import TrainingDisplay

__all__ = [
    "DimensionDisplay",
    "EmbeddingDisplay",
    "ImageGridDisplay",
    "ImageMovesDisplay",
    "MarginDisplay",
    "ScaleDisplay",
    "SpectrumDisplay",
    "TangentDisplay",
    "TrainingDisplay",
]
