"""The one optimisation loop, with EMA and held-out selection."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from alignlearn._replay import Replay
from alignlearn._team import ALONE, Exchange, Team
from alignlearn.checkpoint import Checkpoint


@dataclass
class TrainingHistory:
    """What happened during training.

    Attributes
    ----------
    steps : list of int
        Optimisation steps at which the losses below were taken.
    train_loss, held_out_loss : list of float
        What the model minimises, such as the weighted denoising loss, 1 for the best denoiser of
        isotropic Gaussian data; the first is a mean over the steps since the last entry, the second
        uses fixed draws and EMA weights.
    best_step : int
        Step whose EMA weights were kept.
    best_loss : float
        Their held-out loss.
    stopped : bool
        Whether a callback or an interruption ended training.
    """

    steps: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    held_out_loss: list[float] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.inf
    stopped: bool = False


def evaluation_interval(max_iter: int, n_evaluations: int = 40) -> int:
    """Steps between held-out evaluations."""
    return max(1, max_iter // n_evaluations)


def one_cycle(progress: float, warm_up: float = 0.1) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine down to zero."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


class _Weights:
    """Trainable parameters of a module as one vector, of which they become views.

    An optimiser of many small tensors spends its time on asking for them. Parameters of several
    dtypes or laid out otherwise stay as they are, and are the vectors.

    Parameters
    ----------
    module : nn.Module

    Attributes
    ----------
    vectors : list of nn.Parameter
        What an optimiser is given.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self.vectors = self._parameters
        alike = all(p.is_contiguous() and p.dtype == self.vectors[0].dtype for p in self.vectors)
        if len(self.vectors) > 1 and alike:
            self.vectors = [nn.Parameter(nn.utils.parameters_to_vector(self._parameters).detach())]
            nn.utils.vector_to_parameters(self.vectors[0].detach(), self._parameters)

    def zero_grad(self) -> None:
        """Forget gradients."""
        for p in self._parameters:
            p.grad = None

    def gather_gradients(self) -> None:
        """Give the vectors the gradients of the parameters."""
        if self.vectors is not self._parameters:
            gradients = (
                torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters
            )
            self.vectors[0].grad = nn.utils.parameters_to_vector(gradients)

    def separate(self) -> None:
        """Give the parameters memory of their own again."""
        if self.vectors is not self._parameters:
            for p in self._parameters:
                p.data = p.data.clone()


@dataclass
class TrainingState:
    """What the next step of training depends on, besides data and parameters.

    Attributes
    ----------
    module, average : nn.Module
        Weights in training and their exponential moving average.
    weights, averages : _Weights
        Theirs.
    optimizer : torch.optim.Optimizer
        With its moments.
    generator : torch.Generator
        Draws batches and noise.
    best : dict of Tensor
        Averaged weights of the lowest held-out loss.
    history : TrainingHistory
        Its last step is the last one evaluated.
    since_best : int
        Evaluations without improvement.
    """

    module: nn.Module
    average: nn.Module
    weights: _Weights
    averages: _Weights
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    best: dict[str, Tensor]
    history: TrainingHistory = field(default_factory=TrainingHistory)
    since_best: int = 0

    @classmethod
    def start(
        cls, module: nn.Module, learning_rate: float, generator: torch.Generator
    ) -> TrainingState:
        """State before the first step."""
        average = copy.deepcopy(module)
        weights, averages = _Weights(module), _Weights(average)
        optimizer = torch.optim.AdamW(
            weights.vectors, lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.01, fused=True
        )
        best = copy.deepcopy(average.state_dict())
        return cls(module, average, weights, averages, optimizer, generator, best)

    @property
    def step(self) -> int:
        """Last step evaluated."""
        return self.history.steps[-1] if self.history.steps else 0

    def evaluated(self, step: int, train_loss: float, held_out_loss: float) -> None:
        """Enter the losses of a step, and keep its averaged weights if they are the best."""
        history = self.history
        history.steps.append(step)
        history.train_loss.append(train_loss)
        history.held_out_loss.append(held_out_loss)
        self.since_best += 1
        if held_out_loss < history.best_loss:
            history.best_step, history.best_loss, self.since_best = step, held_out_loss, 0
            self.best = copy.deepcopy(self.average.state_dict())

    def state_dict(self, *, finished: bool = False) -> dict:
        """Plain values and tensors; of a finished training only what is asked of it later."""
        saved = {
            "best": dict(self.best),
            "history": dict(vars(self.history)),
            "since_best": self.since_best,
            "generator": self.generator.get_state(),
        }
        if not finished:
            saved["denoiser"] = dict(self.module.state_dict())  # its name in files of 0.1
            saved["average"] = dict(self.average.state_dict())
            saved["optimizer"] = self.optimizer.state_dict()
        return saved

    def load_state_dict(self, saved: dict) -> None:
        """Inverse of `state_dict`."""
        self.best, self.since_best = saved["best"], saved["since_best"]
        self.history = TrainingHistory(**saved["history"])
        self.generator.set_state(saved["generator"])
        parts = {"denoiser": self.module, "average": self.average, "optimizer": self.optimizer}
        for name, part in parts.items():
            if name in saved:
                part.load_state_dict(saved[name])


@torch.enable_grad()
def train(
    module: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    held_out: Callable[[nn.Module], float],
    *,
    max_iter: int,
    learning_rate: float,
    n_iter_no_change: int,
    generator: torch.Generator,
    on_evaluation: Callable[[TrainingHistory, dict], bool] = lambda history, best: False,
    checkpoint: Checkpoint | None = None,
    team: Team = ALONE,
    replayed: bool = False,
) -> TrainingHistory:
    """Train a module in place; it ends with the EMA weights of the lowest held-out loss.

    Parameters
    ----------
    module : nn.Module
        In float32.
    loss : callable
        Of the module, on a batch that it draws from `generator` and nothing else.
    held_out : callable
        Of the module, the same for the same weights; selects among evaluations.
    max_iter : int
        Optimisation steps.
    learning_rate : float
        Peak of the one-cycle schedule.
    n_iter_no_change : int
        Evaluations without improvement after which training stops.
    generator : torch.Generator
        On the device of the module; its state is kept in checkpoints.
    on_evaluation : callable, optional
        Called after each evaluation with the weights that would be kept now; True stops.
    checkpoint : Checkpoint, optional
        Where to go on from, if this training was begun there before, and to leave the state.
    team : Team, optional
        Processes that call this at the same time, with the same module and generator; the losses
        then give the part of each, and gradients are summed. All end with the same weights.
    replayed : bool, default=False
        The loss and its gradient are played back as a CUDA graph, see `alignlearn._replay.Replay`
        for what the loss must then be. Of no effect on a CPU, or in a team.

    Returns
    -------
    TrainingHistory

    Raises
    ------
    FloatingPointError
        If the loss becomes infinite or NaN.
    RuntimeError
        If another process of the team fails.

    Warns
    -----
    ConvergenceWarning
        On KeyboardInterrupt, in any process of the team, which ends training and keeps the best
        weights so far.
    """
    state = TrainingState.start(module, learning_rate, generator)
    if checkpoint is not None:
        checkpoint.restore(state)
    weights, optimizer, history = state.weights, state.optimizer, state.history
    decay = 0.5 ** (1 / max(1.0, 0.04 * max_iter))
    every = evaluation_interval(max_iter)
    running = torch.zeros((), device=generator.device, dtype=torch.float32)
    exchange = Exchange(team, weights.vectors)

    def gradients() -> Tensor:
        weights.zero_grad()
        batch_loss = loss(module)
        batch_loss.backward()
        weights.gather_gradients()
        return batch_loss.detach()

    device = generator.device
    on_gpu = device.type == "cuda" and team.size == 1
    differentiated = Replay(gradients, device, generator) if replayed and on_gpu else gradients
    try:
        with exchange:
            for step in range(state.step + 1, max_iter + 1):
                if history.stopped or state.since_best >= n_iter_no_change:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * one_cycle(step / max_iter)
                batch_loss = exchange(differentiated(), gradients=True)
                optimizer.step()
                with torch.no_grad():
                    running += batch_loss
                    share = 1 - min(decay, step / (step + 9))
                    torch._foreach_lerp_(state.averages.vectors, weights.vectors, share)
                if step % every and step != max_iter:
                    continue
                loss_now = float(exchange(held_out(state.average)))
                if not math.isfinite(loss_now):
                    raise FloatingPointError(
                        f"the training loss is not finite after {step} steps: lower learning_rate "
                        f"(now {learning_rate:g}) or look for extreme outliers in X."
                    )
                state.evaluated(step, float(running) / (step - state.step), loss_now)
                running.zero_()
                history.stopped = bool(exchange(bool(on_evaluation(history, state.best))))
                if checkpoint is not None and not history.stopped:
                    checkpoint.keep(state)
            if checkpoint is not None and not history.stopped:
                checkpoint.finish(state)
    except KeyboardInterrupt:
        history.stopped = True
        warnings.warn(
            f"training was interrupted; the weights of step {history.best_step} of {max_iter}, the "
            "best so far, are kept.",
            ConvergenceWarning,
            stacklevel=2,
        )
    if team.size > 1:  # one may have been interrupted just before, another just after the best
        state.best, history = team.first(
            lambda: ({name: value.cpu() for name, value in state.best.items()}, history)
        )
    module.load_state_dict(state.best)
    weights.separate()
    return history
