"""What `import alignlearn` costs beyond torch and scikit-learn. Run

python examples/benchmarks/import_time.py [--repeats 9]

In fresh interpreters that have imported torch and scikit-learn already: two of them that import
everything differ by more, from run to run, than what is measured here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median

STATEMENTS = [
    "import alignlearn",
    "from alignlearn import LyapunovManifold",
    "from alignlearn import LyapunovManifold, ManifoldSupport, load; "
    "from alignlearn.models import FlowMatching, PretrainedModel",
]
TIMED = """import time, torch, sklearn
start, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - start, time.process_time() - cpu)"""


def seconds(statement: str) -> tuple[float, float]:
    """Wall and CPU seconds of a statement in an interpreter that has torch and scikit-learn."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wall, cpu = map(float, printed.split())
    return wall, cpu


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args(argv)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in STATEMENTS}
    for repeat in range(args.repeats + 1):  # alternating; the first round fills the disk cache
        for name in STATEMENTS:
            measured = seconds(name)
            if repeat:
                times[name].append(measured)
    print(f"median of {args.repeats} (largest), load average {os.getloadavg()[0]:.1f}")
    for name, pairs in times.items():
        wall, cpu = ([pair[i] for pair in pairs] for i in (0, 1))
        print(f"{median(wall):.3f} ({max(wall):.3f}) s wall, {median(cpu):.3f} s CPU   {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
