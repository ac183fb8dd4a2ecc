"""Every member of every family. A new one joins its laws by one entry here.

Solvers are made from a schedule and models from nothing, so that no test shares state with another.
"""

from dataclasses import dataclass

import numpy as np
import torch
from oracles import gaussian_sample

from alignlearn.clocks import LinearClock
from alignlearn.couplings import (
    EntropicCoupling,
    IndependentCoupling,
    OptimalTransportCoupling,
)
from alignlearn.models import (
    Diffusion,
    FlowMatching,
    GaussianModel,
    KernelDiffusion,
    PretrainedModel,
)
from alignlearn.paths import LinearPath, SchroedingerBridgePath, TrigonometricPath
from alignlearn.predictions import (
    NoisePrediction,
    SamplePrediction,
    ScorePrediction,
    VelocityPrediction,
    VPrediction,
)
from alignlearn.schedules import (
    Cosine,
    LinearVP,
    PaperCosine,
    Rectified,
    Trigonometric,
    VarianceExploding,
)
from alignlearn.solvers import (
    Euler,
    EulerMaruyama,
    Exponential,
    ExponentialMidpoint,
    Heun,
    PredictorCorrector,
    ReverseDiffusion,
    RungeKutta4,
)
from alignlearn.sources import EightGaussians, StandardGaussian
from alignlearn.tabulated import Tabulated

SMOOTH_SCHEDULES = {
    "variance exploding": VarianceExploding(0.05, 20.0),
    "linear VP": LinearVP(),
    "cosine": Cosine(),
    "paper's cosine": PaperCosine(),
    "rectified": Rectified(),
    "trigonometric": Trigonometric(),
}
# The velocity of a table jumps at its levels: no solver that takes one has an order above 1 there.
SCHEDULES = SMOOTH_SCHEDULES | {
    "DDPM's table": Tabulated.from_alphas_cumprod(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))),
}
PREDICTIONS = {
    "sample": SamplePrediction(),
    "noise": NoisePrediction(),
    "score": ScorePrediction(),
    "v": VPrediction(),
    "velocity": VelocityPrediction(),
    "velocity of reversed time": VelocityPrediction(reversed=True),
}

ODE_SOLVERS = {
    "Euler": lambda schedule: Euler(),
    "Heun": lambda schedule: Heun(),
    "RungeKutta4": lambda schedule: RungeKutta4(),
    "Exponential": Exponential,
    "ExponentialMidpoint": ExponentialMidpoint,
}
# Those that step from noise to data and nothing else: they have an order.
REVERSALS = {"ReverseDiffusion": ReverseDiffusion, "EulerMaruyama": EulerMaruyama}
STOCHASTIC_SOLVERS = REVERSALS | {
    "PredictorCorrector": lambda schedule: PredictorCorrector(ReverseDiffusion(schedule), 2, 0.1),
}
SOLVERS = ODE_SOLVERS | STOCHASTIC_SOLVERS

PATHS = {
    "linear": LinearPath(),
    "linear with noise": LinearPath(0.1),
    "trigonometric": TrigonometricPath(),
    "trigonometric with noise": TrigonometricPath(0.1),
    "Schroedinger bridge": SchroedingerBridgePath(),
    "narrow Schroedinger bridge": SchroedingerBridgePath(0.3),
}
COUPLINGS = {
    "independent": IndependentCoupling(),
    "optimal transport": OptimalTransportCoupling(),
    "optimal transport in blocks": OptimalTransportCoupling(block_size=16),
    "entropic": EntropicCoupling(),
}
SOURCES = {"standard Gaussian": StandardGaussian(), "eight Gaussians": EightGaussians()}


class GaussianNetwork(torch.nn.Module):
    """What a network says that has learned independent Gaussian features, exactly."""

    def __init__(self, prediction, schedule, clock=None, mean=0.0, deviation=1.0):
        super().__init__()
        self.prediction, self.schedule = prediction, schedule
        self.clock = LinearClock() if clock is None else clock
        mean, deviation = (torch.as_tensor(v, dtype=torch.float64) for v in (mean, deviation))
        self.register_buffer("mean", mean)
        self.register_buffer("variance", deviation**2)
        self.eval()

    def forward(self, x, tau):
        tau = tau.reshape(-1, *[1] * (x.ndim - 1))
        t = (tau - self.clock.offset) / self.clock.scale
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        denoised = self.mean + gain * (x - alpha * self.mean)
        return self.prediction.output(denoised, x, self.schedule, t)


@dataclass(frozen=True)
class NoiseInNormalData:
    """The noise that is expected in standard normal data, ``sigma x``.

    A value, whose name in test ids is the same in every process.
    """

    schedule: Trigonometric = Trigonometric()

    def __call__(self, x, t):
        return self.schedule.sigma(t.double())[:, None].to(x) * x


def pretrained(prediction, schedule, clock=None, mean=0.0, deviation=1.0, **options):
    """A pretrained model of independent Gaussian features."""
    network = GaussianNetwork(prediction, schedule, clock, mean, deviation)
    return PretrainedModel(network, prediction, schedule, clock=clock, **options)


# Small enough that a fit takes well under a second; Diffusion is all but untrained, and a mean of
# networks as soon as there are two.
MODELS = {
    "GaussianModel": lambda **options: GaussianModel(random_state=0, **options),
    "KernelDiffusion": lambda **options: KernelDiffusion(random_state=0, **options),
    "Diffusion": lambda **options: Diffusion(
        **(
            {"width": 16, "n_blocks": 1, "n_estimators": 2, "max_iter": 4, "random_state": 0}
            | options
        )
    ),
    "FlowMatching": lambda **options: FlowMatching(
        **({"width": 16, "n_blocks": 1, "max_iter": 4, "random_state": 0} | options)
    ),
    "PretrainedModel": lambda **options: PretrainedModel(
        NoiseInNormalData(),
        NoisePrediction(),
        Trigonometric(),
        shift=None,
        scale=None,
        random_state=0,
    ).set_params(**options),
}
# Their networks compute in float32.
SINGLE_PRECISION = {"Diffusion", "FlowMatching", "PretrainedModel"}
# The same families with what they need to learn the law of a Gaussian sample in R^2 or R^3.
LEARNED_MODELS = {
    "GaussianModel": MODELS["GaussianModel"],
    "KernelDiffusion": lambda: MODELS["KernelDiffusion"](s_min=0.25),
    "Diffusion": lambda: MODELS["Diffusion"](
        width=32, max_iter=600, n_estimators=1, s_min=0.05, window=(0.1, 1.0)
    ),
    "FlowMatching": lambda: MODELS["FlowMatching"](
        width=32, max_iter=1000, n_iter_no_change=40, s_min=0.05
    ),
    "PretrainedModel": lambda: pretrained(
        VPrediction(),
        LinearVP(),
        LinearClock(999),
        gaussian_sample().mean(0),
        gaussian_sample().std(0),
    ),
}


# How the rest is done, and not for users; a new module goes there or on the page docs/api.rst.
INNER = {
    "alignment",
    "checkpoint",
    "coordinates",
    "frames",
    "gaussian",
    "geodesics",
    "guards",
    "matching",
    "measurement",
    "mixture",
    "neighbors",
    "scales",
    "tangent_graph",
}


def cases(table):
    """Arguments of `pytest.mark.parametrize` for the values of a table."""
    return {"argvalues": list(table.values()), "ids": list(table)}
