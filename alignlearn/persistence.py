"""Estimators as files: one safetensors file each, with nothing in it that can be executed."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from torch import nn

from alignlearn import (
    _files,
    clocks,
    couplings,
    derivatives,
    networks,
    paths,
    predictions,
    schedules,
    solvers,
    sources,
    tabulated,
    unet,
)
from alignlearn._arrays import Scaling, resolve_device
from alignlearn.boundary import KernelBoundary
from alignlearn.dimension import DimensionEstimate
from alignlearn.embedding import Chart, LazyChart
from alignlearn.gaussian import Gaussian
from alignlearn.manifold import LyapunovManifold
from alignlearn.margins import MarginReport
from alignlearn.mixture import MixtureDenoiser
from alignlearn.models import (
    Diffusion,
    FlowMatching,
    GaussianModel,
    KernelDiffusion,
    PretrainedModel,
)
from alignlearn.models.denoisers import (
    MeanDenoiser,
    PiecewiseDenoiser,
    PreconditionedDenoiser,
    SmoothDenoiser,
    SpanDenoiser,
)
from alignlearn.models.shells import ShellDenoiser
from alignlearn.models.velocity import SpanVelocity, VelocityNetwork
from alignlearn.support import ManifoldSupport
from alignlearn.training import TrainingHistory

ESTIMATORS = (
    Diffusion,
    FlowMatching,
    GaussianModel,
    KernelDiffusion,
    LyapunovManifold,
    ManifoldSupport,
    PretrainedModel,
)

# What a file can hold: nothing else is ever built from one. A new class is one entry.
CLASSES = {
    cls.__name__: cls
    for cls in (
        *ESTIMATORS,
        Chart,
        DimensionEstimate,
        Gaussian,
        KernelBoundary,
        LazyChart,
        MarginReport,
        Scaling,
        TrainingHistory,
        MeanDenoiser,
        MixtureDenoiser,
        PiecewiseDenoiser,
        PreconditionedDenoiser,
        ShellDenoiser,
        SmoothDenoiser,
        SpanDenoiser,
        SpanVelocity,
        VelocityNetwork,
        clocks.LinearClock,
        clocks.LogNoiseClock,
        clocks.NoiseClock,
        couplings.EntropicCoupling,
        couplings.IndependentCoupling,
        couplings.OptimalTransportCoupling,
        paths.LinearPath,
        paths.PathSchedule,
        paths.SchroedingerBridgePath,
        paths.TrigonometricPath,
        predictions.NoisePrediction,
        predictions.SamplePrediction,
        predictions.ScorePrediction,
        predictions.VelocityPrediction,
        predictions.VPrediction,
        sources.EightGaussians,
        sources.StandardGaussian,
        derivatives.CentralDifference,
        derivatives.Derivative,
        derivatives.DifferenceAdjoint,
        derivatives.DoubleBackward,
        derivatives.ForwardMode,
        derivatives.ReverseMode,
        networks.ColumnTime,
        networks.GatedBlock,
        networks.GatedNetwork,
        unet.GatedConvBlock,
        unet.UNet,
        nn.Conv2d,
        nn.Linear,
        nn.ModuleList,
        schedules.Cosine,
        schedules.LinearVP,
        schedules.PaperCosine,
        schedules.Rectified,
        schedules.Trigonometric,
        schedules.VarianceExploding,
        solvers.Euler,
        solvers.EulerMaruyama,
        solvers.Exponential,
        solvers.ExponentialMidpoint,
        solvers.Heun,
        solvers.PredictorCorrector,
        solvers.ReverseDiffusion,
        solvers.RungeKutta4,
        tabulated.Tabulated,
    )
}


def save(estimator: BaseEstimator, path) -> None:
    """Write an estimator of the library, fitted or not, to one file.

    The file is safetensors: arrays, and a JSON text that says what they are, with a sha256 over
    both. It is written beside its destination and renamed, so that a full disk or a crash leaves
    what was there. Callbacks of scikit-learn are not saved; a `RandomState` is, with its state.

    Parameters
    ----------
    estimator : BaseEstimator
        A `LyapunovManifold`, a `ManifoldSupport` or a model of `alignlearn.models`, with the
        estimators nested in it.
    path : str or os.PathLike
        File to write; one that exists is replaced.

    Raises
    ------
    TypeError
        If the estimator is not the library's own, or holds an object that is not, such as a
        network of the user's.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import os, tempfile
    >>> from alignlearn import load, save
    >>> from alignlearn.datasets import make_sphere
    >>> from alignlearn.models import GaussianModel
    >>> model = GaussianModel(random_state=0).fit(make_sphere(50, 2, random_state=0).points)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     save(model, path)
    ...     twin = load(path)
    >>> bool((twin.sample(3) == model.sample(3)).all())
    True
    """
    if type(estimator) not in ESTIMATORS:
        names = ", ".join(cls.__name__ for cls in ESTIMATORS)
        raise TypeError(
            f"save takes one of alignlearn's own estimators ({names}), got "
            f"{type(estimator).__name__}: save the steps of a pipeline one by one, and use pickle "
            "for a class of your own."
        )
    _files.write(path, estimator, CLASSES, "estimator")


def load(path, *, device=None) -> Any:
    """Read an estimator that `save` wrote. Runs nothing that is in the file.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    device : str or torch.device, optional
        Where the model goes, whatever it was saved from. None is CUDA where there is one, else the
        CPU.

    Returns
    -------
    estimator : BaseEstimator
        With the parameters and fitted attributes that were saved; on the same device its results
        are bitwise the same.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another origin or from a newer version of the library.
    """
    return _files.read(path, CLASSES, "estimator", resolve_device(device))
