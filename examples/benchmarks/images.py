"""Images whose dimension is known, and some whose is not: the U-Net, the network of whole rows.

For scenes of blobs and squares the dimension and the angle to the true tangent spaces at points not
seen in training, beside local PCA at the best k and scikit-dimension's estimators; for digits and
patches of photographs the held-out loss and what is found. Run

    python examples/benchmarks/images.py --workers 2 [--methods U-Net MLP peers longer large]

`longer` is the U-Net with four times the steps, `large` with more images and steps, as a GPU can
bear; both only run when named.

The peers need ``pip install 'alignlearn[benchmark]'``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import dimension_peers
import numpy as np
from common import (
    Case,
    Job,
    Store,
    fit_timed,
    frame_at,
    jacobian_tangents,
    local_pca_tangents,
    own_options,
    parse_args,
    run_jobs,
    share_right,
)
from dimension_cases import DimensionSample, make_blobs, make_squares
from dimension_peers import PeerJob
from formats import number, percent, spread
from formats import table as markdown
from sklearn.datasets import load_digits

from alignlearn import LyapunovManifold
from alignlearn.datasets import (
    load_image_patches,
    make_blob_scenes,
    make_square_scenes,
)
from alignlearn.metrics import tangent_error
from alignlearn.models import Diffusion
from alignlearn.scoring import alignment_score

PEERS = ("MLE", "TwoNN", "ESS", "lPCA", "DANCo")
N_FRESH, N_JACOBIAN = 32, 8  # new points at which frames are taken; of them for the Jacobian
SCALES = (0.05, 0.1, 0.2, 0.5)  # of the Jacobian
# What a frame costs grows with its columns; both networks are read off alike.
READING = {"n_components": 32, "n_paths": 2, "n_reference": 16}
LONGER = 4  # times as many steps
LARGE = {"n": 10_000, "batch_size": 128, "max_iter": 8000}
PUBLISHED = {  # by ID-DIFF
    "images/fixed-blobs10": "12",
    "images/fixed-blobs20": "21",
    "images/fixed-squares10": "11",
    "images/fixed-squares20": "22",
}


class Images(NamedTuple):
    """Rows of images whose dimension nobody knows."""

    points: np.ndarray


def digits(n_samples, *, noise=0.0, random_state=None) -> Images:
    """scikit-learn's digits, some of them; noise in grey levels."""
    rng = np.random.default_rng(random_state)
    X = rng.permutation(load_digits().data)[:n_samples]
    return Images(X + noise * rng.standard_normal(X.shape))


def patches(n_samples, *, noise=0.0, random_state=None) -> Images:
    """Patches of 16 x 16 pixels; noise in units of the full brightness."""
    X = load_image_patches(n_samples, patch_size=16, random_state=random_state)
    return Images(X + noise * np.random.default_rng(random_state).standard_normal(X.shape))


class ImageCase(NamedTuple):
    """A data set and what the U-Net is told of it."""

    case: Case
    shape: tuple[int, int]
    max_iter: int


def _scenes() -> dict[str, ImageCase]:
    found = {}
    for kind, make in (("blobs", make_blob_scenes), ("squares", make_square_scenes)):
        for k, size in ((4, 16), (10, 16), (20, 16), (10, 32), (20, 32)):
            steps = 1500 if size == 16 else 1000
            name = f"images/{kind}{k}" + ("" if size == 16 else f"-{size}")
            title = f"{k // 2} moving {kind}, {size} x {size}"
            scene = partial(make, n_objects=k // 2, image_size=size)
            found[name] = ImageCase(Case(name, title, scene, 4000), (size, size), steps)
    return found


def _fixed() -> dict[str, ImageCase]:
    """ID-DIFF's images: objects that stay where they are, no tangent spaces."""
    found = {}
    for kind, make in (("blobs", make_blobs), ("squares", make_squares)):
        for k in (10, 20):
            name, title = f"images/fixed-{kind}{k}", f"{k} {kind} in their places, 32 x 32"
            case = Case(name, title, partial(make, n_objects=k), 4000)
            found[name] = ImageCase(case, (32, 32), 1000)
    return found


CASES = {
    **_scenes(),
    **_fixed(),
    "images/digits": ImageCase(Case("images/digits", "digits, 8 x 8", digits, 1797), (8, 8), 1500),
    "images/patches": ImageCase(
        Case("images/patches", "photographs, 16 x 16", patches, 4000), (16, 16), 1000
    ),
}


# ------------------------------------------------------------------------------------ measurements


def manifold_of(method: str, images: ImageCase, max_iter: int | None = None) -> LyapunovManifold:
    """The network of whole rows with its defaults, or the U-Net for about as many seconds."""
    model = Diffusion()
    if method in ("U-Net", "longer"):
        steps = images.max_iter * (LONGER if method == "longer" else 1)
        model.set_params(image_shape=images.shape, batch_size=32, max_iter=steps)
    if method == "large":
        options = {name: value for name, value in LARGE.items() if name != "n"}
        model.set_params(image_shape=images.shape, **options)
    if max_iter is not None:
        model.set_params(max_iter=max_iter)
    return LyapunovManifold(model=model, **READING)


def measure(job: Job) -> dict:
    """Dimension and, where the truth is known, angles at new points; a peer has only the first."""
    if job.options["method"] in PEERS:
        return measure_peer(job)
    sample = job.case.sample(job.seed)
    X = sample.points
    m, result = fit_timed(job.manifold, X, job.seed)
    result |= {"D": X.shape[1], "exponents": m.exponents_.round(4).tolist()}
    if isinstance(sample, Images):
        rows = X[:: -(-len(X) // (4 * N_FRESH))]
        return result | {"d": None, "alignment": alignment_score(m, rows)}
    d = sample.dimension
    if isinstance(sample, DimensionSample):  # no tangent spaces, and no other images of this set
        return result | {"d": d, "right": float(np.mean(m.dimension(X[:N_FRESH]) == d))}
    fresh = job.case.fresh(job.seed, N_FRESH)
    start = time.process_time()
    frame = frame_at(m, fresh.points)
    result |= {"d": d, "frame_ms": 1e3 * (time.process_time() - start) / N_FRESH}
    result |= {
        "angle": float(tangent_error(frame.vectors[..., :d], fresh.tangents).mean()),
        "right": share_right(frame, d),
    }
    few = slice(N_JACOBIAN)
    result["jacobian"] = {
        s: tangent_error(
            jacobian_tangents(m.model_, fresh.points[few], d, s), fresh.tangents[few]
        ).mean()
        for s in SCALES
    }
    # Of large images minutes: at as few points as the Jacobian.
    seen = few if job.options["method"] == "large" else slice(None)
    planes = local_pca_tangents(X, fresh.points[seen], d)
    truth = fresh.tangents[seen]
    result["local_pca"] = {k: tangent_error(E, truth).mean() for k, E in planes.items()}
    return result


def measure_peer(job: Job) -> dict:
    """An estimator of scikit-dimension with its defaults."""
    sample = job.case.sample(job.seed)
    result = {"dimension": None, "failure": None, "d": getattr(sample, "dimension", None)}
    start = time.process_time()
    try:
        with dimension_peers.time_limit(dimension_peers.LIMIT_S):
            name = job.options["method"]
            result["dimension"] = dimension_peers.estimate(name, sample.points, job.seed)
    except Exception as error:  # a peer that cannot take these data is a result
        result["failure"] = f"{type(error).__name__}: {error}"
    return result | {"cpu_s": time.process_time() - start}


class ImagePeerJob(PeerJob):
    """A peer, named by the option `method`."""

    @property
    def settings(self) -> dict:
        """As of a `PeerJob`."""
        named = PeerJob(self.case, self.seed, self.manifold, {"peer": self.options["method"]})
        return named.settings


def make_jobs(names, seeds, methods, max_iter: int | None = None) -> list[Job]:
    """Jobs of the cases, the U-Net first."""
    jobs: list[Job] = []
    for seed in seeds:
        for name in names:
            images = CASES[name]
            for method in methods:
                manifold = manifold_of(method, images, max_iter)
                kind = ImagePeerJob if method in PEERS else Job
                case = images.case
                if method == "large":
                    case = replace(case, n=LARGE["n"])
                jobs.append(kind(case, seed, manifold, {"method": method}))
    return jobs


def main(argv=None) -> int:
    own = own_options()
    own.add_argument("--methods", nargs="+", choices=["U-Net", "MLP", "peers", "longer", "large"])
    args = parse_args(__doc__.splitlines()[0], CASES, 1, argv, own)
    chosen = args.methods or ["U-Net", "MLP", *(["peers"] if find_spec("skdim") else [])]
    methods = [m for method in chosen for m in (PEERS if method == "peers" else [method])]
    jobs = make_jobs(args.cases, range(args.seeds), methods, args.max_iter)
    return run_jobs(measure, jobs, Store("images", args.results), workers=args.workers)


# ------------------------------------------------------------------------------------------ tables

METHODS = {
    "U-Net": "U-Net",
    "longer": f"U-Net, {LONGER} x steps",
    "large": f"U-Net, {LARGE['n']} images, {LARGE['max_iter']} steps of {LARGE['batch_size']}",
    "MLP": "defaults",
}


def _grouped(records: list[dict]) -> dict[str, dict[str, list[dict]]]:
    """Results by case and method, in the order of `CASES`."""
    found: dict[str, dict[str, list[dict]]] = {}
    for name in [*CASES, *sorted({r["case"] for r in records} - set(CASES))]:
        for r in sorted((r for r in records if r["case"] == name), key=lambda r: r["seed"]):
            found.setdefault(name, {}).setdefault(r["options"]["method"], []).append(r)
    return found


def _best(sweep: dict[str, float]) -> tuple[float, str]:
    return min((value, key) for key, value in sweep.items())


def tangents_table(records: list[dict]) -> str:
    """Angle to the true tangent spaces: both networks, the Jacobian of each, local PCA."""
    rows = []
    for methods in _grouped(records).values():
        for method, label in METHODS.items():
            group = methods.get(method, [])
            results = [r["result"] for r in group if "angle" in r["result"]]
            if not results:
                continue
            jacobian = [_best(x["jacobian"])[0] for x in results]
            pca = [_best(x["local_pca"]) for x in results]
            rows.append(
                [
                    group[0]["title"],
                    results[0]["d"],
                    label,
                    spread([x["held_out_loss"] for x in results]),
                    f"**{spread([x['angle'] for x in results])}**",
                    spread(jacobian),
                    f"{spread([e for e, _ in pca])}, k = {pca[0][1]}",
                    spread([x["fit_cpu_s"] for x in results]),
                    spread([x["frame_ms"] for x in results]),
                ]
            )
    header = ["data", "d", "network", "held-out loss", "Lyapunov vectors", "score Jacobian, best s"]
    header += ["local PCA, best k", "fit, CPU s", "frame, CPU ms a point"]
    return markdown(header, rows) if rows else "*Not run yet.*"


def dimensions_table(records: list[dict]) -> str:
    """Dimension found, by both networks and by the peers, beside what ID-DIFF published."""
    rows = []
    for name, methods in _grouped(records).items():
        groups = {m: methods.get(m, []) for m in (*METHODS, *PEERS)}
        known = [r["result"]["d"] for group in groups.values() for r in group]
        if not known or known[0] is None:
            continue
        cells = []
        for method, group in groups.items():
            found = [r["result"] for r in group]
            if method in PEERS:
                values = [x["dimension"] for x in found if x["dimension"] is not None]
                cells.append(number(float(np.mean(values))) if values else "-" if found else "")
                continue
            values = [f"{x['dimension']}{'' if x['clear'] else '?'}" for x in found]
            right = percent([x["right"] for x in found]) if found else ""
            cells += [f"**{', '.join(values)}**" if values else "", right]
        title = next(group for group in groups.values() if group)[0]["title"]
        rows.append([title, known[0], *cells, PUBLISHED.get(name, "")])
    header = ["data", "d"]
    header += [x for label in METHODS.values() for x in (label, "new points right")]
    header += [*PEERS, "ID-DIFF, published"]
    return markdown(header, rows) if rows else "*Not run yet.*"


def unknown_table(records: list[dict]) -> str:
    """Images without a truth: loss, dimension, agreement of tangent spaces with neighbours."""
    rows = []
    for methods in _grouped(records).values():
        for method, label in METHODS.items():
            group = methods.get(method, [])
            results = [r["result"] for r in group if r["result"]["d"] is None]
            if results:
                x = results[0]
                rows.append(
                    [
                        group[0]["title"],
                        x["D"],
                        label,
                        spread([x["held_out_loss"] for x in results]),
                        ", ".join(f"{x['dimension']}{'' if x['clear'] else '?'}" for x in results),
                        spread([x["alignment"] for x in results], min),
                        spread([x["fit_cpu_s"] for x in results]),
                    ]
                )
    header = ["data", "D", "network", "held-out loss", "`dimension_`", "`alignment_score`"]
    return markdown([*header, "fit, CPU s"], rows) if rows else "*Not run yet.*"


IMAGE_TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "images-tangents": ("images", tangents_table),
    "images-dimension": ("images", dimensions_table),
    "images-unknown": ("images", unknown_table),
}


if __name__ == "__main__":
    sys.exit(main())
