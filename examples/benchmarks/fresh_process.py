"""Measurements in a process of their own, whose memory and threads nothing else has touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable


def in_fresh_process(script: str, options: dict, **how) -> dict:
    """`measure_here` of a script in a process of its own; `how` is for `subprocess.run`."""
    command = [sys.executable, script, "--measure", json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run_script(main: Callable[[], int], measure_here: Callable[..., dict]) -> None:
    """What such a script does when it is run: `main`, or what `in_fresh_process` asks of it."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure_here(**json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
