"""Embeddings by scikit-learn and UMAP at every number of neighbours, same data and measures. Run

python examples/benchmarks/embedding_peers.py --workers 2

UMAP needs ``pip install 'alignlearn[benchmark]'``; without it the others run.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version

import sklearn
from common import Job, Store, own_options, parse_args, run_jobs
from embedders import PEERS, available, compile_umap
from embedding_cases import CASES, NEIGHBORS, Task


@dataclass(frozen=True)
class PeerJob(Job):
    """A peer on one data set: what decides its result is neither our estimator nor our model."""

    @property
    def settings(self) -> dict:
        """Data, peer, its version and what it is tried with."""
        is_umap = self.options["peer"] == "UMAP"
        return {
            "data": super().settings["data"],
            "peer": self.options["peer"],
            "d": self.case.d,
            "version": version("umap-learn") if is_umap else sklearn.__version__,
            "neighbors": NEIGHBORS,
        }


def measure(job: Job) -> dict:
    """Scores at every number of neighbours; a setting that a peer cannot take is a result."""
    task, peer = Task(job.case, job.seed), PEERS[job.options["peer"]]
    found = {}
    if job.options["peer"] == "UMAP":
        compile_umap()
    for k in NEIGHBORS:
        estimator = peer(n_neighbors=k, n_components=job.case.d, random_state=job.seed)

        def fit(X, estimator=estimator):
            return estimator, estimator.fit_transform(X)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a graph in pieces, a seed that takes one thread
            try:
                found[k] = task.measure(fit)
            except Exception as error:
                found[k] = {"failure": f"{type(error).__name__}: {error}"}
    return {"n": job.case.n, "d": job.case.d, "by_neighbors": found}


def main(argv=None) -> int:
    own = own_options()
    own.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    args = parse_args(__doc__.splitlines()[0], CASES, 3, argv, own)
    peers = available(args.peers)
    jobs = [
        PeerJob(CASES[name], seed, args.manifold, {"peer": peer})
        for seed in range(args.seeds)
        for name in args.cases
        for peer in peers
    ]
    failed = run_jobs(measure, jobs, Store("embedding_peers", args.results), workers=args.workers)
    return int(failed > 0 or len(peers) < len(args.peers))


if __name__ == "__main__":
    sys.exit(main())
