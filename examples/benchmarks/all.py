"""All benchmarks and the tables of the docs and README; what is done already is not run again. Run

python examples/benchmarks/all.py [--workers 2] [--seeds 5]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import extraction
import frame_cost
import make_tables
import networks
import tangents
from common import RESULTS


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
    for script, n_seeds in [(frame_cost, 1), (tangents, 5), (extraction, 2), (networks, 3)]:
        seeds = args.seeds if script is tangents else min(args.seeds, n_seeds)
        failed += script.main([str(part) for part in [*shared, "--seeds", seeds]])
        make_tables.main(["--results", str(args.results), "--page", *map(str, args.page)])
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
