"""Every member of every family. A new one joins its laws by one entry here.

Solvers are made from a schedule and models from nothing, so that no test shares state with another.
"""

from alignlearn.couplings import (
    EntropicCoupling,
    IndependentCoupling,
    OptimalTransportCoupling,
)
from alignlearn.models import Diffusion, FlowMatching, GaussianModel, KernelDiffusion
from alignlearn.paths import LinearPath, SchroedingerBridgePath, TrigonometricPath
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

SCHEDULES = {
    "variance exploding": VarianceExploding(0.05, 20.0),
    "linear VP": LinearVP(),
    "cosine": Cosine(),
    "paper's cosine": PaperCosine(),
    "rectified": Rectified(),
    "trigonometric": Trigonometric(),
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

# Small enough that a fit takes well under a second; Diffusion is all but untrained, and a mean of
# networks as soon as there are two.
MODELS = {
    "GaussianModel": lambda **options: GaussianModel(random_state=0, **options),
    "KernelDiffusion": lambda **options: KernelDiffusion(random_state=0, **options),
    "Diffusion": lambda **options: Diffusion(
        **(
            {"width": 16, "n_blocks": 1, "n_estimators": 2, "max_iter": 8, "random_state": 0}
            | options
        )
    ),
    "FlowMatching": lambda **options: FlowMatching(
        **({"width": 16, "n_blocks": 1, "max_iter": 8, "random_state": 0} | options)
    ),
}
SINGLE_PRECISION = {"Diffusion", "FlowMatching"}  # their networks compute in float32
# The same families with what they need to learn the law of a Gaussian sample in R^2 or R^3.
LEARNED_MODELS = {
    "GaussianModel": MODELS["GaussianModel"],
    "KernelDiffusion": lambda: MODELS["KernelDiffusion"](s_min=0.25),
    "Diffusion": lambda: MODELS["Diffusion"](width=32, max_iter=600, s_min=0.05, window=(0.1, 1.0)),
    "FlowMatching": lambda: MODELS["FlowMatching"](
        width=32, max_iter=1000, n_iter_no_change=40, s_min=0.05
    ),
}


def cases(table):
    """Arguments of `pytest.mark.parametrize` for the values of a table."""
    return {"argvalues": list(table.values()), "ids": list(table)}
