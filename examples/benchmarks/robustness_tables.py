"""Tables of robustness.py: does alignment predict robustness, and does the paper's order hold?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from formats import number, table
from robustness import CASES, SIZES
from scipy.stats import rankdata

MODELS = ("SGM-SDE", "SGM-ODE", "OT-CFM", "CFM", "SB-CFM", "interpolant")
CONTROL = "SGM-ODE, straight clock"  # aligned as SGM-ODE is: no cell of its own in correlations
ALL_SIZES = ("0", *(f"{size:g}" for size in SIZES))
N_RESAMPLES = 500

# Of the paper's order, section G.5: what is said to be more robust than what.
CLAIMS = (
    ("SGM-ODE", "OT-CFM"),
    ("SGM-SDE", "OT-CFM"),
    ("OT-CFM", "CFM"),
    ("OT-CFM", "interpolant"),
)

Runs = dict[tuple[str, str, str], dict[int, dict]]


def runs_of(records: Iterable[dict]) -> Runs:
    """What each process gave: (target, source, process) to seed to its part of the result."""
    found: Runs = {}
    for record in records:
        for process, part in record["result"]["processes"].items():
            key = record["case"], record["options"]["source"], process
            extra = {"real_energy": record["result"]["real_energy"]}
            found.setdefault(key, {})[record["seed"]] = part | extra
    return found


def _of(part: dict, name: str, size: str = "0", kind: str = "velocity") -> float:
    """A number of one run, of an error of one size where it depends on that."""
    return part[name] if name in part else part["errors"][kind][size][name]


def _spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{number(float(np.mean(values)))} ± {number(float(np.std(values)))}"


def _cells(seeds: dict[int, dict], *columns: tuple[str, ...]) -> list[str]:
    return [_spread(_of(part, *column) for part in seeds.values()) for column in columns]


def _rows(runs: Runs, columns: list[tuple[str, ...]], processes: tuple[str, ...]) -> list:
    rows = []
    for case in CASES:
        first = True
        for source in ("Gaussian", "8 Gaussians"):
            for process in processes:
                if seeds := runs.get((case, source, process)):
                    name = process if source == "Gaussian" else f"{process}, 8 Gaussians"
                    title = CASES[case].title if first else ""
                    rows.append([title, name, len(seeds), *_cells(seeds, *columns)])
                    first = False
    return rows


def _table_of(columns: dict[str, tuple[str, ...]], processes: tuple[str, ...]) -> Callable:
    def build(records: list[dict]) -> str:
        rows = _rows(runs_of(records), list(columns.values()), processes)
        return table(["target", "model", "seeds", *columns], rows)

    return build


moves_table = _table_of(
    {
        "mean \\|cos\\|": ("alignment",),
        "95 % quantile": ("alignment_95",),
        **{f"off, error {size}": ("off", size) for size in ALL_SIZES[1:]},
        **{f"along, error {size}": ("along", size) for size in ALL_SIZES[1:]},
    },
    (*MODELS, CONTROL),
)
support_table = _table_of(
    {
        "energy distance": ("energy",),
        "of real samples": ("real_energy",),
        "distance, error 0": ("distance", "0"),
        **{f"near, error {size}": ("near", size) for size in ALL_SIZES},
        **{f"inside, error {size}": ("inside", size) for size in ("0", "0.5", "1")},
        **{f"margin, error {size}": ("margin_kept", size) for size in ("0", "0.5", "1")},
    },
    (*MODELS, CONTROL),
)
score_table = _table_of(
    {
        f"{name}, error {size}": (column, size, "score")
        for name, column in (("off", "off"), ("along", "along"), ("near", "near"))
        for size in ALL_SIZES[1:]
    },
    ("SGM-SDE", "SGM-ODE"),
)


def _parts(runs: Runs, case: str, source: str, process: str) -> dict[int, dict]:
    """An SGM has one source, beside which it is put in both groups."""
    return runs.get((case, "Gaussian" if process.startswith("SGM") else source, process), {})


def order_table(records: list[dict]) -> str:
    """For each claim of the paper's order: the seeds in which it holds, and whether on average."""
    runs, rows = runs_of(records), []
    for measure, title in (("off", "moves off, error 0.5"), ("alignment", "mean \\|cos\\|")):
        for case, source in sorted({key[:2] for key in runs}, key=_place):
            row = [title, CASES[case].title, source]
            means = {}
            for process in MODELS:
                parts = _parts(runs, case, source, process).values()
                if parts:
                    means[process] = float(np.mean([_of(part, measure, "0.5") for part in parts]))
            for better, worse in CLAIMS:
                a, b = (_parts(runs, case, source, process) for process in (better, worse))
                common = sorted(set(a) & set(b))
                x, y = ([_of(parts[seed], measure, "0.5") for seed in common] for parts in (a, b))
                if not common:
                    row.append("")
                    continue
                held = sum(p < q for p, q in zip(x, y, strict=True))
                mark = "yes" if np.mean(x) < np.mean(y) else "**no**"
                row.append(f"{mark}, {held} of {len(common)}")
            order = sorted(means, key=lambda name: means[name])
            row.append(" < ".join(f"{name} {number(means[name], 2)}" for name in order))
            rows.append(row)
            title = ""
    claims = [f"{better} before {worse}" for better, worse in CLAIMS]
    return table(["by", "target", "source", *claims, "what came out, best first"], rows)


def _place(group: tuple[str, str]) -> tuple[int, bool]:
    return list(CASES).index(group[0]), group[1] != "Gaussian"


# --------------------------------------------------------------------------------- correlations


def rank_correlation(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> float:
    """Spearman's, or the partial one with the ranks of `given` regressed out; NaN if constant."""
    x, y = rankdata(x), rankdata(y)
    if given is not None:
        design = np.c_[np.ones(len(x)), rankdata(given)]
        x, y = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y))
    x, y = x - x.mean(), y - y.mean()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / size) if size > 1e-9 * len(x) else float("nan")


def _grid(runs: Runs, name: str, size: str) -> np.ndarray:
    """Values (cells, seeds) of the seeds that all cells have; in the order of `_cell_keys`."""
    keys = _cell_keys(runs)
    seeds = sorted(set.intersection(*(set(runs[key]) for key in keys)))
    return np.array([[_of(runs[key][seed], name, size) for seed in seeds] for key in keys])


def _cell_keys(runs: Runs) -> list[tuple[str, str, str]]:
    return sorted(key for key in runs if key[2] in MODELS)


def correlation(runs: Runs, statistic: Callable, names: tuple[str, ...], size: str) -> tuple:
    """A statistic over cells, means over seeds, with its 95 % bootstrap interval.

    Targets and seeds are drawn again; a target brings all its cells, which are relabelled, so that
    drawn twice it counts as two.
    """
    grids = [_grid(runs, name, size) for name in names]
    cases = np.array([key[0] for key in _cell_keys(runs)])
    groups = [np.flatnonzero(cases == case) for case in sorted(set(cases))]
    rng, n_seeds = np.random.default_rng(0), grids[0].shape[1]

    def value(drawn: list[np.ndarray], seeds: np.ndarray) -> float:
        labels = np.repeat(np.arange(len(drawn)), [len(group) for group in drawn])
        rows = np.concatenate(drawn)
        return statistic(labels, *(grid[np.ix_(rows, seeds)].mean(axis=1) for grid in grids))

    resampled = [
        value(
            [groups[i] for i in rng.integers(len(groups), size=len(groups))],
            rng.integers(n_seeds, size=n_seeds),
        )
        for _ in range(N_RESAMPLES)
    ]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return value(groups, np.arange(n_seeds)), float(low), float(high)


def _pooled(labels: np.ndarray, *values: np.ndarray) -> float:
    return rank_correlation(*values)


def _within(labels: np.ndarray, *values: np.ndarray) -> float:
    """Mean over targets of the correlation among the models of each."""
    parts = [rank_correlation(*(v[labels == label] for v in values)) for label in set(labels)]
    return float(np.mean(parts))


QUESTIONS = {
    "alignment with moves off, all cells": (_pooled, ("alignment", "off")),
    "the same within each target, mean": (_within, ("alignment", "off")),
    "alignment with moves *along*, all cells": (_pooled, ("alignment", "along")),
    "alignment with the share near the support, all cells": (_pooled, ("alignment", "near")),
    "distance from the support without error, with moves off": (_pooled, ("distance_0", "off")),
    "the same within each target, mean ": (_within, ("distance_0", "off")),
    "alignment with moves off, given that distance": (
        _pooled,
        ("alignment", "off", "distance_0"),
    ),
}


def correlation_table(records: list[dict]) -> str:
    """Spearman's rank correlations over cells (a target and a model), for every size of error."""
    runs = runs_of(records)
    for seeds in runs.values():
        for part in seeds.values():
            part["distance_0"] = _of(part, "distance", "0")
    rows = []
    for question, (statistic, names) in QUESTIONS.items():
        row = [question.strip()]
        for size in ALL_SIZES[1:]:
            found, low, high = correlation(runs, statistic, names, size)
            row.append(f"{found:.2f} ({low:.2f} to {high:.2f})")
        rows.append(row)
    return table(["rank correlation of", *(f"error {size}" for size in ALL_SIZES[1:])], rows)


ROBUSTNESS_TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "robustness": ("robustness", moves_table),
    "robustness-support": ("robustness", support_table),
    "robustness-score": ("robustness", score_table),
    "robustness-order": ("robustness", order_table),
    "robustness-correlation": ("robustness", correlation_table),
}
