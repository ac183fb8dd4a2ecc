"""Tables of the dimension benchmark, from the records of dimension.py and dimension_peers.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import mean, median

import numpy as np
from dimension_cases import CASES, MANIFOLDS
from formats import number, spread
from formats import table as markdown

OURS = "alignlearn, defaults"
FLIPD_SCALE = "0.05"  # fixed for FLIPD, in units of the data's standard deviation
PUBLISHED_SETS = {  # mean relative error in percent at n = 1000, on a similar suite of 45 sets
    "DANCo of the R package, published": "9.9",
    "GeoMLE, published": "11.4 - 12.4",
}
PUBLISHED_IDDIFF = {
    "iddiff/sphere10": 11,
    "iddiff/sphere50": 51,
    "iddiff/spaghetti": 1,
    "iddiff/squares10": 11,
    "iddiff/squares20": 22,
    "iddiff/squares100": 100,
    "iddiff/blobs10": 12,
    "iddiff/blobs20": 21,
    "iddiff/blobs100": 98,
}
BEST_PEERS = ("GRIDE", "TwoNN", "DANCo", "MLE")

# An estimate is a dict: case, seed, the true d, the value (None: failed) and the CPU seconds.
Estimate = dict


# ------------------------------------------------------------------------- records to estimates


def _fixed(levels: dict, key: str, setting: Callable[[dict], str]) -> float:
    return levels[setting(levels)][key]


def _hindsight(levels: dict, key: str, d: float) -> float:
    return min((level[key] for level in levels.values()), key=lambda value: abs(value - d))


def _smallest(levels: dict) -> str:
    return min(levels, key=float)


def _flipd_scale(levels: dict) -> str:
    return min(levels, key=lambda s: abs(np.log(float(s) / float(FLIPD_SCALE))))


def estimates(records: list[dict]) -> dict[str, list[Estimate]]:
    """Estimates of one dimension for a sample, by the name of the estimator; ours first."""
    found: dict[str, list[Estimate]] = {}
    for record in records:
        result = record["result"]
        if len(result["d"]) > 1:
            continue
        d = result["d"][0]
        base = {"case": record["case"], "seed": record["seed"], "d": d}
        if "peer" in result:
            values = {result["peer"]: (result["dimension"], result["cpu_s"])}
        else:
            flipd, bundle = result["flipd"], result["normal_bundle"]
            fit_s, flipd_s, bundle_s = (result[key] for key in _SECONDS)
            values = {
                OURS: (result["dimension"], fit_s),
                _FLIPD: (_fixed(flipd, "mean", _flipd_scale), fit_s + flipd_s),
                _FLIPD_BEST: (_hindsight(flipd, "mean", d), fit_s + flipd_s),
                _BUNDLE: (_fixed(bundle, "median", _smallest), fit_s + bundle_s),
                _BUNDLE_BEST: (_hindsight(bundle, "median", d), fit_s + bundle_s),
            }
        for name, (value, seconds) in values.items():
            found.setdefault(name, []).append(base | {"value": value, "seconds": seconds})
    return found


_SECONDS = ("fit_cpu_s", "flipd_cpu_s", "normal_bundle_cpu_s")
_FLIPD = f"FLIPD's formula on our model, s = {FLIPD_SCALE}"
_FLIPD_BEST = "FLIPD's formula on our model, best s in hindsight"
_BUNDLE = "ID-DIFF's rule on our model, smallest s"
_BUNDLE_BEST = "ID-DIFF's rule on our model, best s in hindsight"


def relative_error(estimate: Estimate) -> float:
    """``|value - d| / d`` of the raw estimate."""
    return abs(estimate["value"] - estimate["d"]) / estimate["d"]


def is_right(estimate: Estimate) -> bool:
    """Whether the rounded estimate is the true dimension; a failure is not."""
    return estimate["value"] is not None and int(np.floor(estimate["value"] + 0.5)) == estimate["d"]


def _by_seed(group: list[Estimate], score: Callable[[Estimate], float]) -> list[float]:
    """Mean score of each seed over its sets."""
    seeds = sorted({e["seed"] for e in group})
    return [mean(score(e) for e in group if e["seed"] == seed) for seed in seeds]


def table(header: list[str], rows: list[list]) -> str:
    """A markdown table, or a line that says there are no data for one."""
    return markdown(header, rows) if rows else "*Not run yet.*"


def _mean_and_worst(values: list[float], worst: Callable) -> str:
    cells = [f"{100 * value:.1f}" for value in (mean(values), worst(values))]
    return f"{cells[0]} % ({cells[1]} %)" if len(values) > 1 else f"{cells[0]} %"


def _bold(name: str, cell: str) -> str:
    return f"**{cell}**" if name == OURS and cell else cell


# --------------------------------------------------------------------------------------- tables


def sets_summary_table(records: list[dict], n: int = 1000) -> str:
    """All estimators over the 24 sets of n points: means over seeds, the worst seed in brackets."""
    rows = []
    for name, group in estimates(_of_size(records, n)).items():
        worked = [e for e in group if e["value"] is not None]
        errors = _by_seed(worked, relative_error)
        cells = [
            name,
            _mean_and_worst(errors, max) if errors else "-",
            _mean_and_worst(_by_seed(group, is_right), min),
            f"{len(group) - len(worked)} of {len(group)}",
            number(median(e["seconds"] for e in group)),
        ]
        rows.append((mean(errors) if errors else np.inf, [_bold(name, cell) for cell in cells]))
    if n == 1000 and rows:
        for name, percent in PUBLISHED_SETS.items():
            error = float(percent.split()[0]) / 100
            rows.append((error, [f"*{name}*", f"*{percent} %, other suite*", "-", "-", "-"]))
    header = [
        "estimator",
        "mean relative error",
        "rounded estimate right",
        "failures",
        "median CPU seconds",
    ]
    return table(header, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


def _of_size(records: list[dict], n: int) -> list[dict]:
    names = {f"bm/{name}/{n}" for name in MANIFOLDS}
    return [record for record in records if record["case"] in names]


def _ours(records: list[dict], case: str) -> list[dict]:
    """Results of dimension.py on a case, by seed."""
    found = [r for r in records if r["case"] == case and "peer" not in r["result"]]
    return [r["result"] for r in sorted(found, key=lambda r: r["seed"])]


def _dimensions(results: list[dict]) -> str:
    """Ours for each seed; a question mark where the library says it is not resolved."""
    return ", ".join(f"{r['dimension']}{'' if r['resolved'] else '?'}" for r in results)


def _peer_cells(found: dict[str, list[Estimate]], case: str, names) -> list[str]:
    """Mean over seeds of each estimator on one case; how it failed where it always did."""
    cells = []
    for name in names:
        group = [e for e in found.get(name, []) if e["case"] == case]
        values = [e["value"] for e in group if e["value"] is not None]
        cells.append(number(mean(values)) if values else ("failed" if group else ""))
    return cells


def _known(records: list[dict], case: str) -> dict:
    return next(r["result"] for r in records if r["case"] == case)


def sets_table(records: list[dict], n: int = 1000) -> str:
    """Every set of n points: ours for each seed, the best peers as means over seeds."""
    records = _of_size(records, n)
    found = estimates(records)
    rows = []
    for name in MANIFOLDS:
        case = f"bm/{name}/{n}"
        if all(r["case"] != case for r in records):
            continue
        some = _known(records, case)
        ours = _dimensions(_ours(records, case))
        peers = _peer_cells(found, case, [_FLIPD, *BEST_PEERS])
        rows.append([name, some["d"][0], some["D"], _bold(OURS, ours), *peers])
    header = ["set", "d", "D", "ours, each seed", f"FLIPD, s = {FLIPD_SCALE}", *BEST_PEERS]
    return table(header, rows)


def iddiff_table(records: list[dict]) -> str:
    """ID-DIFF's data: published, ours, both formulas on our model, the best peers."""
    found = estimates(records)
    rows = []
    for case, published in PUBLISHED_IDDIFF.items():
        if all(r["case"] != case for r in records):
            continue
        some = _known(records, case)
        ours = _dimensions(_ours(records, case))
        names = [_BUNDLE, _BUNDLE_BEST, _FLIPD, _FLIPD_BEST, *BEST_PEERS]
        cells = _peer_cells(found, case, names)
        rows.append(
            [CASES[case].title, some["d"][0], _bold(OURS, ours), published, *cells],
        )
    header = [
        "data",
        "d",
        "ours, each seed",
        "ID-DIFF, published",
        "its rule on our model, smallest s",
        "best s",
        f"FLIPD's formula on our model, s = {FLIPD_SCALE}",
        "best s",
        *BEST_PEERS,
    ]
    return table(header, rows)


def mixture_table(records: list[dict]) -> str:
    """Mean absolute error of the pointwise dimension where it differs between points."""
    found: dict[str, list[tuple]] = {}
    for record in records:
        result = record["result"]
        if len(result["d"]) == 1:
            continue
        if "peer" in result:
            values = {result["peer"]: (result["mae"], "")}
        else:
            flipd, bundle = result["flipd"], result["normal_bundle"]
            best = {
                name: min(levels.items(), key=lambda item: item[1]["mae"])
                for name, levels in (("flipd", flipd), ("bundle", bundle))
            }
            values = {
                OURS: (result["mae"], f"{100 * result['right']:.1f} %"),
                _FLIPD: (_fixed(flipd, "mae", _flipd_scale), ""),
                _FLIPD_BEST: (best["flipd"][1]["mae"], ""),
                _BUNDLE: (_fixed(bundle, "mae", _smallest), ""),
                _BUNDLE_BEST: (best["bundle"][1]["mae"], ""),
            }
        for name, value in values.items():
            found.setdefault(name, []).append((record["case"], *value))
    rows = []
    for name, group in found.items():
        errors = [error for _, error, _ in group if error is not None]
        cells = [
            name,
            spread(errors) if errors else "failed",
            ", ".join(share for *_, share in group if share),
        ]
        rows.append((median(errors) if errors else np.inf, [_bold(name, cell) for cell in cells]))
    header = ["estimator", "mean absolute error of the pointwise dimension", "points right"]
    return table(header, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


def failures_table(records: list[dict]) -> str:
    """Why peers gave no estimate."""
    groups: dict[tuple[str, str], set[str]] = {}
    for record in records:
        failure = record["result"].get("failure")
        if failure:
            key = record["result"]["peer"], failure.splitlines()[0][:120].replace("|", "/")
            groups.setdefault(key, set()).add(record["case"])
    rows = [[peer, why, len(cases)] for (peer, why), cases in sorted(groups.items())]
    return table(["estimator", "why", "data sets"], rows)


DIMENSION_SCRIPTS = ("dimension", "dimension_peers")  # a table needs the records of both
# Each with the pattern of the cases that it is about.
DIMENSION_TABLES: dict[str, tuple[Callable[[list[dict]], str], str]] = {
    "dimension-sets-1000": (partial(sets_summary_table, n=1000), "bm/*/1000"),
    "dimension-sets-2500": (partial(sets_summary_table, n=2500), "bm/*/2500"),
    "dimension-each-1000": (partial(sets_table, n=1000), "bm/*/1000"),
    "dimension-each-2500": (partial(sets_table, n=2500), "bm/*/2500"),
    "dimension-iddiff": (iddiff_table, "iddiff/*"),
    "dimension-mixture": (mixture_table, "mixture"),
    "dimension-failures": (failures_table, "*"),
}
