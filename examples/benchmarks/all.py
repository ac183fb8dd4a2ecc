"""All benchmarks and the tables of the docs and README; what is done already is not run again. Run

python examples/benchmarks/all.py [--workers 2] [--seeds 5]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import budget
import column_cost
import dimension
import dimension_peers
import downstream
import embedding
import embedding_peers
import extraction
import failures
import frame_cost
import frame_speed
import gpu
import images
import make_tables
import model_selection
import networks
import out_of_core
import peer_speed
import pretrained
import projection
import robustness
import size
import tangents
import training_speed
import workers
from common import RESULTS

# In this order, each with the number of seeds that it needs: those that measure time come first,
# one process at a time.
SCRIPTS = [
    (frame_cost, 1),
    (frame_speed, 1),
    (column_cost, 1),
    (training_speed, 1),
    (gpu, 1),
    (out_of_core, 1),
    (peer_speed, 1),
    (size, 1),
    (workers, 1),
    (tangents, 5),
    (dimension, 3),
    (dimension_peers, 3),
    (extraction, 2),
    (networks, 3),
    (budget, 3),
    (failures, 2),
    (model_selection, 3),
    (embedding, 3),
    (embedding_peers, 3),
    (projection, 3),
    (downstream, 3),
    (robustness, 5),
    (pretrained, 1),
    (images, 1),
]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--seeds", type=int, default=5, help="of tangents.py; others at most theirs"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, nargs="+", default=make_tables.PAGES)
    parser.add_argument("--max-iter", type=int, help="training steps of a trial run")
    args = parser.parse_args(argv)
    shared = ["--workers", args.workers, "--results", args.results]
    if args.max_iter is not None:
        shared += ["--max-iter", args.max_iter]
    failed = 0
    for script, n_seeds in SCRIPTS:
        seeds = args.seeds if script is tangents else min(args.seeds, n_seeds)
        failed += script.main([str(part) for part in [*shared, "--seeds", seeds]])
        make_tables.main(["--results", str(args.results), "--page", *map(str, args.page)])
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
