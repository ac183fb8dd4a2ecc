"""The one optimisation loop: denoising score matching with EMA and held-out selection."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn


@dataclass
class TrainingHistory:
    """What happened during training.

    Attributes
    ----------
    steps : list of int
        Optimisation steps at which the losses below were taken.
    train_loss, held_out_loss : list of float
        Weighted denoising loss, 1 for the best denoiser of isotropic Gaussian data; the first is a
        mean over the steps since the last entry, the second uses fixed noise and EMA weights.
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


# Geometry is decided at small noise: above this level, in standard deviations, lie few draws.
COARSE, COARSE_SHARE = 2.0, 0.1


def draw_noise_levels(
    n: int,
    noise_range: tuple[float, float],
    generator: torch.Generator,
    coarse_share: float = COARSE_SHARE,
) -> Tensor:
    """Noise levels (n, 1), stratified, log-uniform on either side of `COARSE`.

    `coarse_share` of them lie above `COARSE`, where the denoiser is nearly linear.
    """
    low, high = math.log(noise_range[0]), math.log(noise_range[1])
    middle = min(max(math.log(COARSE), low), high)
    share = coarse_share if low < middle < high else float(middle == low)
    jitter = torch.rand(n, generator=generator, device=generator.device)
    u = (torch.arange(n, device=generator.device) + jitter) / n
    fine = low + (middle - low) * u / max(1 - share, 1e-12)
    coarse = middle + (high - middle) * (u - 1 + share) / max(share, 1e-12)
    return torch.exp(torch.where(u < 1 - share, fine, coarse))[:, None]


def denoising_loss(denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, s: Tensor, z: Tensor):
    """Mean of ``(1 + s^2) / s^2 |Den(x + s z, s) - x|^2 / D`` over rows (Karras et al. 2022)."""
    error = denoise(x + s * z, s) - x
    return ((1 + s * s) / (s * s) * error * error).mean()


class HeldOutLoss:
    """Denoising loss of held-out rows, noise drawn once: comparable between steps and models.

    Over noise levels up to `COARSE`, the ones that decide the geometry.
    """

    def __init__(
        self,
        x: Tensor,
        noise_range: tuple[float, float],
        generator: torch.Generator,
        n_draws: int = 2000,
    ) -> None:
        repeats = max(1, n_draws // len(x))
        self.x = x.repeat(repeats, 1)
        s = draw_noise_levels(len(self.x), noise_range, generator, coarse_share=0.0)
        order = torch.randperm(len(s), generator=generator, device=generator.device)
        self.s = s[order].to(x)
        self.z = torch.randn(self.x.shape, generator=generator, device=x.device, dtype=x.dtype)

    @torch.no_grad()
    def __call__(self, denoise: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Loss of a denoiser."""
        return float(denoising_loss(denoise, self.x, self.s, self.z))


def evaluation_interval(max_iter: int, n_evaluations: int = 40) -> int:
    """Steps between held-out evaluations."""
    return max(1, max_iter // n_evaluations)


def one_cycle(progress: float, warm_up: float = 0.1) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine down to zero."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def train_denoiser(
    denoiser: nn.Module,
    x: Tensor,
    held_out: HeldOutLoss,
    *,
    max_iter: int,
    batch_size: int,
    learning_rate: float,
    noise_range: tuple[float, float],
    n_iter_no_change: int,
    generator: torch.Generator,
    on_evaluation: Callable[[TrainingHistory, dict], bool] = lambda history, best: False,
) -> TrainingHistory:
    """Train a denoiser in place; it ends with the EMA weights of the lowest held-out loss.

    Parameters
    ----------
    denoiser : nn.Module
        ``(y, s) -> E[x | y]``.
    x : Tensor of shape (n, D)
        Training rows.
    held_out : HeldOutLoss
        Selects among evaluations.
    max_iter : int
        Optimisation steps.
    batch_size : int
        Rows of a step, drawn with replacement.
    learning_rate : float
        Peak of the one-cycle schedule.
    noise_range : (s_min, s_max)
        Log-uniform range of noise levels.
    n_iter_no_change : int
        Evaluations without improvement after which training stops.
    generator : torch.Generator
        On the device of x.
    on_evaluation : callable, optional
        Called after each evaluation with the weights that would be kept now; True stops.

    Returns
    -------
    TrainingHistory

    Raises
    ------
    FloatingPointError
        If the loss becomes infinite or NaN.

    Warns
    -----
    ConvergenceWarning
        On KeyboardInterrupt, which ends training and keeps the best weights so far.
    """
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.01, fused=True
    )
    average = copy.deepcopy(denoiser)
    average_parameters = [p for p in average.parameters() if p.requires_grad]
    best = copy.deepcopy(average.state_dict())
    decay = 0.5 ** (1 / max(1.0, 0.04 * max_iter))
    every = evaluation_interval(max_iter)
    history, since_best = TrainingHistory(), 0
    running = torch.zeros((), device=x.device)
    options = {"generator": generator, "device": x.device}
    try:
        for step in range(1, max_iter + 1):
            rows = torch.randint(len(x), (batch_size,), **options)  # type: ignore[call-overload]
            x_0 = x[rows]
            z = torch.randn(x_0.shape, **options)  # type: ignore[call-overload]
            s = draw_noise_levels(batch_size, noise_range, generator)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * one_cycle(step / max_iter)
            optimizer.zero_grad()
            loss = denoising_loss(denoiser, x_0, s, z)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                running += loss
                weight = 1 - min(decay, step / (step + 9))
                torch._foreach_lerp_(average_parameters, parameters, weight)
            if step % every and step != max_iter:
                continue
            loss_now = held_out(average)
            if not math.isfinite(loss_now):
                raise FloatingPointError(
                    f"the denoising loss is not finite after {step} steps: lower learning_rate "
                    f"(now {learning_rate:g}) or look for extreme outliers in X."
                )
            since_last = step - (history.steps[-1] if history.steps else 0)
            history.steps.append(step)
            history.train_loss.append(float(running) / since_last)
            history.held_out_loss.append(loss_now)
            running.zero_()
            since_best += 1
            if loss_now < history.best_loss:
                history.best_step, history.best_loss, since_best = step, loss_now, 0
                best = copy.deepcopy(average.state_dict())
            history.stopped = bool(on_evaluation(history, best))
            if history.stopped or since_best >= n_iter_no_change:
                break
    except KeyboardInterrupt:
        history.stopped = True
        warnings.warn(
            f"training was interrupted; the weights of step {history.best_step} of {max_iter}, the "
            "best so far, are kept.",
            ConvergenceWarning,
            stacklevel=2,
        )
    denoiser.load_state_dict(best)
    return history
