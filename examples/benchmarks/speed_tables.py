"""Tables of the benchmarks that measure time, and of accuracy for more time."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from formats import by_case, number, percent, spread, table


def frame_speed_table(records: list[dict]) -> str:
    """Three codes for the same frames: seconds, ratio to ours, disagreement."""
    rows = []
    for group in by_case(records).values():
        x = group[0]["result"]
        found = [r["result"] for r in group]
        loop = f"`jacrev` in a loop over points (from {x['obvious_measured_n']} points, scaled)"
        codes = {loop: "obvious", "`vmap(jacrev)` over chunks of points": "batched"}
        ours = median(y["ours_s"] for y in found)
        size = f"{x['n']} points of {group[0]['title']}; {x['n_paths']} paths, {x['n_steps']} steps"
        rows.append([size, "`LyapunovManifold`", number(ours), "1", "", ""])
        for label, code in codes.items():
            seconds = median(y[f"{code}_s"] for y in found)
            angle = max(y[code]["angle_max"] for y in found)
            exponents = max(y[code]["exponents_max"] for y in found)
            ratio = f"**{number(seconds / ours)}**"
            rows.append(["", label, number(seconds), ratio, f"{angle:.0e}", f"{exponents:.0e}"])
    header = [
        "frames",
        "code",
        "s",
        "times ours",
        "largest angle to ours, degrees",
        "largest difference of an exponent",
    ]
    return table(header, rows)


def column_cost_table(records: list[dict]) -> str:
    """Forward passes per column of every rule, those that frames take in bold."""
    results = sorted((r["result"] for r in records), key=lambda x: (x["size"], x["n"]))
    rows = []
    for x in results:
        image = f"{x['n']} of {x['size']} x {x['size']} x {x['D'] // x['size'] ** 2}"
        cells = [
            f"**{number(cost)}**" if name in x["chosen"] else number(cost)
            for name, cost in x["per_column"].items()
        ]
        weights, graph = number(x["n_parameters"] / 1e3), number(x["graph_mb"])
        rows.append([image, x["columns"], weights, number(x["forward_ms"]), graph, *cells])
    header = ["images", "columns", "weights / 1000", "forward pass, ms", "graph of a row, MB"]
    return table([*header, *results[0]["per_column"]], rows)


def training_speed_table(records: list[dict]) -> str:
    """Rates of training and of its matrix products alone."""
    results = sorted((r["result"] for r in records), key=lambda x: (x["D"], x["n"], x["threads"]))
    rows = [
        [
            x["n"],
            x["D"],
            x["threads"],
            number(x["n_parameters"] / 1e3),
            number(x["mflop"]),
            number(x["step_ms"]),
            number(x["products_ms"]),
            number(x["gflops"]),
            number(x["gflops_products"]),
            f"**{100 * x['share']:.0f} %**",
        ]
        for x in results
    ]
    header = [
        "n",
        "D",
        "threads",
        "weights / 1000",
        "MFLOP a step",
        "step, ms",
        "its products alone, ms",
        "training, GFLOP/s",
        "products, GFLOP/s",
        "share",
    ]
    return table(header, rows)


def peer_speed_table(records: list[dict]) -> str:
    """Seconds of every estimator and, in brackets, the dimension it found."""
    methods = list(dict.fromkeys(r["result"]["method"] for r in records))
    shapes = sorted({tuple(r["result"][key] for key in ("D", "d", "n")) for r in records})
    rows = []
    for shape in shapes:
        cells = []
        for method in methods:
            found = [r["result"] for r in records if r["result"]["method"] == method]
            found = [x for x in found if (x["D"], x["d"], x["n"]) == shape]
            if any(x["too_slow"] for x in found):
                cells.append(f"too slow, over {found[0]['limit_s']:.0f}")
            elif found:
                dimension = number(median(x["dimension"] for x in found))
                cells.append(f"{number(median(x['seconds'] for x in found))} ({dimension})")
            else:
                cells.append("")
        rows.append([shape[2], shape[0], shape[1], *cells])
    return table(["n", "D", "d", *(f"{method}, s (found)" for method in methods)], rows)


def budget_table(records: list[dict]) -> str:
    """Error, share of right dimensions, and time at every `max_iter`."""
    rows = []
    for group in by_case(records).values():
        title = group[0]["title"]
        for budget in sorted({r["options"]["max_iter"] for r in group}):
            found = [r["result"] for r in group if r["options"]["max_iter"] == budget]
            rows.append(
                [
                    title,
                    budget,
                    f"{median(x['steps'] for x in found):.0f}",
                    f"{median(x['best_step'] for x in found):.0f}",
                    spread([x["held_out_loss"] for x in found]),
                    f"**{spread([x['lyapunov'] for x in found])}**",
                    percent([x["right"] for x in found]),
                    spread([x["fit_s"] for x in found]),
                ]
            )
            title = ""
    header = [
        "data",
        "`max_iter`",
        "steps taken",
        "step kept",
        "held-out loss",
        "tangent error, degrees",
        "points with the right d",
        "fit, s",
    ]
    return table(header, rows)


SPEED_TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "frame-speed": ("frame_speed", frame_speed_table),
    "column-cost": ("column_cost", column_cost_table),
    "training-speed": ("training_speed", training_speed_table),
    "peer-speed": ("peer_speed", peer_speed_table),
    "budget": ("budget", budget_table),
}
