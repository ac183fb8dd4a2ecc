"""Tables of the benchmarks that measure time, and of accuracy for more time."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
from formats import by_case, number, percent, spread, table


def frame_speed_table(records: list[dict]) -> str:
    """Codes for the same frames: seconds, ratio to ours, disagreement."""
    rows = []
    for group in by_case(records).values():
        x = group[0]["result"]
        found = [r["result"] for r in group]
        loop = f"`jacrev` in a loop over points (from {x['obvious_measured_n']} points, scaled)"
        codes = {loop: "obvious", "`vmap(jacrev)` over chunks of points": "batched"}
        ours = median(y["ours_s"] for y in found)
        size = f"{x['n']} points of {group[0]['title']}; {x['n_paths']} paths, {x['n_steps']} steps"
        passes = median(y["passes_s"] for y in found)
        rows.append([size, "`LyapunovManifold`", number(ours), "1", "", ""])
        label = "a forward pass for every column, for comparison"
        rows.append(["", label, number(passes), f"**{number(passes / ours)}**", "", ""])
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


def out_of_core_table(records: list[dict]) -> str:
    """Memory and time of fits to rows in memory, on disk and in blocks."""
    names = {
        "memory": "array in memory",
        "disk": "`np.memmap`",
        "blocks": "blocks, written to a temporary file",
    }
    results = sorted(
        (r["result"] for r in records), key=lambda x: ([*names].index(x["how"]), x["n"])
    )
    rows = [
        [
            names[x["how"]],
            x["n"],
            number(x["data_mb"] / 1024),
            f"**{number(x['own_mb'] / 1024)}**",
            number(x["before_mb"] / 1024),
            number(x["resident_mb"] / 1024),
            number(x["fit_cpu_s"]),
            f"{x['held_out_loss']:.6f}",
        ]
        for x in results
    ]
    header = [
        "X",
        "rows",
        "data, GB",
        "peak memory of the process' own, GB",
        "of that before X, GB",
        "peak with pages of the file, GB",
        "fit, CPU s",
        "held-out loss",
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


def size_table(records: list[dict]) -> str:
    """CPU time and memory of every cell, and where the time goes."""
    rows = []
    for x in sorted((r["result"] for r in records), key=_cell):
        operations = {kind: x["shares"].get(kind, 0.0) for kind in _OPERATIONS}
        whole = sum(operations.values())
        rows.append(
            [
                x["n"],
                x["D"],
                x["k"],
                x["columns"],
                "narrow" if x["narrow"] else "default",
                "a file" if x["out"] else "an array",
                number(x["cpu_s"]),
                f"**{number(1e3 * x['cpu_s'] / x['n'])}**",
                number(1e3 * x["cpu_s"] / x["n"] / x["columns"]),
                number(x["frame_mb"]),
                *(f"{100 * share / whole:.0f}" for share in operations.values()),
                f"{100 * x['shares']['trajectories']:.0f}",
            ]
        )
    header = [
        "n",
        "D",
        "k",
        "columns carried",
        "network",
        "result to",
        "CPU, s",
        "ms a point",
        "ms a point and column",
        "extra memory, MB",
        *(f"{label}, %" for label in _OPERATIONS.values()),
        "trajectories, % of all",
    ]
    return table(header, rows)


_OPERATIONS = {
    "products": "matrix products",
    "elementwise": "elementwise, copies",
    "qr": "QR",
    "svd": "SVD",
}


def _cell(x: dict) -> tuple:
    return (not x["narrow"], x["D"], x["k"], x["n"], x["out"])


def growth_table(records: list[dict]) -> str:
    """Slopes of time and memory over each variable in log scale, the others kept."""
    results = [r["result"] for r in records]
    kept_out = [x for x in results if x["narrow"] and x["out"]]
    in_memory = [x for x in results if not x["out"]]
    wide = [x for x in in_memory if not x["narrow"]]
    sweeps = {
        "n, to an array": ("n", [x for x in in_memory if x["narrow"]]),
        "n, to a file": ("n", kept_out),
        "D up to 128: all D columns carried": ("D", [x for x in wide if x["D"] <= 128]),
        "D beyond, k = 10: 20 columns": ("D", [x for x in wide if x["D"] > 128 and x["k"] == 10]),
        "columns carried, D = 1000": ("columns", [x for x in wide if x["D"] == 1000]),
    }
    rows = []
    for name, (variable, found) in sweeps.items():
        if len({x[variable] for x in found}) < 2:
            continue
        per = "all" if variable == "n" else "a point"
        points = [1 if variable == "n" else x["n"] for x in found]
        low, high = min(x[variable] for x in found), max(x[variable] for x in found)
        time = _slope([(x[variable], x["cpu_s"] / p) for x, p in zip(found, points, strict=True)])
        memory = _slope([(x[variable], x["frame_mb"]) for x in found])
        rows.append([name, f"{low} to {high}", f"{number(time)} ({per})", number(memory)])
    return table(["variable", "range", "exponent of CPU time", "exponent of extra memory"], rows)


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares in log scale; NaN where something was not measured."""
    x, y = np.log(np.maximum(np.array(points, dtype=float), 1e-4)).T
    return float(np.polyfit(x, y, 1)[0]) if np.isfinite(y).all() else float("nan")


def workers_table(records: list[dict]) -> str:
    """Time, speed-up and CPU time of one worker and two, and whether the bits are the same."""
    results = sorted((r["result"] for r in records), key=lambda x: (x["backend"], x["workers"]))
    bits = {x["sha256"] for x in results}
    rows = []
    for x in results:
        first = next(y for y in results if y["backend"] == x["backend"])
        alone, busiest = _on_free_cores(first), _on_free_cores(x)
        rows.append(
            [
                x["backend"],
                x["workers"],
                number(x["frames_s"]),
                number(first["frames_s"] / x["frames_s"]),
                " + ".join(number(seconds) for seconds in x["worker_cpu_s"]),
                number(x["rest_cpu_s"]),
                f"**{number(alone / busiest)}**",
                "yes" if len(bits) == 1 else "NO",
            ]
        )
    header = [
        "backend",
        "workers",
        "wall, s",
        "speed-up, wall",
        "CPU of the workers, s",
        "CPU of the calling process beside, s",
        "speed-up that the CPU times allow",
        "the same bits",
    ]
    return table(header, rows)


def _on_free_cores(x: dict) -> float:
    """Seconds if nobody waits for a core: the busiest worker, or the process that feeds them."""
    return max(max(x["worker_cpu_s"]), x["rest_cpu_s"])


SPEED_TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "frame-speed": ("frame_speed", frame_speed_table),
    "column-cost": ("column_cost", column_cost_table),
    "training-speed": ("training_speed", training_speed_table),
    "out-of-core": ("out_of_core", out_of_core_table),
    "peer-speed": ("peer_speed", peer_speed_table),
    "budget": ("budget", budget_table),
    "size": ("size", size_table),
    "growth": ("size", growth_table),
    "workers": ("workers", workers_table),
}
