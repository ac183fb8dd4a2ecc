"""Flow matching beside diffusion on a torus, with the same small network and budget.

``python flow_matching.py`` prints the table of docs/guide/choosing.md: medians over the seeds, in a
few minutes on one core.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from alignlearn import LyapunovManifold
from alignlearn.couplings import OptimalTransportCoupling
from alignlearn.datasets import make_torus
from alignlearn.metrics import tangent_error
from alignlearn.models import Diffusion, FlowMatching
from alignlearn.paths import SchroedingerBridgePath, TrigonometricPath
from alignlearn.schedules import VarianceExploding
from alignlearn.solvers import ExponentialMidpoint

ODE = ExponentialMidpoint(VarianceExploding(0.01, 5.0))
MODELS = {
    "`Diffusion`, reverse diffusion": (Diffusion, {"n_estimators": 1}, None),
    "`Diffusion`, ODE": (Diffusion, {"n_estimators": 1}, ODE),
    "`FlowMatching()`": (FlowMatching, {}, None),
    "`TrigonometricPath()`": (FlowMatching, {"path": TrigonometricPath()}, None),
    "`OptimalTransportCoupling()`": (FlowMatching, {"coupling": OptimalTransportCoupling()}, None),
    "`SchroedingerBridgePath(0.5)`": (FlowMatching, {"path": SchroedingerBridgePath(0.5)}, None),
}


def off_torus(X: np.ndarray) -> np.ndarray:
    """Distance of rows (n, 3) to the torus of radii 2 and 1."""
    return np.abs(np.hypot(np.hypot(X[:, 0], X[:, 1]) - 2, X[:, 2]) - 1)


def measure(make, options, solver, seed: int, n: int, budget: dict) -> list[float]:
    """Tangent error in degrees, lowest exponent, median distance of samples, seconds."""
    sample = make_torus(n, random_state=seed)
    start = time.perf_counter()
    model = make(**options, **budget, random_state=seed)
    manifold = LyapunovManifold(model=model, solver=solver, n_reference=100, random_state=seed)
    manifold.fit(sample.points)
    seconds = time.perf_counter() - start
    vectors = manifold.tangent_space(sample.points[:200], 2)
    angle = np.mean(tangent_error(vectors, sample.tangents[:200]))
    distance = np.median(off_torus(manifold.sample(1000)))
    return [float(angle), float(manifold.exponents_[-1]), float(distance), seconds]


def main(argv=None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--max-iter", type=int, default=1000)
    parser.add_argument("--width", type=int, default=32)
    args = parser.parse_args(argv)
    budget = {"max_iter": args.max_iter, "width": args.width, "n_blocks": 2}
    print("| model | tangent error (deg) | lowest exponent | samples off the torus | s |")
    print("|---|---|---|---|---|")
    for name, (make, options, solver) in MODELS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            runs = [measure(make, options, solver, s, args.n, budget) for s in range(args.seeds)]
        angle, lowest, distance, seconds = np.median(runs, axis=0)
        row = f"{angle:.1f} | {lowest:.2f} | {distance:.3f} | {seconds:.0f}"
        print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
