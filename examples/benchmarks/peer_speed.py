"""Wall time of estimators of intrinsic dimension, ours with its training included.

scikit-dimension's ESS and DANCo with their defaults beside `LyapunovManifold().fit`, each in a
process of its own with one thread, on the same random manifolds. A call that takes longer than
the limit is ended and recorded as too slow. Run with nothing else on the machine

    python examples/benchmarks/peer_speed.py
"""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from functools import partial

import torch
from common import Case, Job, Store, fit_timed, parse_args, run_jobs
from fresh_process import in_fresh_process, run_script

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_random_manifold
from alignlearn.models import Diffusion

SIZES = (1000, 2500, 5000)
SPACES = {20: 5, 50: 10}  # features D and dimension d, as the random manifolds of tangents.py
LIMIT_S = 600.0
METHODS = ("alignlearn", "ESS", "DANCo")


def case_of(n: int, D: int, d: int) -> Case:
    """n points of a clean random manifold."""
    make = partial(make_random_manifold, dim=d, n_features=D)
    return Case(f"n{n}-D{D}-d{d}", f"{d} in R^{D}, clean", make, n)


def cases() -> dict[str, Case]:
    """Every size in every space."""
    found = [case_of(n, D, d) for D, d in SPACES.items() for n in SIZES]
    return {case.name: case for case in found}


def fit_ours(X, seed: int, max_iter: int | None) -> dict:
    """Our fit, everything at its default unless this is a trial run."""
    model = None if max_iter is None else Diffusion(max_iter=max_iter)
    m, state = fit_timed(LyapunovManifold(model=model), X, seed)
    return {"seconds": state["fit_s"], "dimension": int(m.dimension_)}


def fit_peer(name: str, X, seed: int) -> dict:
    """A global estimator of scikit-dimension with its defaults."""
    import skdim  # the import is not timed

    peer = getattr(skdim.id, name)()
    if "random_state" in peer.get_params():
        peer.set_params(random_state=seed)
    # ESS looks at every point and takes n_jobs, default 1; DANCo has one process only.
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(X)
    return {"seconds": time.perf_counter() - start, "dimension": float(peer.dimension_)}


def measure_here(
    method: str, n: int, D: int, d: int, seed: int, max_iter: int | None = None
) -> dict:
    """Seconds of one fit and the dimension it found, in this process."""
    torch.set_num_threads(1)
    X = case_of(n, D, d).sample(seed).points
    return fit_ours(X, seed, max_iter) if method == "alignlearn" else fit_peer(method, X, seed)


def measure(job: Job) -> dict:
    """`measure_here` in a fresh process with one thread, for `limit_s` at most."""
    options = dict(job.options)
    limit, method = options.pop("limit_s"), options.pop("method")
    n, make = job.case.n, job.case.make.keywords
    common = {"method": method, "n": n, "D": make["n_features"], "d": make["dim"]}
    call = common | {"seed": job.seed}
    if method == "alignlearn" and job.manifold.model is not None:
        call["max_iter"] = job.manifold.model.max_iter
    one_thread = {
        name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    try:
        found = in_fresh_process(__file__, call, timeout=limit, env=os.environ | one_thread)
        found |= {"too_slow": False}
    except subprocess.TimeoutExpired:  # the process is ended
        found = {"seconds": None, "dimension": None, "too_slow": True}
    return common | found | {"limit_s": limit, "threads": 1}


def main(argv=None) -> int:
    sets = cases()
    args = parse_args(__doc__.splitlines()[0], sets, 1, argv)
    jobs = [
        Job(sets[name], seed, args.manifold, {"method": method, "limit_s": LIMIT_S})
        for seed in range(args.seeds)
        for name in args.cases
        for method in METHODS
    ]
    return run_jobs(measure, jobs, Store("peer_speed", args.results), workers=1)


if __name__ == "__main__":
    run_script(main, measure_here)
