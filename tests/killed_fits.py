"""Fits killed with SIGKILL, each in a process of its own, and fits that go on afterwards.

``python killed_fits.py FOLDER`` prints what came out as JSON. A script, so that the processes are
forked from a small one that has imported everything and has no thread of its own.
"""

import hashlib
import itertools
import json
import os
import signal
import sys

import torch

from alignlearn import _files, checkpoint, training
from alignlearn.datasets import make_sphere
from alignlearn.models import Diffusion

X = make_sphere(100, 2, random_state=0).points

# Two networks of STEPS steps, a write at every evaluation and one at the end of each network.
STEPS, EVERY = 40, 8
WRITES = 2 * (STEPS // EVERY + 1)

# Before which step; or in which write, before its bytes are on disk or before it is renamed.
MOMENTS = {
    "before the first evaluation": [("step", EVERY)],
    "first network": [("step", 20)],
    "just after a network": [("step", STEPS + 1)],
    "last step": [("step", 2 * STEPS)],
    "first write": [("sync", 1)],
    "a renaming": [("rename", WRITES - 3)],
    "last write": [("sync", WRITES)],
    "again and again": [("step", 20), ("rename", 3), ("sync", 3), ("step", 13), ("step", 1)],
}


def count(module, name, counts, key, kill_at):
    """Let a function count its calls, and kill the process at one of them."""
    original, calls = getattr(module, name), itertools.count(1)

    def counted(*args, **options):
        counts[key] = next(calls)
        if counts[key] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)

    setattr(module, name, counted)


def fit(folder, answer, moment=(None, None)):
    """Fit and write down weights, curves and samples as a hash, and the number of steps taken."""
    counts = {"step": 0, "sync": 0, "rename": 0}
    kill_at = {moment[0]: moment[1]}
    count(training, "one_cycle", counts, "step", kill_at.get("step"))
    count(_files.os, "replace", counts, "rename", kill_at.get("rename"))
    sync = os.fsync
    count(_files.os, "fsync", counts, "sync", kill_at.get("sync", 0) * 2 - 1)  # file, then folder
    checkpoint._SHARE = 0  # write at every evaluation
    training.evaluation_interval = lambda max_iter: EVERY
    model = Diffusion(width=16, n_blocks=1, n_estimators=2, max_iter=STEPS, checkpoint=folder)
    model.set_params(device="cpu", random_state=0).fit(X)
    _files.os.fsync = sync
    parts = [t.numpy().tobytes() for t in model.denoiser_.state_dict().values()]
    parts += [repr(model.histories_).encode(), model.sample(5).tobytes()]
    result = {"hash": hashlib.sha256(b"".join(parts)).hexdigest(), "steps": counts["step"]}
    with open(answer, "w") as file:
        json.dump(result, file)


def in_process(*args):
    """Signal that ended `fit` in a process of its own, 0 if it came to its end."""
    pid = os.fork()
    if not pid:
        try:
            fit(*args)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(root):
    """Kill and resume at every moment."""
    torch.set_num_threads(1)
    Diffusion(max_iter=1, device="cpu").fit(X)  # what torch loads at the first step, once
    answer = os.path.join(root, "answer.json")

    def finished(folder):
        in_process(folder, answer)
        with open(answer) as file:
            return json.load(file)

    results = {"whole": finished(None)}
    for name, moments in MOMENTS.items():
        folder = os.path.join(root, name)
        codes = [in_process(folder, answer, moment) for moment in moments]
        results[name] = finished(folder) | {
            "killed": all(code == -signal.SIGKILL for code in codes),
            "files": os.listdir(folder),
        }
    results["finished"] = finished(folder)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
