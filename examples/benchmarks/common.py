"""What the benchmark scripts share: data, baselines, the store of results, parallel runs."""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # what is measured is the checkout these scripts belong to

import joblib  # noqa: E402
import numpy as np  # noqa: E402
import sklearn  # noqa: E402
import torch  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402

from alignlearn import LyapunovManifold  # noqa: E402
from alignlearn._arrays import torch_threads  # noqa: E402
from alignlearn.datasets import (  # noqa: E402
    ManifoldSample,
    make_random_manifold,
    make_sphere,
    make_swiss_roll,
    make_torus,
    torus_tangents,
)
from alignlearn.dimension import pointwise_dimension  # noqa: E402
from alignlearn.metrics import largest_angle, normal_angle, tangent_error  # noqa: E402
from alignlearn.models import Diffusion  # noqa: E402
from alignlearn.tangent import LyapunovFrame  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
N_CORES = 2  # the budget of every run: workers times threads
N_QUERY = 300  # points at which frames are compared, seen and unseen

# Sizes of local PCA, half an octave apart up to the whole sample, so that the best is among them;
# for each seed the best counts, chosen in hindsight with the truth.
NEIGHBORS = (
    5,
    7,
    10,
    14,
    20,
    28,
    40,
    56,
    80,
    112,
    160,
    224,
    320,
    448,
    640,
    896,
    1280,
    1792,
    2560,
    3584,
)

# Noise levels of the one-time score Jacobian, in units of the data's standard deviation; as above.
SCALES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


# --------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Case:
    """One data set: `make` draws a `ManifoldSample` of `n` points, the truth comes with it.

    `angle` compares two stacks of frames, in degrees at each point. Default: the normal angle on
    the torus, else the root mean square of the principal angles.
    """

    name: str
    title: str
    make: Callable[..., ManifoldSample]
    n: int
    noise: float = 0.0
    is_torus: bool = False
    angle: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def sample(self, seed: int) -> ManifoldSample:
        """Training set; the seed fixes the manifold and the points."""
        return self.make(self.n, noise=self.noise, random_state=seed)

    def fresh(self, seed: int, n: int = N_QUERY) -> ManifoldSample:
        """Other points of the same manifold, with the same noise."""
        return self.make(n, noise=self.noise, random_state=seed, sample_state=10_000 + seed)

    def truth(self, sample: ManifoldSample) -> np.ndarray:
        """True frames (n, D, d): of the clean point; of the noisy one on the torus."""
        return torus_tangents(sample.points) if self.is_torus else sample.tangents

    def error(self, vectors: np.ndarray, truth: np.ndarray) -> float:
        """Degrees: mean over points of `angle`."""
        angle = self.angle or (normal_angle if self.is_torus else tangent_error)
        return float(angle(np.linalg.qr(vectors).Q, truth).mean())


def rows_of(sample: ManifoldSample, rows: np.ndarray) -> ManifoldSample:
    """Some rows of a sample."""
    return ManifoldSample(*(part if isinstance(part, int) else part[rows] for part in sample))


def _random(d: int, D: int) -> Callable[..., ManifoldSample]:
    return partial(make_random_manifold, dim=d, n_features=D)


def _torus(n: int, noise: float) -> Case:
    return Case(f"torus-{n}-{noise:g}", "torus in R^3", make_torus, n, noise, is_torus=True)


def _largest(name: str, title: str, make: Callable[..., ManifoldSample], n: int, noise=0.0) -> Case:
    return Case(name, title, make, n, noise, angle=largest_angle)


_sphere5 = partial(make_sphere, dim=5, n_features=20)
_sphere10 = partial(make_sphere, dim=10, n_features=20)

CASES = {
    case.name: case
    for case in [
        Case("torus", "torus in R^3, clean", make_torus, 1000, is_torus=True),
        Case("torus-noisy", "torus in R^3, noise .1", make_torus, 1000, 0.1, is_torus=True),
        Case("random5", "5 in R^20, clean", _random(5, 20), 3000),
        Case("random5-noisy", "5 in R^20, noise .1", _random(5, 20), 3000, 0.1),
        Case("random5-mild", "5 in R^20, noise .045", _random(5, 20), 3000, 0.045),
        Case("random10", "10 in R^50, clean", _random(10, 50), 5000),
        Case("random10-noisy", "10 in R^50, noise .1", _random(10, 50), 5000, 0.1),
        Case("random10-mild", "10 in R^50, noise .045", _random(10, 50), 5000, 0.045),
        Case("sphere10", "S^10 in R^11, clean", partial(make_sphere, dim=10), 5000),
        *(_torus(300, noise) for noise in (0.0, 0.1, 0.25)),
        _torus(1000, 0.25),
        *(_torus(2000, noise) for noise in (0.0, 0.1)),
        _torus(5000, 0.1),
        _largest("sphere2", "S^2 in R^3, clean", make_sphere, 1000),
        _largest("roll", "swiss roll, clean", make_swiss_roll, 1000),
        # .05 of 7.93, the standard deviation over all entries
        _largest("roll-noisy", "swiss roll, noise .4", make_swiss_roll, 1000, 0.4),
        _largest("sphere5-R20", "S^5 in R^20, clean", _sphere5, 2000),
        _largest("sphere5-R20-noisy", "S^5 in R^20, noise .05", _sphere5, 2000, 0.05),
        _largest("sphere10-R20", "S^10 in R^20, clean", _sphere10, 2000),
        _largest("sphere10-R20-noisy", "S^10 in R^20, noise .05", _sphere10, 2000, 0.05),
    ]
}

# Normal angle in degrees on the torus, clean and noisy, from Jones (2024), "Manifold diffusion
# geometry", mean of 10 runs: published, not measured here.
MDG_PUBLISHED = {
    "torus-300-0": 8.7,
    "torus-300-0.1": 10.3,
    "torus": 5.4,
    "torus-noisy": 6.2,
    "torus-1000-0.25": 14.4,
    "torus-2000-0": 4.1,
    "torus-2000-0.1": 5.2,
    "torus-5000-0.1": 3.7,
}
PUBLISHED = (  # the torus at every size, by size and noise
    "torus-300-0",
    "torus-300-0.1",
    "torus-300-0.25",
    "torus",
    "torus-noisy",
    "torus-1000-0.25",
    "torus-2000-0",
    "torus-2000-0.1",
    "torus-5000-0.1",
)
LARGEST_ANGLE = tuple(name for name, case in CASES.items() if case.angle is largest_angle)
# The tables of the defaults: every other case, and what scripts run that take all cases.
MAIN = tuple(
    name
    for name in CASES
    if name not in LARGEST_ANGLE and (name not in PUBLISHED or name in ("torus", "torus-noisy"))
)


# ---------------------------------------------------------------------------------- estimators


def fit_timed(manifold: LyapunovManifold, X: np.ndarray, seed: int) -> tuple:
    """Clone and fit; the estimator and what its training looked like."""
    start, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        m = clone(manifold).set_params(random_state=seed).fit(X)
    model = m.model_
    histories = getattr(model, "histories_", [])
    state = {
        "fit_s": time.perf_counter() - start,
        "fit_cpu_s": time.process_time() - cpu,
        "steps": getattr(model, "n_iter_", 0),
        "best_step": max((history.best_step for history in histories), default=0),
        "n_networks": len(histories),
        "held_out_loss": getattr(model, "loss_", float("nan")),
        "dimension": m.dimension_,
        "confidence": m.dimension_estimate_.confidence,
        "resolved": m.dimension_estimate_.resolved,
        "clear": m.dimension_estimate_.clear,
        "noise_level": m.noise_level_,
        "warnings": sorted(
            {str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)}
        ),
    }
    if isinstance(model, Diffusion):
        state["n_parameters"] = sum(p.numel() for p in model.denoiser_.parameters())
    return m, state


def frame_at(m: LyapunovManifold, X: np.ndarray) -> LyapunovFrame:
    """Vectors and exponents at once, where the public methods would compute them twice."""
    return m.lyapunov_frame(X)


def share_right(frame: LyapunovFrame, d: int) -> float:
    """Share of points whose own dimension is right."""
    return float(np.mean(pointwise_dimension(frame.exponents) == d))


def local_pca_planes(
    X: np.ndarray, queries: np.ndarray, d: int, sizes: Iterable[int] = NEIGHBORS
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Local PCA: mean and d leading axes of the k nearest rows of X, for every k that fits.

    A query that is a row of X is its own first neighbour.

    Returns
    -------
    planes : dict of k to (ndarray (n, D), ndarray (n, D, d))
    """
    sizes = [k for k in sorted(sizes) if d < k <= len(X)]
    order = NearestNeighbors(n_neighbors=sizes[-1]).fit(X).kneighbors(queries)[1]
    n, D = queries.shape
    first, second = np.zeros((n, 1, D)), np.zeros((n, D, D))  # moments about the query
    planes = {}
    for low, k in zip([0, *sizes], sizes, strict=False):
        for i in range(0, n, 50):  # rows at a time: memory
            rows = slice(i, i + 50)
            more = X[order[rows, low:k]] - queries[rows, None]
            first[rows] += more.sum(axis=1, keepdims=True)
            second[rows] += more.swapaxes(1, 2) @ more
        scatter = second - first.swapaxes(1, 2) @ first / k
        axes = np.linalg.eigh(scatter).eigenvectors[..., ::-1][..., :d]
        planes[k] = queries + first[:, 0] / k, axes
    return planes


def local_pca_tangents(
    X: np.ndarray, queries: np.ndarray, d: int, sizes: Iterable[int] = NEIGHBORS
) -> dict[int, np.ndarray]:
    """Principal axes (n, D, d) of `local_pca_planes`, by k."""
    return {k: axes for k, (_, axes) in local_pca_planes(X, queries, d, sizes).items()}


def jacobian_tangents(
    model, X: np.ndarray, d: int, s: float, *, n_draws: int = 0, seed: int = 0
) -> np.ndarray:
    """One-time score Jacobian: d leading eigenvectors of the symmetric part of ``d Den / dy``.

    ``Den = y + s^2 score``, so these are the directions in which the score changes least. Taken
    at the data points, or averaged over `n_draws` noised copies ``x + s z``.

    Returns
    -------
    tangents : ndarray of shape (n, D, d)
    """
    x, denoise = model.encode(X), model.denoiser()
    level = torch.tensor(s, dtype=x.dtype, device=x.device)
    rows = max(1, 2**21 // (128 * x.shape[1]))
    jacobian = torch.func.vmap(
        torch.func.jacfwd(lambda y: denoise(y[None], level)[0]), chunk_size=rows
    )
    if n_draws:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n_draws, *x.shape, generator=generator, dtype=torch.float64).to(x)
        points = [x + s * z for z in noise]
    else:
        points = [x]
    with torch.no_grad():
        J = sum(jacobian(y).double() for y in points) / len(points)
        return torch.linalg.eigh(J + J.mT).eigenvectors.flip(-1)[..., :d].cpu().numpy()


def scales_of(model, scales: Iterable[float] = SCALES) -> list[float]:
    """The noise levels at which the model was trained."""
    low, high = model.noise_range_
    return [s for s in scales if low <= s <= high]


# --------------------------------------------------------------------------------- provenance


def settings_of(manifold: LyapunovManifold) -> dict:
    """Every parameter of the estimator and its model, seed and workers apart, as strings."""
    model = Diffusion() if manifold.model is None else manifold.model
    settings = {}
    for name, estimator in [("manifold", manifold), (type(model).__name__, model)]:
        params = estimator.get_params(deep=False)
        skip = {"random_state", "n_jobs", "model"}
        if params.get("image_shape") is None:  # younger than results that stay good
            skip |= {"image_shape"}
        settings[name] = {key: repr(params[key]) for key in sorted(params) if key not in skip}
    return settings


def digest(value) -> str:
    """Short hash of anything JSON can write, and of other objects by repr."""
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@lru_cache
def code_version(files: tuple[str, ...] = ("**/*.py",)) -> str:
    """Hash of the library's code, or of some of its files, without docstrings and comments."""
    trees = []
    folder = ROOT / "alignlearn"
    for path in sorted(path for pattern in files for path in folder.glob(pattern)):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                if ast.get_docstring(node) is not None:
                    node.body.pop(0)
        trees.append(f"{path.name}\n{ast.unparse(tree)}")
    return digest(trees)


def machine() -> dict:
    """Where the numbers were made."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu,
        "cores": cores,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sklearn": sklearn.__version__,
        "numpy": np.__version__,
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


# ---------------------------------------------------------------------------- jobs and results


@dataclass(frozen=True)
class Job:
    """One measurement: an estimator on one data set with one seed; `options` are the script's."""

    case: Case
    seed: int
    manifold: LyapunovManifold
    options: dict = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the job is, for people."""
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.case.name} seed {self.seed} {options}".rstrip()

    @property
    def settings(self) -> dict:
        """What decides the result besides the seed and the code."""
        data = {"make": repr(self.case.make), "n": self.case.n, "noise": self.case.noise}
        if isinstance(self.case.make, partial):
            data["make"] = f"{self.case.make.func.__name__}({self.case.make.keywords})"
        else:
            data["make"] = self.case.make.__name__
        return {"data": data, **settings_of(self.manifold)}

    def key(self, script: str) -> str:
        """Identity of the measurement: script, case, seed, options and hash of the settings."""
        options = json.dumps(self.options, sort_keys=True)
        return f"{script}/{self.case.name}/{self.seed}/{options}/{digest(self.settings)}"


class Store:
    """Results of one script, a JSON object per line; a killed run loses only its running jobs."""

    def __init__(self, script: str, folder: Path | str = RESULTS) -> None:
        self.script = script
        self.path = Path(folder) / f"{script}.jsonl"

    def records(self) -> list[dict]:
        """All complete records, oldest first; a line cut short by a kill is passed over."""
        records = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return records

    def latest(self) -> list[dict]:
        """One record per case, seed and options: those with the settings of its newest record."""
        newest, chosen = {}, {}
        for record in self.records():
            newest[group_of(record)] = record["settings_hash"]
        for record in self.records():
            if record["settings_hash"] == newest[group_of(record)]:
                chosen[record["key"]] = record
        return list(chosen.values())

    def append(self, record: dict) -> None:
        """Write one record and flush it to the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text() if self.path.exists() else ""
        cut_short = bool(text) and not text.endswith("\n")
        with self.path.open("a") as file:
            file.write(("\n" if cut_short else "") + json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())


def group_of(record: dict) -> tuple:
    """Case and options of a record: what a table has one cell for."""
    return record["case"], json.dumps(record["options"], sort_keys=True)


def _run(measure: Callable[[Job], dict], index: int, job: Job, threads: int) -> tuple[int, dict]:
    """One job with its share of threads; an error is returned, so that the others go on."""
    code = code_version()  # of this process
    start, load = time.perf_counter(), os.getloadavg()[0]
    try:
        with torch_threads(threads):
            outcome = {"result": measure(job)}
    except Exception:
        outcome = {"error": traceback.format_exc()}
    seconds = time.perf_counter() - start
    return index, outcome | {"wall_s": seconds, "load": load, "threads": threads, "code": code}


def run_jobs(
    measure: Callable[[Job], dict], jobs: Iterable[Job], store: Store, *, workers: int = 1
) -> int:
    """Run the jobs that `store` does not have yet; each result is appended as it comes.

    Returns
    -------
    n_failed : int
        Jobs that raised; they are not stored and run again next time.
    """
    done = {record["key"] for record in store.records()}
    jobs = list(jobs)
    todo = [job for job in jobs if job.key(store.script) not in done]
    print(f"{store.script}: {len(todo)} of {len(jobs)} jobs to run", flush=True)
    if not todo:
        return 0
    threads = max(1, N_CORES // workers)
    with joblib.parallel_config("loky", inner_max_num_threads=threads):
        parallel = joblib.Parallel(
            n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs"
        )
        calls = (joblib.delayed(_run)(measure, i, job, threads) for i, job in enumerate(todo))
        n_failed = 0
        for count, (index, outcome) in enumerate(parallel(calls), start=1):
            job = todo[index]
            head = f"[{count}/{len(todo)}] {job.label}: {outcome['wall_s']:.0f} s"
            if "error" in outcome:
                n_failed += 1
                print(f"{head}, FAILED\n{outcome['error']}", file=sys.stderr, flush=True)
                continue
            print(head, flush=True)
            store.append(
                {
                    "key": job.key(store.script),
                    "script": store.script,
                    "case": job.case.name,
                    "title": job.case.title,
                    "seed": job.seed,
                    "options": job.options,
                    "settings_hash": digest(job.settings),
                    "settings": job.settings,
                    "machine": machine(),
                    "date": time.strftime("%Y-%m-%d %H:%M"),
                    **outcome,
                }
            )
    return n_failed


def own_options() -> argparse.ArgumentParser:
    """Takes the options that a script has beside the shared ones, for `parse_args`."""
    return argparse.ArgumentParser(add_help=False)


def parse_args(
    description: str,
    cases: Iterable[str],
    n_seeds: int,
    argv=None,
    own: argparse.ArgumentParser | None = None,
):
    """Command line of a script: the shared options, and its own.

    `manifold` holds the estimator that is measured.
    """
    cases = list(cases)
    parser = argparse.ArgumentParser(description=description, parents=[own] if own else [])
    parser.add_argument(
        "--workers", type=int, default=2, help="processes, with 2 // workers threads each"
    )
    parser.add_argument("--seeds", type=int, default=n_seeds, help="number of seeds")
    names = "of " + ", ".join(cases) if len(cases) < 30 else "see CASES of the script"
    parser.add_argument(
        "--cases", nargs="+", choices=cases, default=cases, metavar="CASE", help=names
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the .jsonl files")
    parser.add_argument(
        "--max-iter", type=int, help="training steps of a trial run; give --results a folder too"
    )
    args = parser.parse_args(argv)
    args.manifold = LyapunovManifold()
    if args.max_iter is not None:
        args.manifold = LyapunovManifold(model=Diffusion(max_iter=args.max_iter))
    return args
