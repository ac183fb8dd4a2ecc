"""Fits of several processes together, started by torchrun, and what each of them ended with.

``torchrun --nproc-per-node 2 team_fits.py FOLDER`` writes one JSON file for each process. Without a
launcher it is one process: what the others are compared with.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from alignlearn import LyapunovManifold
from alignlearn.couplings import OptimalTransportCoupling
from alignlearn.datasets import make_sphere
from alignlearn.models import Diffusion, FlowMatching

RANK = int(os.environ.get("RANK", 0))
X = make_sphere(90, 2, random_state=0).points
SMALL = {"width": 16, "n_blocks": 1, "max_iter": 24, "random_state": 0}
# 33 rows of a step: the shares are not equal.
DIFFUSION = {**SMALL, "n_estimators": 2, "batch_size": 33}


class Network(nn.Module):
    """One linear layer; in some process calls an event in a step, or in an evaluation.

    Training has a copy for steps and one for evaluations, and each counts its own.
    """

    def __init__(self, event=None, rank=1, at=9, *, evaluating=False):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        with torch.no_grad():
            self.layer.weight.copy_(0.1 * torch.eye(3))
            self.layer.bias.zero_()
        self.event, self.rank, self.at, self.evaluating = event, rank, at, evaluating
        self.count = 0

    def forward(self, x, log_s):
        if self.layer.weight.requires_grad:  # not what asks the trained one
            self.count += torch.is_grad_enabled() != self.evaluating
            if self.event and self.count == self.at and self.rank == RANK:
                self.event()
        return self.layer(x)


def interrupt():
    raise KeyboardInterrupt


def fail():
    raise OSError("no such luck")


def eventful(*args, **options):
    """A single small network of the user's."""
    return Diffusion(network=Network(*args, **options), n_estimators=1, max_iter=80, random_state=0)


def manifold(**options):
    return LyapunovManifold(
        model=Diffusion(**DIFFUSION | {"random_state": None}),
        n_steps=2,
        n_paths=1,
        n_reference=10,
        **options,
    )


def other_rows():
    return X if RANK == 0 else X + 1e-6


def rows_with_nan():
    rows = X.copy()
    rows[3, 1] = np.nan if RANK == 1 else 0.0
    return rows


class StopInOne:
    """`on_evaluation` of a model that ends training in the second process, at the third call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, history, best):
        self.calls += 1
        return RANK == 1 and self.calls == 3


def stopped_by_a_callback():
    from alignlearn._team import Team
    from alignlearn.denoising import DenoisingLoss, HeldOutLoss
    from alignlearn.training import train

    generator, team = torch.Generator().manual_seed(0), Team.current()
    x, network = torch.tensor(X, dtype=torch.float32), Network()
    history = train(
        network,
        DenoisingLoss(x, (0.01, 5.0), 33, generator, team),
        HeldOutLoss(x, (0.01, 5.0), generator, team=team),
        max_iter=80,
        learning_rate=1e-3,
        n_iter_no_change=99,
        generator=generator,
        on_evaluation=StopInOne(),
        team=team,
    )
    return {"weights": network.layer.weight.flatten().tolist(), "steps": history.steps}


def resumed(folder):
    """A fit that goes on in both processes after it was interrupted in one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        eventful(interrupt, at=40).set_params(checkpoint=folder).fit(X)
    return eventful().set_params(checkpoint=folder).fit(X)


def outcome(fit):
    """Weights, curves and warnings of a fit, or its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = fit()
        except Exception as error:  # what is asked for
            return {"error": f"{type(error).__name__}: {error}"}
    if isinstance(fitted, dict):
        return fitted
    model = getattr(fitted, "model_", fitted)
    weights = [w.flatten() for w in model.denoiser_.state_dict().values()]
    return {
        "weights": torch.cat(weights).tolist(),
        "steps": [h.steps for h in model.histories_],
        "held_out": [h.held_out_loss for h in model.histories_],
        "train": [h.train_loss for h in model.histories_],
        "dimension": getattr(fitted, "dimension_", None),
        "exponents": getattr(fitted, "exponents_", np.zeros(0)).tolist(),
        "warnings": [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)],
    }


def fits(folder):
    """What is fitted, by name; in this order in every process."""
    mapped = np.memmap(folder / "rows", np.float64, "r", shape=X.shape)
    coupled = {**SMALL, "coupling": OptimalTransportCoupling(), "batch_size": 33}
    return {
        "Diffusion": lambda: Diffusion(**DIFFUSION).fit(X),
        "FlowMatching": lambda: FlowMatching(**coupled).fit(X),
        "rows on disk": lambda: Diffusion(**DIFFUSION).fit(mapped),
        "LyapunovManifold": lambda: manifold(random_state=0).fit(X),
        "network of the user": lambda: eventful().fit(X),
    }


def quarrels(folder):
    """What must end, alike in all processes, and how is in the tests."""
    kept = {"checkpoint": folder / f"kept by {RANK}"}
    return {
        "other rows": lambda: Diffusion(**DIFFUSION).fit(other_rows()),
        "fewer rows": lambda: Diffusion(**DIFFUSION).fit(X[RANK:]),
        "another parameter": lambda: Diffusion(**DIFFUSION | {"width": 8 + RANK}).fit(X),
        "no seed": lambda: Diffusion(**DIFFUSION | {"random_state": None}).fit(X),
        "no seed of the manifold": lambda: manifold().fit(X),
        "NaN": lambda: Diffusion(**DIFFUSION).fit(rows_with_nan()),
        "tiny batch": lambda: Diffusion(**DIFFUSION | {"batch_size": 1}).fit(X),
        "failure in a step": lambda: eventful(fail).fit(X),
        "failure in an evaluation": lambda: eventful(fail, evaluating=True, at=5).fit(X),
        "interrupt in a step": lambda: eventful(interrupt).fit(X),
        "interrupt in the first": lambda: eventful(interrupt, rank=0, at=1).fit(X),
        "interrupt in an evaluation": lambda: eventful(interrupt, evaluating=True, at=5).fit(X),
        "callback": stopped_by_a_callback,
        "resumed": lambda: resumed(folder / "resumed"),
        "checkpoint": lambda: eventful(interrupt, at=40).set_params(**kept).fit(X),
    }


def main(folder):
    """Everything in one go: a launch takes longer than all of it."""
    torch.set_num_threads(1)
    together = "RANK" in os.environ
    if together:
        dist.init_process_group("gloo")
    todo = fits(folder) | (quarrels(folder) if together else {})
    found = {name: outcome(fit) for name, fit in todo.items()}
    (folder / f"process {RANK if together else 'alone'}.json").write_text(json.dumps(found))
    if together:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
