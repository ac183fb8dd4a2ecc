"""Too few points, too much noise, too little training: what the defaults do, and what they say.

For each case the errors, every number by which a user could see them, and the warnings. Run

    python examples/benchmarks/failures.py --workers 2
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from common import N_QUERY, Case, Job, Store, fit_timed, local_pca_tangents, parse_args, run_jobs
from formats import number
from formats import table as markdown
from sklearn.datasets import load_digits

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_gaussian, make_random_manifold, make_torus, torus_tangents
from alignlearn.metrics import normal_angle, tangent_error
from alignlearn.models import Diffusion

# --------------------------------------------------------------------------------------- data


class KnownSample(NamedTuple):
    """Points with what is true at each of them.

    Attributes
    ----------
    points : ndarray of shape (n, D)
    dimension : ndarray of shape (n,), int
        0 where there is none, as at an outlier, or where nobody knows it.
    tangents : ndarray of shape (n, D, max d)
        Orthonormal columns, as many as `dimension` says, then zeros.
    """

    points: np.ndarray
    dimension: np.ndarray
    tangents: np.ndarray


def torus(n_samples, *, outliers="none", noise=0.0, random_state=None) -> KnownSample:
    """Torus in R^3, truth at the noisy points; outliers are added to the n points.

    "one": one point 50 standard deviations from the mean. "uniform": 1 % more points, uniform in
    the cube around the torus of twice its size.
    """
    points = make_torus(n_samples, noise=noise, random_state=random_state).points
    rng = np.random.default_rng([random_state, 1])
    direction = rng.standard_normal((1, 3))
    sigma = np.sqrt(points.var(axis=0).mean())
    extra = {
        "none": np.empty((0, 3)),
        "one": points.mean(axis=0) + 50 * sigma * direction / np.linalg.norm(direction),
        "uniform": rng.uniform(-6, 6, size=(n_samples // 100, 3)),
    }[outliers]
    return KnownSample(
        np.concatenate([points, extra]),
        np.repeat([2, 0], [n_samples, len(extra)]),
        np.concatenate([torus_tangents(points), np.zeros((len(extra), 3, 2))]),
    )


def random_manifold(n_samples, *, noise=0.0, random_state=None) -> KnownSample:
    """A random smooth manifold of dimension 10 in R^50."""
    return _known(make_random_manifold(n_samples, 10, 50, noise=noise, random_state=random_state))


def gaussian(n_samples, *, dim, noise=0.0, random_state=None) -> KnownSample:
    """Isotropic Gaussian that fills R^dim: there is no manifold to find."""
    return _known(make_gaussian(n_samples, dim, noise=noise, random_state=random_state))


def two_pieces(n_samples, *, noise=0.0, random_state=None) -> KnownSample:
    """A segment and a cube of dimension 3 in R^5, half of the points each.

    ``x = m + Q u``, u uniform on [-1, 1)^d, Q random orthonormal; the centres m are 4 apart.
    """
    rng = np.random.default_rng(random_state)
    dimension = np.repeat([1, 3], [n_samples // 2, n_samples - n_samples // 2])
    points, tangents = np.zeros((n_samples, 5)), np.zeros((n_samples, 5, 3))
    for d, side in [(1, -2.0), (3, 2.0)]:
        rows = dimension == d
        Q = np.linalg.qr(rng.standard_normal((5, d))).Q
        points[rows] = rng.uniform(-1, 1, size=(rows.sum(), d)) @ Q.T
        points[rows, 0] += side
        tangents[rows, :, :d] = Q
    points += noise * rng.standard_normal(points.shape)
    return KnownSample(points, dimension, tangents)


def digits(n_samples, *, noise=0.0, random_state=None) -> KnownSample:
    """Handwritten digits of 8 x 8 pixels: nobody knows the truth."""
    X = load_digits().data[:n_samples]
    X = X + noise * np.random.default_rng(random_state).standard_normal(X.shape)
    return KnownSample(X, np.zeros(len(X), dtype=int), np.zeros((*X.shape, 0)))


def _known(sample) -> KnownSample:
    return KnownSample(
        sample.points, np.full(len(sample.points), sample.dimension), sample.tangents
    )


FEW, MANY = (30, 100, 300), (300, 1000, 3000)
NOISES, BUDGETS = (0.1, 0.25, 0.5, 1.0), (30, 100, 300, 1000)

CASES = {
    case.name: case
    for case in [
        *(
            Case(f"failures/torus-{n}", f"torus, n = {n}", torus, n, is_torus=True)
            for n in (*FEW, 1000)
        ),
        *(
            Case(
                f"failures/torus-noise-{s:g}", f"torus, noise {s:g}, n = 1000", torus, 1000, s, True
            )
            for s in NOISES
        ),
        *(Case(f"failures/random10-{n}", f"10 in R^50, n = {n}", random_manifold, n) for n in MANY),
        Case("failures/gaussian10", "Gaussian in R^10, n = 1000", partial(gaussian, dim=10), 1000),
        Case("failures/pieces", "1 and 3 in R^5, n = 1000", two_pieces, 1000),
        *(
            Case(
                f"failures/outliers-{kind}",
                f"torus, n = 1000 and {words}",
                partial(torus, outliers=kind),
                1000,
                is_torus=True,
            )
            for kind, words in [("one", "one point 50 sigma away"), ("uniform", "10 outliers")]
        ),
        Case("failures/digits", "digits, D = 64, n = 1797", digits, 1797),
    ]
}
TORUS = "failures/torus-1000"

BUDGET_HEADING = "too little training"

# Rows of the table by heading: case and max_iter. The last budget is the default.
ROWS = {
    "too few points": [(f"failures/torus-{n}", None) for n in (*FEW, 1000)],
    "too much noise": [(f"failures/torus-noise-{s:g}", None) for s in NOISES],
    BUDGET_HEADING: [*((TORUS, steps) for steps in BUDGETS), (TORUS, None)],
    "too many dimensions": [(f"failures/random10-{n}", None) for n in MANY],
    "no manifold": [("failures/gaussian10", None)],
    "a mixture": [("failures/pieces", None)],
    "outliers": [("failures/outliers-one", None), ("failures/outliers-uniform", None)],
    "real data": [("failures/digits", None)],
}


# ------------------------------------------------------------------------------- measurements


def angle_error(case: Case, vectors: np.ndarray, truth: KnownSample) -> float | None:
    """Degrees, mean over the points that have a tangent space; None where there is none to miss.

    At each point as many of the leading columns of `vectors` as its true dimension.
    """
    angle = normal_angle if case.is_torus else tangent_error
    errors = []
    for d in np.unique(truth.dimension):
        rows = truth.dimension == d
        if 0 < d < truth.points.shape[1]:
            frames = np.linalg.qr(vectors[rows][..., :d]).Q
            errors.append(angle(frames, truth.tangents[rows][..., :d]))
    return float(np.concatenate(errors).mean()) if errors else None


def query_rows(truth: KnownSample, seed: int) -> np.ndarray:
    """At most N_QUERY training points, no outliers among them."""
    inside = np.flatnonzero(truth.dimension) if truth.dimension.any() else np.arange(len(truth[0]))
    return np.sort(np.random.default_rng(seed).permutation(inside)[:N_QUERY])


def headline(warning: str) -> str:
    """Warning up to its first colon or full stop; numbers such as 0.5 have none."""
    return re.split(r":|\.(?=\s|$)", warning)[0].strip()


def measure(job: Job) -> dict:
    """Errors, and every number by which the user could have seen them."""
    sample = job.case.sample(job.seed)
    m, result = fit_timed(job.manifold, sample.points, job.seed)
    rows = query_rows(sample, job.seed)
    truth = KnownSample(*(part[rows] for part in sample))
    X, d = truth.points, truth.dimension
    result |= {
        "n": len(sample.points),
        "D": X.shape[1],
        "d": np.unique(d[d > 0]).tolist(),
        "n_query": len(rows),
        "warnings": [headline(text) for text in result["warnings"]],
        "gap": m.dimension_estimate_.gap,
        "true_noise": job.case.noise,
        "neighbor_dimension": m.neighbor_dimension_,
        "window": list(m.window_),
        "exponents": np.round(m.exponents_, 4).tolist(),
        "lyapunov": angle_error(job.case, m.tangent_space(X, max(1, int(d.max()))), truth),
        "right": float(np.mean(m.dimension(X) == d)) if d.any() else None,
        "local_pca": None,
    }
    if result["lyapunov"] is not None:
        result["local_pca"] = {
            k: angle_error(job.case, vectors, truth)
            for k, vectors in local_pca_tangents(sample.points, X, int(d.max())).items()
        }
    return result


def make_jobs(names, seeds, manifold: LyapunovManifold) -> list[Job]:
    """A job for each case and seed, and one for each smaller budget of training on the torus."""
    model = Diffusion() if manifold.model is None else manifold.model
    jobs = []
    for seed in seeds:
        for name in names:
            jobs.append(Job(CASES[name], seed, manifold))
            for steps in BUDGETS if name == TORUS else ():
                params = model.get_params(deep=False)
                params["max_iter"] = min(steps, params["max_iter"])
                less = manifold.get_params(deep=False) | {"model": Diffusion(**params)}
                options = {"max_iter": steps}
                jobs.append(Job(CASES[name], seed, LyapunovManifold(**less), options))
    return jobs


# -------------------------------------------------------------------------------------- table


def _each(results: list[dict], show: Callable[[dict], str]) -> str:
    """What every seed gave, in their order; once where they agree."""
    cells = [show(result) for result in results]
    return cells[0] if len(set(cells)) == 1 else ", ".join(cells)


def _true_dimension(result: dict) -> str:
    return " and ".join(map(str, result["d"])) or "?"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _state(result: dict) -> str:
    """Of `dimension_estimate_`: clear implies resolved, and not resolved implies not clear."""
    if not result["resolved"]:
        return "not resolved"
    return "clear" if result["clear"] else "not clear"


def _noise(level: float) -> str:
    return "NaN" if np.isnan(level) else "inf" if np.isinf(level) else number(level, 2)


def _error(result: dict) -> str:
    return "" if result["lyapunov"] is None else number(result["lyapunov"])


def _best_pca(result: dict) -> str:
    return "" if result["local_pca"] is None else number(min(result["local_pca"].values()))


def _neighbors(result: dict) -> str:
    value = result["neighbor_dimension"]
    return "" if value is None else number(value)


def _warned(results: list[dict]) -> str:
    """Start of each warning without its numbers, and of how many seeds if not of all."""
    texts = [sorted({_without_numbers(w) for w in r["warnings"]}) for r in results]
    cells = []
    for text in sorted({text for some in texts for text in some}):
        count = sum(text in some for some in texts)
        cells.append(text if count == len(texts) else f"{text} ({count} of {len(texts)} seeds)")
    return "; ".join(cells) or "none"


def _without_numbers(text: str) -> str:
    text = re.split(r" \(|, ", text)[0]
    return re.sub(r"(?<=\s)-?\d[\d.]*%?(?=\s|$)", "...", text)


def _true_noise(record: dict) -> str:
    return "?" if record["case"] == "failures/digits" else f"{record['result']['true_noise']:g}"


def failures_table(records: list[dict]) -> str:
    """One row for each case: what went wrong, and all that says so; every seed's number."""
    rows, placed = [], set()
    for heading, entries in ROWS.items():
        first = True
        for case, steps in entries:
            options = {} if steps is None else {"max_iter": steps}
            group = [r for r in records if r["case"] == case and r["options"] == options]
            placed.add(case)
            if group:
                steps = group[0]["settings"]["Diffusion"]["max_iter"]
                title = group[0]["title"]
                if heading == BUDGET_HEADING:
                    title = f"{title}, max_iter = {steps}"
                rows.append([heading if first else "", title, *_cells(group)])
                first = False
    for case in sorted({r["case"] for r in records} - placed):  # trials
        group = [r for r in records if r["case"] == case]
        rows.append(["", group[0]["title"], *_cells(group)])
    return markdown(HEADER, rows)


HEADER = [
    "what is wrong",
    "data",
    "`dimension_` (true)",
    "points right",
    "`confidence`",
    "the spectrum is",
    "tangent error",
    "local PCA, best k",
    "`noise_level_` (true)",
    "`loss_`",
    "`neighbor_dimension_`",
    "fit, CPU s",
    "warning",
]


def _cells(group: list[dict]) -> list[str]:
    group = sorted(group, key=lambda record: record["seed"])
    results = [record["result"] for record in group]
    found = _each(results, lambda r: str(r["dimension"]))
    noise = _each(results, lambda r: _noise(r["noise_level"]))
    return [
        f"{found} ({_true_dimension(results[0])})",
        _each(results, lambda r: _percent(r["right"])),
        _each(results, lambda r: _percent(r["confidence"])),
        _each(results, _state),
        _each(results, _error),
        _each(results, _best_pca),
        f"{noise} ({_true_noise(group[0])})",
        _each(results, lambda r: number(r["held_out_loss"])),
        _each(results, _neighbors),
        _each(results, lambda r: f"{r['fit_cpu_s']:.0f}"),
        _warned(results),
    ]


FAILURE_TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "failures": ("failures", failures_table)
}


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], CASES, 2, argv)
    jobs = make_jobs(args.cases, range(args.seeds), args.manifold)
    return run_jobs(measure, jobs, Store("failures", args.results), workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
