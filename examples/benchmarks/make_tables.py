"""Turn the results into the tables of docs/benchmarks.md and README.md, between markers. Run

python examples/benchmarks/make_tables.py
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

import numpy as np
from common import (
    CASES,
    LARGEST_ANGLE,
    MAIN,
    MDG_PUBLISHED,
    PUBLISHED,
    RESULTS,
    ROOT,
    Store,
)
from dimension_tables import DIMENSION_SCRIPTS, DIMENSION_TABLES
from embedding_tables import EMBEDDING_TABLES
from failures import FAILURE_TABLES
from formats import by_case, number, percent, provenance, spread, table
from gpu import GPU_TABLES
from images import IMAGE_TABLES
from model_selection import SELECTION_TABLES
from pretrained import PRETRAINED_TABLES
from robustness_tables import ROBUSTNESS_TABLES
from speed_tables import SPEED_TABLES

PAGES = [ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "when_it_fails.md", ROOT / "README.md"]
POINTS = {"train": "training", "fresh": "fresh"}


def best(sweep: dict[str, float]) -> tuple[str, float]:
    """Best setting of a baseline in hindsight, and its error."""
    setting = min(sweep, key=sweep.get)
    return setting, sweep[setting]


def _settings_used(settings: list[str]) -> str:
    values = sorted(set(settings), key=float)
    return values[0] if len(values) == 1 else f"{values[0]} - {values[-1]}"


def tangent_table(records: list[dict]) -> str:
    """Errors of the default against each baseline at its best setting."""
    rows = []
    for group in by_case(records).values():
        for points, label in POINTS.items():
            ours = [r["result"][points]["lyapunov"] for r in group]
            baselines = []
            for name in ("local_pca", "jacobian"):
                found = [best(r["result"][points][name]) for r in group]
                baselines.append(([e for _, e in found], _settings_used([s for s, _ in found])))
            won = sum(
                all(error < errors[i] for errors, _ in baselines) for i, error in enumerate(ours)
            )
            cells = [f"{spread(errors)}, {used}" for errors, used in baselines]
            title = group[0]["title"] if points == "train" else ""
            rows.append([title, label, f"**{spread(ours)}**", *cells, f"{won} of {len(ours)}"])
    header = [
        "data",
        "points",
        "Lyapunov vectors, defaults",
        "local PCA, best k",
        "score Jacobian, best s",
        "seeds at which ours is best",
    ]
    return table(header, rows)


def _found(group: list[dict], name: str) -> str:
    """Errors at training points: ours, or a baseline at its best setting and which that was."""
    results = [r["result"]["train"][name] for r in group]
    if name == "lyapunov":
        return f"**{spread(results)}**"
    found = [best(sweep) for sweep in results]
    return f"{spread([e for _, e in found])}, {_settings_used([s for s, _ in found])}"


METHODS = {
    "lyapunov": "Lyapunov vectors, defaults",
    "local_pca": "local PCA, best k",
    "jacobian": "score Jacobian, best s",
}


def _bold_the_lowest(cells: list[str]) -> list[str]:
    """The cell whose first number is the lowest in bold, whosever it is."""
    plain = [cell.replace("**", "") for cell in cells]
    first = [float(cell.split()[0]) if cell else float("inf") for cell in plain]
    return [f"**{c}**" if x == min(first) else c for c, x in zip(plain, first, strict=True)]


def published_table(records: list[dict]) -> str:
    """The torus at every size and noise, beside the published figures of another method."""
    groups, rows = by_case(records), []
    for name in PUBLISHED:
        if name not in groups:
            continue
        data, published = groups[name][0]["settings"]["data"], MDG_PUBLISHED.get(name)
        ours, *others = (_found(groups[name], method) for method in METHODS)
        mdg = "" if published is None else number(published, 2)
        rows.append([data["n"], f"{data['noise']:g}", *_bold_the_lowest([ours, mdg, *others])])
    ours, *others = METHODS.values()
    return table(["n", "noise", ours, "MDG, published", *others], rows)


def largest_angle_table(records: list[dict]) -> str:
    """Spheres and the swiss roll: the largest principal angle."""
    rows = []
    for group in by_case(records).values():
        cells = _bold_the_lowest([_found(group, method) for method in METHODS])
        rows.append([group[0]["title"], group[0]["settings"]["data"]["n"], *cells])
    return table(["data", "n", *METHODS.values()], rows)


def summary_table(records: list[dict]) -> str:
    """The README's table: training points, medians over the seeds."""
    rows = []
    for group in by_case(records).values():
        found = [r["result"]["train"] for r in group]
        cells = [[x["lyapunov"] for x in found]]
        cells += [[best(x[name])[1] for x in found] for name in ("jacobian", "local_pca")]
        medians = [median(values) for values in cells]
        numbers = [
            f"**{number(x)}**" if x == min(medians) else number(x)  # the lowest error of the row
            for x in medians
        ]
        right = percent([x["right"] for x in found]).split(" (")[0]
        rows.append([group[0]["title"], group[0]["settings"]["data"]["n"], *numbers, right])
    header = [
        "data",
        "n",
        "alignlearn, defaults",
        "score Jacobian of the same model, best scale",
        "local PCA, best k",
        "points with the right dimension",
    ]
    return table(header, rows)


def dimension_table(records: list[dict]) -> str:
    """Intrinsic dimension of the sample and at points, and the noise level that was found."""
    rows = []
    for group in by_case(records).values():
        d, noise = group[0]["result"]["d"], group[0]["settings"]["data"]["noise"]
        found = [r["result"]["dimension"] for r in group]
        levels = [r["result"].get("noise_level", float("nan")) for r in group]
        levels = sorted(level for level in levels if np.isfinite(level))
        rows.append(
            [
                group[0]["title"],
                group[0]["settings"]["data"]["n"],
                d,
                f"{sum(x == d for x in found)} of {len(found)}"
                + ("" if all(x == d for x in found) else f" (found {sorted(set(found))})"),
                *(percent([r["result"][points]["right"] for r in group]) for points in POINTS),
                noise or "0",
                f"{number(levels[0])} - {number(levels[-1])}" if levels else "",
            ]
        )
    header = ["data", "n", "d", "`dimension_` right", "training points right"]
    header += ["fresh points right", "noise", "`noise_level_` found"]
    return table(header, rows)


def training_table(records: list[dict]) -> str:
    """How far the models were trained, and how long everything took."""
    rows = []
    for group in by_case(records).values():
        results = [r["result"] for r in group]
        frame = [1e3 * x["fresh"]["frame_s"] / x["n_query"] for x in results]
        rows.append(
            [
                group[0]["title"],
                group[0]["settings"]["data"]["n"],
                number(results[0].get("n_parameters", float("nan")) / 1e3),
                _settings_used([str(x["steps"]) for x in results]),
                _settings_used([str(x["best_step"]) for x in results]),
                spread([x["held_out_loss"] for x in results]),
                spread([x["fit_s"] for x in results]),
                spread([x["fit_cpu_s"] for x in results]),
                spread(frame),
                max((len(x["warnings"]) for x in results), default=0) or "",
            ]
        )
    header = [
        "data",
        "n",
        "weights / 1000",
        "steps taken",
        "step kept",
        "held-out loss",
        "fit, wall s",
        "fit, CPU s",
        "frame, ms a point",
        "warnings",
    ]
    return table(header, rows)


def _sweep_table(records: list[dict], name: str, symbol: str) -> str:
    settings = sorted({s for r in records for s in r["result"]["train"][name]}, key=float)
    rows = []
    for group in by_case(records).values():
        for points, label in POINTS.items():
            cells = []
            for setting in settings:
                values = [r["result"][points][name].get(setting) for r in group]
                values = [value for value in values if value is not None]
                cells.append(number(median(values)) if values else "")
            rows.append([group[0]["title"] if points == "train" else "", label, *cells])
    return table(["data", "points", *(f"{symbol} = {s}" for s in settings)], rows)


def local_pca_table(records: list[dict]) -> str:
    """Local PCA at every k."""
    return _sweep_table(records, "local_pca", "k")


def jacobian_table(records: list[dict]) -> str:
    """The score Jacobian at every scale."""
    return _sweep_table(records, "jacobian", "s")


def _variant_name(options: dict) -> str:
    if "s" in options:
        return f"{options['process']}, s = {options['s']:g}"
    if "s_min" not in options:
        return options["process"]
    return f"{options['process']}; {options['s_min']:g}, {options['ratio']}"


def _by_variant(records: list[dict]) -> tuple[dict, dict[str, dict[str, list[dict]]]]:
    cases = by_case(records)
    variants: dict[str, dict[str, list[dict]]] = {}
    for case, group in cases.items():
        for record in group:
            for options in record["result"]["variants"]:
                variants.setdefault(_variant_name(options), {}).setdefault(case, []).append(options)
    return cases, variants


def extraction_table(records: list[dict]) -> str:
    """Mean error of every frame on the same models; regret is the mean ratio to the best frame."""
    cases, variants = _by_variant(records)
    errors = {
        name: {c: float(np.mean([v["error"] for v in found[c]])) for c in cases if c in found}
        for name, found in variants.items()
    }
    lowest = {c: min(row[c] for row in errors.values() if c in row) for c in cases}
    rows = []
    for name, row in errors.items():
        regret = float(np.exp(np.mean([np.log(row[c] / lowest[c]) for c in row])))
        ms = [1e3 * np.mean([v["seconds"] / v["n"] for v in variants[name][c]]) for c in row]
        cells = [number(row[c]) if c in row else "" for c in cases]
        cells = [
            f"**{x}**" if c in row and row[c] == lowest[c] else x
            for c, x in zip(cases, cells, strict=True)
        ]
        rows.append((regret, [name, *cells, number(regret), number(float(np.max(ms)))]))
    titles = [group[0]["title"] for group in cases.values()]
    header = ["frame; s_min, s_max / s_min", *titles, "regret", "ms a point, slowest data"]
    return table(header, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


def extraction_dimension_table(records: list[dict]) -> str:
    """Share of points with the right dimension, for the frames that have exponents."""
    cases, variants = _by_variant(records)
    rows = []
    for name, found in variants.items():
        if any(v["right"] is None for group in found.values() for v in group):
            continue
        shares = {c: float(np.mean([v["right"] for v in found[c]])) for c in cases if c in found}
        cells = [f"{100 * shares[c]:.1f}" if c in shares else "" for c in cases]
        mean = float(np.mean(list(shares.values())))
        rows.append((-mean, [name, *cells, f"{100 * mean:.1f}"]))
    titles = [group[0]["title"] for group in cases.values()]
    header = ["frame; s_min, s_max / s_min", *titles, "mean"]
    return table(header, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


def frame_cost_table(records: list[dict]) -> str:
    """Cost per column, time and memory of frames."""
    results = sorted((r["result"] for r in records), key=lambda x: (x["D"], x["n"], x["columns"]))
    rows = [
        [
            x["n"],
            x["D"],
            x["columns"],
            x["width"],
            number(x["forward_ms"]),
            f"**{number(x['pull_per_column'])}**",
            number(x["push_per_column"]),
            number(x["frame_s"]),
            number(1e3 * x["frame_s"] / x["n"]),
            number(1e3 * x["frame_s"] / x["n"] / x["columns"]),
            number(x["frame_mb"]),
        ]
        for x in results
    ]
    header = [
        "n",
        "D",
        "columns carried",
        "widest layer",
        "forward pass, ms",
        "adjoint column / forward",
        "forward-mode column / forward",
        "whole frame, s",
        "ms a point",
        "ms a point and column",
        "extra memory, MB",
    ]
    return table(header, rows)


def networks_table(records: list[dict]) -> str:
    """The networks side by side."""
    rows = []
    for group in by_case(records).values():
        options = sorted({tuple(r["options"].values()) for r in group}, key=lambda o: (o[0], -o[1]))
        for network, rate in options:
            found = [r["result"] for r in group if tuple(r["options"].values()) == (network, rate)]
            d = group[0]["title"]
            rows.append(
                [
                    d,
                    network,
                    f"{rate:g}",
                    number(found[0].get("n_parameters", float("nan")) / 1e3),
                    spread([x["held_out_loss"] for x in found]),
                    spread([x["lyapunov"] for x in found]),
                    percent([x["right"] for x in found]),
                    spread([x["fit_s"] for x in found]),
                ]
            )
    header = [
        "data",
        "network",
        "learning rate",
        "weights / 1000",
        "held-out loss",
        "tangent error, degrees",
        "points with the right d",
        "fit, s",
    ]
    return table(header, rows)


TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "summary": ("tangents", summary_table),
    "tangents": ("tangents", tangent_table),
    "dimension": ("tangents", dimension_table),
    "training": ("tangents", training_table),
    "local-pca": ("tangents", local_pca_table),
    "jacobian": ("tangents", jacobian_table),
    "extraction": ("extraction", extraction_table),
    "extraction-dimension": ("extraction", extraction_dimension_table),
    "frame-cost": ("frame_cost", frame_cost_table),
    "networks": ("networks", networks_table),
    "published": ("tangents", published_table),
    "largest-angle": ("tangents", largest_angle_table),
    **SPEED_TABLES,
    **FAILURE_TABLES,
    **SELECTION_TABLES,
    **EMBEDDING_TABLES,
    **ROBUSTNESS_TABLES,
    **PRETRAINED_TABLES,
    **GPU_TABLES,
    **IMAGE_TABLES,
    **{name: (DIMENSION_SCRIPTS, build) for name, (build, _) in DIMENSION_TABLES.items()},
}

# tangents.py measures three groups of cases; a table that is not named here shows the main one.
CASES_OF = {
    "published": PUBLISHED,
    "largest-angle": LARGEST_ANGLE,
    "dimension": [*MAIN, *(name for name in PUBLISHED if name not in MAIN)],
}


def records_of(name: str, results: Path = RESULTS) -> list[dict]:
    """The newest records of a table's script, of the cases that belong in the table."""
    scripts = TABLES[name][0]
    if isinstance(scripts, tuple):  # a table of ours beside peers
        records = [r for script in scripts for r in Store(script, results).latest()]
        pattern = DIMENSION_TABLES[name][1] if name in DIMENSION_TABLES else "*"
        return [r for r in records if fnmatch(r["case"], pattern)]
    records = Store(scripts, results).latest()
    if name in CASES_OF:
        return [r for r in records if r["case"] in CASES_OF[name]]
    return [r for r in records if r["case"] in MAIN or r["case"] not in CASES]


def make_table(name: str, results: Path = RESULTS) -> str:
    """Markdown of one table with its provenance."""
    build, records = TABLES[name][1], records_of(name, results)
    if not records:
        return "*Not run yet.*"
    # Ours and peers apart: a peer's row does not age with the library.
    scripts = dict.fromkeys(r["script"] for r in records)
    lines = [provenance([r for r in records if r["script"] == script]) for script in scripts]
    if len(lines) > 1:
        lines = [f"`{script}.py`: {line}" for script, line in zip(scripts, lines, strict=True)]
    return "\n\n".join([build(records), *lines])


def fill(text: str, results: Path = RESULTS) -> str:
    """Put every table between its markers in a page."""

    def insert(match: re.Match) -> str:
        name = match["name"]
        if name not in TABLES:
            raise ValueError(f"no table {name!r}, expected one of {', '.join(TABLES)}.")
        return f"<!-- table:{name} -->\n\n{make_table(name, results)}\n\n<!-- /table -->"

    pattern = r"<!-- table:(?P<name>[\w-]+) -->.*?<!-- /table -->"
    return re.sub(pattern, insert, text, flags=re.DOTALL)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, nargs="+", default=PAGES)
    args = parser.parse_args(argv)
    for page in args.page:
        page.write_text(fill(page.read_text(), args.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
