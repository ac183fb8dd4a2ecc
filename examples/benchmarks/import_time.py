"""What `import alignlearn` costs beyond torch and scikit-learn. Run

python examples/benchmarks/import_time.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median

STATEMENTS = {
    "torch, sklearn": "import torch, sklearn",
    "the same and sklearn.callback": """import torch, sklearn
try: import sklearn.callback
except ImportError: pass""",
    "alignlearn": "import alignlearn",
}
TIMED = """import time
start, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - start, time.process_time() - cpu)"""


def seconds(statement: str) -> tuple[float, float]:
    """Wall and CPU seconds of a statement in a fresh interpreter."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wall, cpu = map(float, printed.split())
    return wall, cpu


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args(argv)
    times = {name: [] for name in STATEMENTS}
    for repeat in range(args.repeats + 1):  # alternating; the first round fills the disk cache
        for name, statement in STATEMENTS.items():
            measured = seconds(statement)
            if repeat:
                times[name].append(measured)
    medians = {
        name: [median(part) for part in zip(*pairs, strict=True)] for name, pairs in times.items()
    }
    base = medians["torch, sklearn"]
    print(f"median of {args.repeats}, load average {os.getloadavg()[0]:.1f}")
    for name, (wall, cpu) in medians.items():
        more = f"{wall - base[0]:+.2f} s wall, {cpu - base[1]:+.2f} s CPU"
        print(f"{name:32} {wall:5.2f} s wall, {cpu:5.2f} s CPU   {more}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
