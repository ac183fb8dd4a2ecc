"""Diffusion: a denoiser trained on the user's data."""

from __future__ import annotations

import copy
from numbers import Integral, Real

import torch
from sklearn.utils import check_random_state, check_scalar
from torch import Tensor, nn

from alignlearn._arrays import make_generator, resolve_device
from alignlearn._callbacks import CallbackSupportMixin, with_callbacks
from alignlearn.flow import Denoiser
from alignlearn.models.base import GenerativeModel, check_noise_range
from alignlearn.networks import GatedNetwork
from alignlearn.training import HeldOutLoss, evaluation_interval, train_denoiser


class PreconditionedDenoiser(nn.Module):
    """``Den(y, s) = c_skip y + c_out network(c_in y, log s)`` (Karras et al. 2022, unit data).

    ``c_skip = 1/(1 + s^2), c_out = s / sqrt(1 + s^2), c_in = 1 / sqrt(1 + s^2)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Rows y (n, D) at noise s, 0-dimensional or (n, 1)."""
        s = s.to(y)
        c_in = torch.rsqrt(1 + s * s)
        return c_in * c_in * y + s * c_in * self.network(c_in * y, torch.log(s))


class Diffusion(CallbackSupportMixin, GenerativeModel):
    """Diffusion model of vectors: denoising score matching with a gated residual network.

    Part of the rows is held out; the weights with the lowest held-out denoising loss are kept, so
    that small or noisy data are not memorised.

    Parameters
    ----------
    network : torch.nn.Module, optional
        Map ``(x (n, D), log_s () or (n, 1)) -> (n, D)``, copied by `fit`. Default: a
        `GatedNetwork` sized from the data.
    width : int, optional
        Width of the default network; default from n and D.
    n_blocks : int, default=3
        Blocks of the default network.
    max_iter : int, default=3000
        Optimisation steps at most. More steps give better tangent spaces where data suffice.
    batch_size : int, default=256
        Rows of a step.
    learning_rate : float, default=3e-3
        Peak learning rate of the one-cycle schedule.
    s_min : float, default=0.01
        Smallest noise level, in units of the data's standard deviation (root mean variance).
    s_max : float, optional
        Largest one; default three standard deviations of the leading principal axis, at least 5,
        so that the law at the noise end is nearly Gaussian.
    window : (float, float), default=(0.02, 0.2)
        Noise levels over which Lyapunov vectors are taken by default.
    validation_fraction : float, default=0.1
        Share of the rows held out.
    n_iter_no_change : int, default=10
        Evaluations (40 over `max_iter` steps) without improvement after which training stops.
    device : str or torch.device, optional
        None is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds weights, batches, noise and the held-out rows.

    Attributes
    ----------
    denoiser_ : torch.nn.Module
        The trained denoiser.
    history_ : TrainingHistory
        Training curve.
    loss_ : float
        Held-out denoising loss of the weights kept; 1 means no structure was found.
    n_iter_ : int
        Steps taken.

    Examples
    --------
    >>> from alignlearn.datasets import make_torus
    >>> from alignlearn.models import Diffusion
    >>> X = make_torus(500, random_state=0).points
    >>> model = Diffusion(max_iter=20, random_state=0).fit(X)
    >>> model.sample(4).shape
    (4, 3)
    """

    def __init__(
        self,
        *,
        network=None,
        width=None,
        n_blocks=3,
        max_iter=3000,
        batch_size=256,
        learning_rate=3e-3,
        s_min=0.01,
        s_max=None,
        window=(0.02, 0.2),
        validation_fraction=0.1,
        n_iter_no_change=10,
        device=None,
        random_state=None,
    ):
        self.network = network
        self.width = width
        self.n_blocks = n_blocks
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.s_min = s_min
        self.s_max = s_max
        self.window = window
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y=None):
        """Train on X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        self : Diffusion

        Raises
        ------
        ValueError
            If X or a parameter is not usable.
        FloatingPointError
            If the loss becomes infinite or NaN.
        """
        self._check_params()
        device = resolve_device(self.device)
        x = self._fit_scaling(X, torch.float32, device)
        rng = check_random_state(self.random_state)
        generator = make_generator(rng, device)
        n_held = round(self.validation_fraction * len(x))
        order = torch.randperm(len(x), generator=generator, device=device)
        # Fewer than two rows on a side select nothing: train and select on all of them.
        held, kept = (order[:n_held], order[n_held:]) if n_held > 1 else (order, order)
        leading = float(self.gaussian_.variances.max()) ** 0.5
        noise_range = (
            float(self.s_min),
            max(5.0, 3 * leading) if self.s_max is None else self.s_max,
        )
        held_out = HeldOutLoss(x[held], noise_range, generator)
        denoiser = PreconditionedDenoiser(self._make_network(len(x), rng)).to(device)
        n_evaluations = -(-self.max_iter // evaluation_interval(self.max_iter))
        context = self._init_callback_context(max_subtasks=n_evaluations)
        context.call_on_fit_task_begin(estimator=self)

        def on_evaluation(history):
            task = context.subcontext(task_name="evaluation").call_on_fit_task_begin(estimator=self)
            return task.call_on_fit_task_end(estimator=self)

        self.history_ = train_denoiser(
            denoiser,
            x[kept],
            held_out,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            noise_range=noise_range,
            n_iter_no_change=self.n_iter_no_change,
            generator=generator,
            on_evaluation=on_evaluation,
        )
        context.call_on_fit_task_end(estimator=self)
        self.denoiser_ = denoiser.requires_grad_(False).eval()
        self.noise_range_, self.window_ = noise_range, tuple(self.window)
        self.loss_ = self.history_.best_loss
        self.n_iter_ = self.history_.steps[-1] if self.history_.steps else 0
        return self

    def denoiser(self) -> Denoiser:
        """The trained denoiser."""
        return self.denoiser_

    def _make_network(self, n_samples: int, rng) -> nn.Module:
        if self.network is not None:
            return copy.deepcopy(self.network)
        D = self.n_features_in_
        width = default_width(n_samples, D) if self.width is None else self.width
        return GatedNetwork(D, width=width, n_blocks=self.n_blocks, generator=make_generator(rng))

    def _bytes_per_column(self) -> int:
        n_hidden = max((p.shape[0] for p in self.denoiser_.parameters()), default=1)
        return 32 * (self.n_features_in_ + n_hidden)

    def _check_params(self) -> None:
        for name in ("n_blocks", "max_iter", "batch_size", "n_iter_no_change"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        if self.width is not None:
            check_scalar(self.width, "width", Integral, min_val=1)
        for name in ("learning_rate", "s_min", "s_max"):
            value = getattr(self, name)
            if value is not None or name != "s_max":
                check_scalar(value, name, Real, min_val=0, include_boundaries="neither")
        check_scalar(
            self.validation_fraction,
            "validation_fraction",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="left",
        )
        if self.network is not None and not isinstance(self.network, nn.Module):
            raise ValueError(
                f"network must be a torch.nn.Module or None, got {type(self.network).__name__}."
            )
        check_noise_range(self.s_min, 5.0 if self.s_max is None else self.s_max, self.window)


def default_width(n_samples: int, n_features: int) -> int:
    """Width of the default network: what n rows can teach, and D asks for."""
    return 64 if n_samples * n_features < 20_000 else 128
