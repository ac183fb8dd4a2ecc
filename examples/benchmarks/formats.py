"""How results are written: markdown tables, numbers, and the line that says where they are from."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
from common import CASES


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(x: float, digits: int = 3) -> str:
    """Significant digits, no exponent: 0.973, 4.58, 12.1, 104."""
    if not np.isfinite(x):
        return "-"
    decimals = 0 if x == 0 else max(0, digits - 1 - int(np.floor(np.log10(abs(x)))))
    return f"{x:.{min(decimals, 3)}f}"


def spread(values: list[float], worst: Callable = max) -> str:
    """Median over seeds, the worst seed in brackets."""
    return f"{number(median(values))} ({number(worst(values))})"


def percent(values: list[float]) -> str:
    """Median share over seeds, the worst seed in brackets."""
    return f"{100 * median(values):.1f} % ({100 * min(values):.1f} %)"


def provenance(records: list[dict]) -> str:
    """One line under a table: seeds, threads, machine, versions, and what to beware of."""
    seeds = sorted({record["seed"] for record in records})
    machines = sorted(
        {
            "{cpu}, {cores} cores, Python {python}, torch {torch}, scikit-learn {sklearn}".format(
                **record["machine"]
            )
            + (f", {record['machine']['gpu']}" if "gpu" in record["machine"] else "")
            for record in records
        }
    )
    codes = sorted({record["code"] for record in records})
    dates = sorted(record["date"][:10] for record in records)
    threads = sorted({record["result"].get("threads", record["threads"]) for record in records})
    loads = [record["load"] for record in records]
    parts = [
        f"{len(records)} runs, seeds {', '.join(map(str, seeds))}",
        f"{'/'.join(map(str, threads))} thread(s) each",
        "; ".join(machines),
        f"load average {min(loads):.1f} - {max(loads):.1f}",
        f"{dates[0]} to {dates[-1]}" if dates[0] != dates[-1] else dates[0],
        f"library code {', '.join(codes)}",
    ]
    if len(codes) > 1:
        parts.append("**the rows come from different versions of the code**")
    return "<small>" + "; ".join(parts) + ".</small>"


def by_case(records: list[dict]) -> dict[str, list[dict]]:
    """Records of each case, cases in the order of `CASES`, seeds ascending."""
    names = [*CASES, *sorted({r["case"] for r in records} - set(CASES))]
    groups = {name: [r for r in records if r["case"] == name] for name in names}
    return {name: sorted(group, key=lambda r: r["seed"]) for name, group in groups.items() if group}
