"""Intrinsic dimension by every estimator of scikit-dimension with its defaults, same data. Run

python examples/benchmarks/dimension_peers.py --workers 2 [--cases 'bm/*/1000'] [--peers GRIDE MLE]

It needs ``pip install 'alignlearn[benchmark]'``. What takes more than `LIMIT_S` of CPU time is "too
slow"; wall time would make that depend on what else runs.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from common import Job, Store, own_options, run_jobs
from dimension import describe, query_rows
from dimension_cases import CASES, parse_args, truth
from sklearn.neighbors import NearestNeighbors

LIMIT_S = 300

# Classes of skdim.id. Those in LOCAL have a dimension at every point; the others are fitted to
# neighbourhoods for one.
LOCAL = ("ESS", "MADA", "MLE", "MOM", "TLE")
GLOBAL = ("CorrInt", "DANCo", "FisherS", "GRIDE", "KNN", "MiND_ML", "PH", "TwoNN", "lPCA")
POINTWISE_PCA = "lPCA, k = 50"  # median over points of local PCA
PEERS = (*LOCAL, *GLOBAL, POINTWISE_PCA)
N_NEIGHBORS = 100  # of skdim's own `fit_pw`


class TooSlow(Exception):
    """A peer used up its CPU time."""


@dataclass(frozen=True)
class PeerJob(Job):
    """A peer on one data set: what decides its result is neither our estimator nor our model."""

    @property
    def settings(self) -> dict:
        """Data, peer, its version and the time it has."""
        return {
            "data": super().settings["data"],
            "peer": self.options["peer"],
            "skdim": version("scikit-dimension"),
            "limit_s": LIMIT_S,
        }


@contextlib.contextmanager
def time_limit(seconds: float):
    """Raise `TooSlow` after some seconds of CPU time; a long call of C code ends first."""

    def stop(signum, frame):
        raise TooSlow(f"too slow (more than {seconds:g} s of CPU time)")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def make_peer(name: str, seed: int):
    """A peer with its defaults, seeded where it has a seed."""
    import skdim

    peer = getattr(skdim.id, name.split(",")[0])()
    for key, value in {"random_state": seed, "verbose": False}.items():
        if hasattr(peer, key):
            setattr(peer, key, value)
    return peer


def estimate(name: str, X: np.ndarray, seed: int) -> float:
    """Dimension of the whole sample."""
    peer = make_peer(name, seed)
    if name == POINTWISE_PCA:
        return float(np.median(peer.fit_transform_pw(X, n_neighbors=50)))
    return float(peer.fit(X).dimension_)


def estimate_pointwise(name: str, X: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Dimension at some rows of X, from all of them."""
    peer = make_peer(name, seed)
    if name in LOCAL:
        return np.asarray(peer.fit(X).dimension_pw_, dtype=float)[rows]
    k = min(50 if name == POINTWISE_PCA else N_NEIGHBORS, len(X) - 1)
    neighbors = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    found = peer.fit_transform_pw(X, precomputed_knn=neighbors[rows], n_neighbors=k)
    return np.asarray(found, dtype=float)


def measure(job: Job) -> dict:
    """The raw estimate; at points, and only there, where the dimension differs between points."""
    sample = job.case.sample(job.seed)
    X, name = np.asarray(sample.points), job.options["peer"]
    result = describe(sample) | {"peer": name, "dimension": None, "mae": None, "failure": None}
    rows = query_rows(*X.shape, job.seed)
    start = time.process_time()
    try:
        with warnings.catch_warnings(), time_limit(LIMIT_S):
            warnings.simplefilter("ignore")
            if len(result["d"]) == 1:
                value = result["dimension"] = estimate(name, X, job.seed)
            else:
                found = estimate_pointwise(name, X, rows, job.seed)
                value = result["mae"] = float(np.mean(np.abs(found - truth(sample)[rows])))
        if not np.isfinite(value):
            result |= {"dimension": None, "mae": None, "failure": f"the estimate is {value}"}
    except TooSlow as error:
        result["failure"] = str(error)
    except Exception as error:  # a peer that cannot take these data is a result
        result["failure"] = f"{type(error).__name__}: {error}"
    return result | {"cpu_s": time.process_time() - start}


def main(argv=None) -> int:
    own = own_options()
    own.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    args = parse_args(__doc__.splitlines()[0], 3, argv, own)
    if find_spec("skdim") is None:
        print("no scikit-dimension here: pip install 'alignlearn[benchmark]'", file=sys.stderr)
        return 1
    jobs = [
        PeerJob(CASES[name], seed, args.manifold, {"peer": peer})
        for seed in range(args.seeds)
        for name in args.cases
        for peer in args.peers
    ]
    return run_jobs(measure, jobs, Store("dimension_peers", args.results), workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
