"""Tables of the embedding benchmark: ours with the defaults, each peer at its best neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

import embedding_cases
import projection
from embedders import PEERS
from formats import number, table

OURS = "alignlearn, defaults"
EMBEDDING_SCRIPTS = ("embedding", "embedding_peers")


def _ordered(records: list[dict], cases) -> dict[str, list[dict]]:
    """Records of each case in the order of the script, others last, seeds ascending."""
    names = [*cases, *sorted({r["case"] for r in records} - set(cases))]
    groups = {name: [r for r in records if r["case"] == name] for name in names}
    return {name: sorted(group, key=lambda r: r["seed"]) for name, group in groups.items() if group}


def _share(x: float) -> str:
    """A share with four decimals: that of 0.998 and 0.9995 is not the same error."""
    return f"{x:.4f}"


def _counts(used: list[str]) -> str:
    used = sorted(set(used), key=int)
    return used[0] if len(used) == 1 else f"{used[0]} - {used[-1]}"


def best(sweep: dict[str, float | None], pick=max) -> tuple[float, str] | None:
    """Best value over the numbers of neighbours and where it was; None if no setting has one."""
    found = {k: x for k, x in sweep.items() if x is not None}
    k = pick(found, key=found.get, default=None)
    return None if k is None else (found[k], k)


def _score_rows(records: list[dict], measure: str, label: list[str]) -> list[list[str]]:
    """A row for each case: median over the seeds, the worst, and the best numbers of neighbours.

    What is equal in four decimals is a tie, and a tie is not lost.
    """
    rows = []
    for group in _ordered(records, embedding_cases.CASES).values():
        ours = {
            r["seed"]: r["result"]["scores"].get(measure)
            for r in group
            if r["script"] == "embedding"
        }
        peers: dict[str, dict[int, tuple[float, str]]] = {}
        for r in group:
            if r["script"] == "embedding_peers":
                sweep = r["result"]["by_neighbors"].items()
                found = best({k: scores.get(measure) for k, scores in sweep})
                if found is not None:
                    peers.setdefault(r["options"]["peer"], {})[r["seed"]] = found
        ours = {seed: x for seed, x in ours.items() if x is not None}
        if not ours and not peers:
            continue
        values = {OURS: list(ours.values())}
        values |= {peer: [x for x, _ in found.values()] for peer, found in peers.items()}
        highest = max(_share(median(x)) for x in values.values() if x)
        cells = []
        for name in (OURS, *PEERS):
            if not values.get(name):
                cells.append("")
                continue
            middle = _share(median(values[name]))
            text = f"**{middle}**" if middle == highest else middle
            text += f" ({_share(min(values[name]))})" if len(values[name]) > 1 else ""
            if name != OURS:
                text += f", {_counts([k for _, k in peers[name].values()])}"
            cells.append(text)
        won = [
            all(_share(x) >= _share(found[seed][0]) for found in peers.values() if seed in found)
            for seed, x in ours.items()
        ]
        rows.append([group[0]["title"], *label, *cells, f"{sum(won)} of {len(won)}" if won else ""])
    return rows


def _header(*names: str) -> list[str]:
    return ["data", *names, OURS, *(f"{p}, best k" for p in PEERS), "seeds at which ours is best"]


def coordinates_table(records: list[dict]) -> str:
    """R^2 of the linear fit from the embedding to the true coordinates, training points."""
    return table(_header(), _score_rows(records, "r2", []))


def fresh_coordinates_table(records: list[dict]) -> str:
    """The same at points that no fit has seen, by the linear map of the training points."""
    return table(_header(), _score_rows(records, "r2_fresh", []))


def _neighborhood_table(records: list[dict], measure: str) -> str:
    rows = []
    for space, label in {"input": "the data", "truth": "true coordinates"}.items():
        rows += _score_rows(records, f"{measure}_{space}", [label])
    order = {title: i for i, title in enumerate(dict.fromkeys(row[0] for row in rows))}
    return table(_header("neighbours of"), sorted(rows, key=lambda row: order[row[0]]))


def trustworthiness_table(records: list[dict]) -> str:
    """Are neighbours in the embedding neighbours in the data, and in truth?"""
    return _neighborhood_table(records, "trustworthiness")


def continuity_table(records: list[dict]) -> str:
    """Are neighbours in the data, and in truth, neighbours in the embedding?"""
    return _neighborhood_table(records, "continuity")


def _seconds(scores: dict) -> float | None:
    if "fit_s" not in scores:
        return None
    return scores["fit_s"]["cpu"] + scores.get("transform_s", {"cpu": 0.0})["cpu"]


def time_table(records: list[dict]) -> str:
    """CPU seconds of fit and transform, of a peer at one number of neighbours."""
    rows = []
    for group in _ordered(records, embedding_cases.CASES).values():
        seconds: dict[str, list[float]] = {}
        for r in group:
            if r["script"] == "embedding":
                seconds.setdefault(OURS, []).append(_seconds(r["result"]["scores"]))
                continue
            found = [_seconds(scores) for scores in r["result"]["by_neighbors"].values()]
            seconds.setdefault(r["options"]["peer"], []).extend(x for x in found if x is not None)
        cells = [number(median(seconds[x])) if seconds.get(x) else "" for x in (OURS, *PEERS)]
        rows.append([group[0]["title"], group[0]["result"]["n"], *cells])
    return table(["data", "n", OURS, *PEERS], rows)


def round_trip_table(records: list[dict]) -> str:
    """What `inverse_transform(transform(X))` loses, beside the thickness of the data."""
    rows = []
    for group in _ordered(records, embedding_cases.CASES).values():
        results = [r["result"] for r in group]
        D, d = results[0]["D"], results[0]["d"]
        case, noise = group[0]["case"], group[0]["settings"]["data"]["noise"]
        known = case in embedding_cases.CASES
        no_truth = known and embedding_cases.CASES[case].coordinates is None
        true = "?" if no_truth else number(noise * math.sqrt(D - d)) if noise else "0"
        found = median(x["noise_level"] * math.sqrt(D - x["dimension"]) for x in results)
        cells = [
            "" if no_truth and target == "clean" else _trip(results, points, target)
            for points in ("train", "fresh")
            for target in ("points", "clean")
        ]
        rows.append([group[0]["title"], true, number(found), *cells])
    header = ["data", "true thickness", "thickness found: `noise_level_` sqrt(D - `dimension_`)"]
    header += ["to the point", "to the clean point", "fresh: to the point", "to the clean point"]
    return table(header, rows)


def _trip(results: list[dict], points: str, target: str) -> str:
    found = [x["round_trip"][points][target] for x in results if points in x["round_trip"]]
    if not found:
        return ""
    worst = f" ({number(max(found))})" if len(found) > 1 else ""
    return number(median(found)) + worst


def projection_table(records: list[dict]) -> str:
    """RMS distance to the manifold and to the own clean point, before and after."""
    rows = []
    for group in _ordered(records, projection.CASES).values():
        for points, label in {"train": "training", "fresh": "fresh"}.items():
            for target, to in {"manifold": "manifold", "clean": "own clean point"}.items():
                found = [r["result"][points] for r in group]
                pca = [best({k: e[target] for k, e in x["local_pca"].items()}, min) for x in found]
                values = {
                    "nothing": [x["nothing"][target] for x in found],
                    "ours": [x["ours"][target] for x in found],
                    "pca": [x for x, _ in pca],
                }
                lowest = min(median(x) for x in values.values())
                cells = []
                for name, some in values.items():
                    text = number(median(some))
                    text = f"**{text}**" if median(some) == lowest else text
                    text += f" ({number(max(some))})" if len(some) > 1 else ""
                    text += f", {_counts([k for _, k in pca])}" if name == "pca" else ""
                    cells.append(text)
                won = sum(
                    a < min(b, c)
                    for a, b, c in zip(
                        values["ours"], values["pca"], values["nothing"], strict=True
                    )
                )
                first = (points, target) == ("train", "manifold")
                title = group[0]["title"] if first else ""
                rows.append([title, label, to, *cells, f"{won} of {len(found)}"])
    header = ["data", "points", "distance to", "nothing done", f"`project`, {OURS}"]
    header += ["local PCA, best k", "seeds at which ours is best"]
    return table(header, rows)


def downstream_table(records: list[dict]) -> str:
    """Accuracy of five nearest neighbours on the embedded digits."""
    dimensions = sorted({r["options"]["d"] for r in records} - {64})
    methods = list(dict.fromkeys(r["options"]["method"] for r in records))
    methods.sort(key=lambda name: (name != "alignlearn", name != "pixels"))
    cells: dict[tuple, tuple[float, str]] = {}
    for method in methods:
        for d in {r["options"]["d"] for r in records if r["options"]["method"] == method}:
            group = [r for r in records if r["options"] == {"method": method, "d": d}]
            found = [best(r["result"]["accuracy"]) for r in group]
            found = [pair for pair in found if pair is not None]
            if found:
                accuracies, used = zip(*found, strict=True)
                text = f"{100 * median(accuracies):.1f} %"
                if len(found) > 1:
                    text += f" ({100 * min(accuracies):.1f} %)"
                counts = [k for k in used if k != "None"]
                text += f", {_counts(counts)}" if counts else ""
                cells[method, d] = median(accuracies), text
    rows = []
    for d in dimensions:
        highest = max((x for (_, other), (x, _) in cells.items() if other == d), default=None)
        row = [str(d)]
        for method in methods:
            accuracy, text = cells.get((method, 64 if method == "pixels" else d), (None, ""))
            row.append(f"**{text}**" if accuracy is not None and accuracy == highest else text)
        rows.append(row)
    names = {"alignlearn": OURS, "pixels": "all 64 pixels", "PCA": "PCA"}
    return table(["d", *(names.get(m, f"{m}, best k") for m in methods)], rows)


EMBEDDING_TABLES: dict[str, tuple[str | tuple[str, ...], Callable[[list[dict]], str]]] = {
    "embedding-coordinates": (EMBEDDING_SCRIPTS, coordinates_table),
    "embedding-fresh": (EMBEDDING_SCRIPTS, fresh_coordinates_table),
    "embedding-trustworthiness": (EMBEDDING_SCRIPTS, trustworthiness_table),
    "embedding-continuity": (EMBEDDING_SCRIPTS, continuity_table),
    "embedding-time": (EMBEDDING_SCRIPTS, time_table),
    "round-trip": ("embedding", round_trip_table),
    "projection": ("projection", projection_table),
    "downstream": ("downstream", downstream_table),
}
