"""The tangent error that noise alone makes, for someone who knows the manifold exactly.

The truth of tangents.py is the tangent space at the *clean* point, and the method is given only the
noisy one. Here the noisy point is projected onto the true manifold and the tangent space there is
compared with the truth, with the error of tangents.py: what a perfect model that projects would
reach. Run

    python examples/benchmarks/noise_floor.py
"""

from __future__ import annotations

import sys
from statistics import median

import numpy as np
from common import CASES, N_QUERY, rows_of
from scipy.spatial import KDTree

from alignlearn.datasets import ManifoldSample

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


def nearest_on_random(points: np.ndarray, sample: ManifoldSample, seed: int):
    """What `project` gives for points (n, D), from the true parameters of the sample.

    The chart goes on beyond the cube that the sample was drawn from.
    """
    chart = chart_of(sample.dimension, points.shape[1], seed)
    np.testing.assert_allclose(chart(sample.parameters)[0], sample.clean, atol=1e-9)
    return project(chart, sample.parameters, points)


def on_random(sample: ManifoldSample, seed: int) -> np.ndarray:
    """Tangent spaces (n, D, d) of the random manifold where it is nearest to the points."""
    return nearest_on_random(sample.points, sample, seed)[1].swapaxes(1, 2)


def on_sphere(sample: ManifoldSample, seed: int) -> np.ndarray:
    """Tangent spaces (n, D, d) of the sphere around 0 in the span of its clean points."""
    span = np.linalg.svd(sample.clean, full_matrices=False)[2][: sample.dimension + 1]
    normal = (sample.points @ span.T)[:, None]  # (n, 1, d + 1), and its null space
    return span.T @ np.linalg.svd(normal)[2][:, 1:].swapaxes(1, 2)


def nearest_on_spiral(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (n,) from points (n, 2) to the spiral of the Swiss roll, and its parameter there."""
    t = np.linspace(1.5 * np.pi, 4.5 * np.pi, 200_001)
    spiral = np.stack([t * np.cos(t), t * np.sin(t)], axis=1)
    distance, step = KDTree(spiral).query(points)
    return distance, t[step]


def on_roll(sample: ManifoldSample, seed: int) -> np.ndarray:
    """Tangent spaces (n, 3, 2) of the Swiss roll where it is nearest to the points."""
    t = nearest_on_spiral(sample.points[:, [0, 2]])[1]
    along = np.stack([np.cos(t) - t * np.sin(t), 0 * t, np.sin(t) + t * np.cos(t)], axis=1)
    return np.stack([along, np.broadcast_to([0.0, 1.0, 0.0], along.shape)], axis=2)


RANDOM = ("random5-mild", "random5-noisy", "random10-mild", "random10-noisy")
SETS = dict.fromkeys(RANDOM, on_random) | {
    "roll-noisy": on_roll,
    "sphere5-R20-noisy": on_sphere,
    "sphere10-R20-noisy": on_sphere,
}


def floor(name: str, seed: int) -> float:
    """Mean error in degrees of the tangent spaces of the manifold nearest to noisy points."""
    sample = CASES[name].sample(seed)
    some = rows_of(sample, np.arange(N_QUERY))
    return CASES[name].error(SETS[name](some, seed), some.tangents)


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
