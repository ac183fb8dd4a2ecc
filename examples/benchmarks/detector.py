"""Points off the manifold detected: AUC of ManifoldSupport against detectors on raw data.

Inliers are fresh points of the same manifold; outliers are these moved across the manifold by a
share of the data's standard deviation, and the midpoints of random pairs. Digits are corrupted.
The detectors have their defaults and, OneClassSVM and LocalOutlierFactor, also their best setting
in hindsight. Run

    python examples/benchmarks/detector.py --workers 2
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from common import Case, Job, Store, parse_args, run_jobs
from kept_models import FOLDER, KeptDiffusion, keeping, models_option
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from alignlearn import ManifoldSupport
from alignlearn.datasets import ManifoldSample, make_random_manifold, make_sphere

N_TEST = 500
STEPS = (0.25, 0.5, 1.0, 2.0)  # lengths across the manifold, in standard deviations of a feature
SHARE_OF_DIGITS = 0.7  # to learn from
GAMMAS = tuple(2.0**k for k in range(-3, 8))  # of OneClassSVM, times 1 / (D var)
SIZES = (5, 10, 20, 40, 80)  # neighbours of LocalOutlierFactor


# --------------------------------------------------------------------------------------- data


def make_digits(n: int, *, noise: float, random_state=None, sample_state=None) -> ManifoldSample:
    """Rows of the digits to learn from; with `sample_state` the others. There are no tangents."""
    X = load_digits().data / 16
    order = np.random.RandomState(random_state).permutation(len(X))
    n_train = round(SHARE_OF_DIGITS * len(X))
    rows = order[:n] if sample_state is None else order[n_train : n_train + n]
    X = X[rows]
    return ManifoldSample(X, X, np.empty((len(X), 64, 0)), X[:, :0], 0)


CASES = {
    case.name: case
    for case in [
        Case(f"off/{name}{suffix}", f"{title}, {noise_title}", make, n, noise)
        for name, title, make, n, noisy in [
            ("sphere5", "S^5 in R^20", partial(make_sphere, dim=5, n_features=20), 1000, 0.05),
            (
                "random5",
                "5 in R^20",
                partial(make_random_manifold, dim=5, n_features=20),
                2000,
                0.1,
            ),
            ("sphere10", "S^10 in R^50", partial(make_sphere, dim=10, n_features=50), 3000, 0.03),
            (
                "random10",
                "10 in R^50",
                partial(make_random_manifold, dim=10, n_features=50),
                4000,
                0.1,
            ),
        ]
        for suffix, noise, noise_title in [("", 0.0, "clean"), ("-noisy", noisy, f"noise {noisy}")]
    ]
    + [Case("off/digits", "digits", make_digits, round(SHARE_OF_DIGITS * 1797))]
}


def across(sample: ManifoldSample, rng: np.random.Generator) -> np.ndarray:
    """Random unit vectors (n, D) in the normal spaces."""
    E, normal = sample.tangents, rng.standard_normal(sample.points.shape)
    normal -= (E @ (E.swapaxes(1, 2) @ normal[..., None]))[..., 0]
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def corrupted(X: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Images (n, 64) of 8 x 8 pixels spoiled in several ways, values still from 0 to 1."""
    images = X.reshape(-1, 8, 8)
    hidden = images.copy()
    hidden[:, 2:5, 2:5] = 0
    swapped = images.copy()
    swapped[:, :4] = images[rng.permutation(len(X)), :4]
    found = {
        "pixel noise": np.clip(X + 0.15 * rng.standard_normal(X.shape), 0, 1),
        "a hole": hidden,
        "shifted by a pixel": np.roll(images, 1, axis=2),
        "halves of two": swapped,
        "mirrored": images[:, :, ::-1],
    }
    return {name: image.reshape(-1, 64) for name, image in found.items()}


def outliers(case: Case, sample: ManifoldSample, fresh: ManifoldSample, seed: int) -> dict:
    """Sets of outliers by kind, each as large as the fresh sample."""
    rng = np.random.default_rng(20_000 + seed)
    found = {"midpoints": (fresh.points + fresh.points[rng.permutation(len(fresh.points))]) / 2}
    if case.make is make_digits:
        return found | corrupted(fresh.points, rng)
    sd, normal = sample.points.std(), across(fresh, rng)
    return found | {f"across {step:g}": fresh.points + step * sd * normal for step in STEPS}


# ------------------------------------------------------------------------------- measurements


def aucs(score: Callable, inliers: np.ndarray, sets: dict[str, np.ndarray]) -> dict[str, float]:
    """Area under the ROC curve of fresh points against each kind of outliers."""
    inside = score(inliers)
    found = {}
    for name, X in sets.items():
        labels = np.r_[np.ones(len(inside)), np.zeros(len(X))]
        found[name] = float(roc_auc_score(labels, np.r_[inside, score(X)]))
    return found


def peers(X: np.ndarray, seed: int) -> dict[str, object]:
    """The detectors on raw data, those with settings at each of them."""
    scale = 1 / (X.shape[1] * X.var())
    return {
        "IsolationForest": IsolationForest(random_state=seed),
        "OneClassSVM": OneClassSVM(nu=0.05),
        "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
        **{f"OneClassSVM gamma x{g:g}": OneClassSVM(nu=0.05, gamma=g * scale) for g in GAMMAS},
        **{
            f"LocalOutlierFactor k={k}": LocalOutlierFactor(k, novelty=True)
            for k in SIZES
            if k < len(X)
        },
    }


def measure(job: Job, models: Path = FOLDER) -> dict:
    """AUC of every detector for every kind of outliers, and the share of fresh points inside."""
    KeptDiffusion.folder = models
    case, seed = job.case, job.seed
    sample, fresh = case.sample(seed), case.fresh(seed, min(N_TEST, case.n))
    sets = outliers(case, sample, fresh, seed)
    manifold = clone(keeping(job.manifold)).set_params(random_state=seed)
    result, start = {"n": case.n, "D": sample.points.shape[1]}, time.perf_counter()
    support = ManifoldSupport(manifold, random_state=seed).fit(sample.points)
    result["fit_s"] = time.perf_counter() - start
    result["dimension"] = support.manifold_.dimension_
    result["auc"] = {"ManifoldSupport": aucs(support.score_samples, fresh.points, sets)}
    result["inside"] = {"ManifoldSupport": float(np.mean(support.predict(fresh.points) == 1))}
    frozen = FrozenEstimator(support.manifold_)
    own = ManifoldSupport(frozen, calibration_fraction=0, random_state=seed).fit(sample.points)
    result["inside"]["without calibration"] = float(np.mean(own.predict(fresh.points) == 1))
    parts = {
        "SVM alone": lambda X: support.boundary_.score(support._scaled(X)),
        "distance alone": lambda X: -np.hypot(*support._lengths(X)),
    }
    for name, score in parts.items():
        result["auc"][name] = aucs(score, fresh.points, sets)
    for name, peer in peers(sample.points, seed).items():
        peer.fit(sample.points)
        result["auc"][name] = aucs(peer.score_samples, fresh.points, sets)
        result["inside"][name] = float(np.mean(peer.predict(fresh.points) == 1))
    return result


# --------------------------------------------------------------------------------------- table


def best_of(auc: dict, name: str) -> dict[str, float]:
    """Best setting of a peer for each kind of outliers, in hindsight."""
    settings = [values for key, values in auc.items() if key.startswith(name)]
    return {kind: max(values[kind] for values in settings) for kind in settings[0]}


def table(records: list[dict]) -> str:
    """Mean AUC over seeds, case by case and kind by kind, in Markdown."""
    names = ["ManifoldSupport", "SVM alone", "distance alone"]
    names += ["OneClassSVM", "LocalOutlierFactor", "IsolationForest"]
    hindsight = ["OneClassSVM", "LocalOutlierFactor"]
    columns = [*names, *(f"{name}, best" for name in hindsight)]
    lines = ["| data | outliers | " + " | ".join(columns) + " |", "|---" * (2 + len(columns)) + "|"]
    for case in CASES:
        results = [r["result"]["auc"] for r in records if r["case"] == case]
        for kind in results[0]["ManifoldSupport"] if results else []:
            values = [np.mean([auc[name][kind] for auc in results]) for name in names]
            values += [np.mean([best_of(auc, name)[kind] for auc in results]) for name in hindsight]
            cells = [f"**{v:.3f}**" if v >= max(values) - 5e-4 else f"{v:.3f}" for v in values]
            lines.append(f"| {CASES[case].title} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(records: list[dict]) -> str:
    """Mean AUC of ours / best peer with its defaults / best of all peers and settings, by kind."""
    peer_names = ("OneClassSVM", "LocalOutlierFactor", "IsolationForest")
    kinds = ["midpoints", *(f"across {step:g}" for step in STEPS)]
    lines = ["| data | seeds | " + " | ".join(kinds) + " |", "|---" * (2 + len(kinds)) + "|"]
    for case in CASES.values():
        results = [r["result"]["auc"] for r in records if r["case"] == case.name]
        if case.make is make_digits or not results:
            continue
        cells = []
        for kind in kinds:
            default = max(np.mean([auc[name][kind] for auc in results]) for name in peer_names)
            settings = [name for name in results[0] if name.startswith(peer_names)]
            best = np.mean([max(auc[name][kind] for name in settings) for auc in results])
            ours = np.mean([auc["ManifoldSupport"][kind] for auc in results])
            text = f"**{ours:.3f}**" if ours >= best - 5e-4 else f"{ours:.3f}"
            cells.append(f"{text} / {default:.3f} / {best:.3f}")
        lines.append(f"| {case.title} | {len(results)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv=None) -> int:
    own = models_option()
    own.add_argument("--table", action="store_true", help="print the table and run nothing")
    args = parse_args(__doc__.splitlines()[0], CASES, 3, argv, own)
    store = Store("detector", args.results)
    if args.table:
        print(table(store.latest()), summary(store.latest()), sep="\n\n")
        return 0
    jobs = [
        Job(CASES[name], seed, args.manifold) for seed in range(args.seeds) for name in args.cases
    ]
    return run_jobs(partial(measure, models=args.models), jobs, store, workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
