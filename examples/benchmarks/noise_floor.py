"""The tangent error that noise alone makes, for someone who knows the manifold exactly.

The truth of tangents.py is the tangent space at the *clean* point, and the method is given only the
noisy one. Here the noisy point is projected onto the true manifold (least squares over the chart's
parameters, from the true ones) and the tangent space there is compared with the truth: what a
perfect model that projects would reach. Run

    python examples/benchmarks/noise_floor.py
"""

from __future__ import annotations

import sys
from statistics import median

import numpy as np
from common import CASES, N_QUERY

from alignlearn.metrics import tangent_error

SETS = {"random5-mild": (5, 20), "random5-noisy": (5, 20)}
SETS |= {"random10-mild": (10, 50), "random10-noisy": (10, 50)}
N_SEEDS = 5


def chart_of(d: int, D: int, seed: int):
    """Chart and Jacobian of `make_random_manifold` with this seed, up to the scale c."""
    shape = np.random.RandomState(seed)
    shape.randint(np.iinfo(np.int32).max)  # the draw that seeds the points
    A = shape.standard_normal((d, D)) / np.sqrt(D)
    B = shape.standard_normal((3 * d, D)) / np.sqrt(3 * d * D)
    C = shape.standard_normal((d, 3 * d))
    phi = shape.uniform(0, 2 * np.pi, 3 * d)

    def chart(u):
        phase = 2 * u @ C + phi
        return 2 * u @ A + np.sin(phase) @ B, 2 * A + (2 * C * np.cos(phase)[:, None, :]) @ B

    c = chart(shape.beta(2, 2, (5000, d)))[0].std()
    return lambda u: tuple(part / c for part in chart(u))


def project(chart, u, x, n_iter=50):
    """Nearest points (n, D) of the manifold to the rows of x, and the Jacobians (n, d, D) there.

    Levenberg-Marquardt of |chart(u) - x| at every row, from u; a step that fails is damped.
    """
    damping = np.full(len(u), 1e-3)
    y, J = chart(u)
    for _ in range(n_iter):
        gradient = np.einsum("ndD,nD->nd", J, x - y)
        H = J @ J.swapaxes(1, 2)
        H += (
            damping[:, None, None]
            * np.eye(u.shape[1])
            * np.trace(H, axis1=1, axis2=2)[:, None, None]
        )
        trial = u + np.linalg.solve(H, gradient[..., None])[..., 0]
        y_trial, J_trial = chart(trial)
        better = np.sum((x - y_trial) ** 2, 1) < np.sum((x - y) ** 2, 1)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-12, 1e6)
        u = np.where(better[:, None], trial, u)
        y, J = np.where(better[:, None], y_trial, y), np.where(better[:, None, None], J_trial, J)
    return y, J


def floor(name: str, seed: int) -> float:
    """Mean RMS principal angle in degrees at `N_QUERY` noisy points."""
    case, (d, D) = CASES[name], SETS[name]
    sample = case.sample(seed)
    chart = chart_of(d, D, seed)
    clean, _ = chart(sample.parameters[:N_QUERY])
    np.testing.assert_allclose(clean, sample.clean[:N_QUERY], atol=1e-9)  # it is that manifold
    _, J = project(chart, sample.parameters[:N_QUERY], sample.points[:N_QUERY])
    return float(tangent_error(np.linalg.qr(J.swapaxes(1, 2)).Q, sample.tangents[:N_QUERY]).mean())


def main() -> int:
    """Print the median and the worst of the seeds, and the data's spread around the mean."""
    for name in SETS:
        values = [floor(name, seed) for seed in range(N_SEEDS)]
        clean = [CASES[name].sample(seed).clean for seed in range(N_SEEDS)]
        spread = [float(np.sqrt(x.var(axis=0).mean())) for x in clean]
        print(
            f"{CASES[name].title}: {median(values):.2f} (worst seed {max(values):.2f}) degrees; "
            f"spread {median(spread):.2f} ({min(spread):.2f} to {max(spread):.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
