"""Answers streamed to a file and killed with SIGKILL, each in a process of its own, and continued.

``python killed_streams.py FOLDER`` prints what came out as JSON, see `killed_fits`.
"""

import itertools
import json
import os
import signal
import sys
import warnings
from contextlib import suppress

import numpy as np
import torch
from sklearn import config_context

from alignlearn import LyapunovManifold, save, streaming
from alignlearn.datasets import make_sphere
from alignlearn.models import GaussianModel

N_ROWS, N_CHUNKS = 24, 6
X = make_sphere(N_ROWS, 2, random_state=0).points

# In which chunk: before it is computed, when it is written and not entered, in the line of it.
MOMENTS = {
    "before the first chunk": [("answer", 1)],
    "in the middle": [("answer", 4)],
    "written, not entered": [("enter", 3)],
    "in the first line": [("line", 1)],
    "in a line": [("line", 3)],
    "last chunk": [("line", N_CHUNKS)],
    "again and again": [("answer", 2), ("line", 2), ("enter", 1), ("answer", 1), ("line", 1)],
}
LEFT = "left"  # by a process that was killed, for another one to end
LEFT_AFTER = 4


class Watched(GaussianModel):
    """Counts the chunks that it answers, in any process, as lines of a file of that name.

    With a file ``deadly`` beside it, the process that answers the third is killed.
    """

    log = None

    def default_solver(self):
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write("chunk\n")
            deadly = os.path.join(os.path.dirname(self.log), "deadly")
            if n_answered(self.log) >= 3:
                with suppress(FileNotFoundError):  # two may come here at once, and one is to die
                    os.unlink(deadly)
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().default_solver()


def n_answered(log):
    """Chunks that were answered so far."""
    with open(log) as file:
        return len(file.readlines())


def manifold(model=None):
    """Fitted in no time."""
    model = GaussianModel() if model is None else model
    m = LyapunovManifold(model=model, n_steps=2, n_paths=1, n_reference=9, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return m.fit(X)


def in_chunks(m):
    """A budget of memory that splits X into `N_CHUNKS`."""
    row = m.model_._bytes_per_column() * X.shape[1]
    return config_context(working_memory=(N_ROWS / N_CHUNKS + 0.5) * row / 2**20)


def stream(m, folder, kill=(None, None)):
    """Stream tangent spaces to a file, and be killed at a moment."""
    moment, at = kill
    calls = itertools.count(1)
    answer, add = streaming._answer, streaming.Journal.add

    def die(which):
        if moment == which and next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def answered(*args):
        die("answer")
        with open(os.path.join(folder, "log"), "a") as file:
            file.write("chunk\n")
        return answer(*args)

    def entered(journal, place, array):
        die("enter")
        before = journal.path.read_bytes()
        add(journal, place, array)
        if moment == "line" and next(calls) == at:
            whole = journal.path.read_bytes()
            journal.path.write_bytes(whole[: (len(before) + len(whole)) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    streaming._answer, streaming.Journal.add = answered, entered
    with in_chunks(m):
        m.tangent_space(X, 2, out=os.path.join(folder, "out.npy"))


def in_process(*args):
    """Signal that ended `stream` in a process of its own, 0 if it came to its end."""
    pid = os.fork()
    if not pid:
        try:
            stream(*args)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(root):
    """Kill and go on at every moment."""
    torch.set_num_threads(1)
    m = manifold()
    save(m, os.path.join(root, "manifold.safetensors"))
    with in_chunks(m):
        whole = m.tangent_space(X, 2)
    results = {}
    for name, kills in (MOMENTS | {LEFT: [("answer", LEFT_AFTER)]}).items():
        folder = os.path.join(root, name)
        os.mkdir(folder)
        codes = [in_process(m, folder, kill) for kill in kills]
        if name == LEFT:
            continue
        ended = in_process(m, folder)
        results[name] = {
            "killed": all(code == -signal.SIGKILL for code in codes),
            "ended": ended,
            "equal": bool((np.load(os.path.join(folder, "out.npy")) == whole).all()),
            "answered": n_answered(os.path.join(folder, "log")),
            "files": sorted(os.listdir(folder)),
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
