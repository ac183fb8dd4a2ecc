"""All figures of the paper and its checkable statements, one after the other. Run

python examples/paper/all.py [--out FOLDER] [--quick]
"""

from __future__ import annotations

import figure1
import figure2
import figure3_4
import figure5
import figure7_8
import statements
from shared import Stopwatch, arguments

SCRIPTS = (figure1, figure2, figure3_4, figure5, figure7_8, statements)


def main(argv=None) -> None:
    args = arguments(__doc__, argv)
    options = ["--out", str(args.out), *(["--quick"] if args.quick else [])]
    watch = Stopwatch()
    for script in SCRIPTS:
        print(f"\n=== {script.__name__}.py", flush=True)
        script.main(options)
    print(f"\nall: {watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
