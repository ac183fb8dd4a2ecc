"""Digits moved along Lyapunov vectors and across them by the same length: which stay inside? Run

python examples/benchmarks/digits_support.py

One `Diffusion` is trained on 70 % of scikit-learn's digits; the others are moved, each by random
combinations of its own vectors. Prints the margin report of `ManifoldSupport` and a table.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from common import CASES  # noqa: F401  (puts this checkout on the path)
from detector import SHARE_OF_DIGITS, make_digits
from formats import table
from sklearn.datasets import load_digits

from alignlearn import LyapunovManifold, ManifoldSupport
from alignlearn.models import Diffusion

SHARES = (0.5, 1.0, 2.0, 4.0)  # of the length that the report moves by


def moved(X: np.ndarray, frames: np.ndarray, length: float, rng: np.random.Generator) -> dict:
    """Rows of X moved by `length` along their frames (n, D, d), across them, and at random."""
    normal = rng.standard_normal(X.shape)
    directions = {
        "along": (frames @ rng.standard_normal((len(X), frames.shape[-1], 1)))[..., 0],
        "across": normal - (frames @ (frames.swapaxes(1, 2) @ normal[..., None]))[..., 0],
        "at random": rng.standard_normal(X.shape),
    }
    return {
        name: X + length * v / np.linalg.norm(v, axis=1, keepdims=True)
        for name, v in directions.items()
    }


def inside_table(support: ManifoldSupport, X: np.ndarray, seed: int) -> str:
    """Share inside of fresh rows X, moved by several lengths."""
    rng, frames = np.random.default_rng(seed), support.manifold_.tangent_space(X)
    still, rows = float(np.mean(support.predict(X) == 1)), []
    for share in SHARES:
        length = share * support.margin_report_.length
        found = {
            name: float(np.mean(support.predict(Y) == 1))
            for name, Y in moved(X, frames, length, rng).items()
        }
        rows.append([f"{length:.2f}", f"{still:.1%}", *(f"{v:.1%}" for v in found.values())])
    return table(["length", "not moved", "along", "across", "at random"], rows)


def main(argv=None) -> int:
    """Print the report and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-iter", type=int, default=3000)
    parser.add_argument("--n", type=int, help="digits to learn from, default 70 %%")
    args = parser.parse_args(argv)
    n = round(SHARE_OF_DIGITS * len(load_digits().data)) if args.n is None else args.n
    X = make_digits(n, noise=0.0, random_state=args.seed).points
    fresh = make_digits(500, noise=0.0, random_state=args.seed, sample_state=0).points
    model = Diffusion(n_estimators=1, max_iter=args.max_iter)
    support = ManifoldSupport(LyapunovManifold(model=model), random_state=args.seed).fit(X)
    print(f"d = {support.manifold_.dimension_}, {len(X)} digits, {len(fresh)} others", flush=True)
    print(support.margin_report_, flush=True)
    print(inside_table(support, fresh, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
