"""FlowMatching: a velocity field trained on paths between the user's data and a source."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from numbers import Real

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from alignlearn._arrays import make_generator
from alignlearn._callbacks import with_callbacks
from alignlearn._params import check_noise_range, check_window
from alignlearn._rows import Subset
from alignlearn.couplings import Coupling, EntropicCoupling, IndependentCoupling
from alignlearn.derivatives import ALL_COLUMNS
from alignlearn.flow import Denoiser, Flow
from alignlearn.matching import HeldOutMatchingLoss, MatchingLoss, SourceSampler
from alignlearn.models.density import log_densities, velocity_log_volume
from alignlearn.models.trained import TrainedModel, default_width
from alignlearn.models.velocity import SpanVelocity, VelocityNetwork
from alignlearn.paths import LinearPath, Path, SchroedingerBridgePath
from alignlearn.schedules import Schedule, VarianceExploding
from alignlearn.solvers import (
    ExponentialMidpoint,
    Field,
    Heun,
    RungeKutta4,
    Solver,
)
from alignlearn.sources import Source, StandardGaussian
from alignlearn.training import evaluation_interval, train


class FlowMatching(TrainedModel):
    """Flow matching: a velocity that carries a source to the data along prescribed paths.

    A network is trained on ``x_t = alpha x_0 + beta x_1 + gamma z`` between rows x_0 of the data
    and x_1 of a source (t = 0 data, t = 1 source) to predict ``alpha' x_0 + beta' x_1 + gamma' z``;
    its mean given x_t is the velocity of the flow. Independent pairs with a standard Gaussian
    source give the same process as a diffusion model; with coupled pairs or another source it is
    another one, which has no score.

    Parameters
    ----------
    path : Path, optional
        Default `LinearPath`; see `alignlearn.paths`.
    coupling : Coupling, optional
        Pairs rows of a batch, see `alignlearn.couplings`. Default: at random; for
        `SchroedingerBridgePath` ``EntropicCoupling(2 sigma^2)``, the bridge's own.
    source : Source or callable, optional
        Default `StandardGaussian`, in the model's coordinates (where the data have mean 0 and unit
        mean variance). A callable ``(n_samples, rng) -> (n_samples, D)``, with a NumPy generator,
        and `EightGaussians` are in the units of X.
    network : torch.nn.Module, optional
        Map ``(x (n, D), log_s () or (n, 1)) -> (n, D)``, copied by `fit`. Default: a
        `GatedNetwork` sized from the data.
    image_shape : (C, H, W) or (H, W), optional
        Rows are images: the default network is a `UNet`, see `Diffusion`.
    width : int, optional
        Width of the default network; default from n and D, for images 32 channels.
    n_blocks : int, default=3
        Blocks of the default network; for images of its coarsest level.
    max_iter : int, default=3000
        Optimisation steps at most.
    batch_size : int, default=256
        Rows of a step, and of a coupling.
    learning_rate : float, default=3e-3
        Peak learning rate of the one-cycle schedule.
    s_min : float, default=0.01
        Noise-to-signal ratio ``sqrt(beta^2 + gamma^2) / alpha`` at which the flow ends, in units of
        the data's standard deviation; raised to 1.1 times the noise that a path keeps at t = 0.
    window : (float, float), optional
        Ratios over which Lyapunov vectors are taken by default; default 2 and 20 times the
        smallest.
    validation_fraction : float, default=0.1
        Share of the rows held out, up to 20,000 of them; their loss decides when the weights are
        best.
    n_iter_no_change : int, default=8
        Evaluations (40 over `max_iter` steps) without improvement after which training stops.
    checkpoint : str or os.PathLike, optional
        Folder in which `fit` leaves its state and from which it goes on, see `Diffusion`.
    device : str or torch.device, optional
        None is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds weights, batches, source, noise and the held-out rows.

    Attributes
    ----------
    path_, coupling_, source_ : Path, Coupling, Source or callable
        What was taken.
    denoiser_ : torch.nn.Module
        The trained velocity, see `velocity` and `denoiser`.
    histories_ : list of TrainingHistory
        Training curve of the network.
    loss_ : float
        Held-out loss of the weights kept: the squared error of the velocity, weighted so that 1 is
        the best for isotropic Gaussian data with independent pairs.
    n_iter_ : int
        Steps taken.

    References
    ----------
    Y. Lipman et al., "Flow matching for generative modeling", ICLR 2023.

    A. Tong et al., "Improving and generalizing flow-based generative models with minibatch optimal
    transport", TMLR 2024.

    Examples
    --------
    >>> from alignlearn.couplings import OptimalTransportCoupling
    >>> from alignlearn.datasets import make_torus
    >>> from alignlearn.models import FlowMatching
    >>> X = make_torus(500, random_state=0).points
    >>> model = FlowMatching(coupling=OptimalTransportCoupling(), max_iter=20, random_state=0)
    >>> model.fit(X).sample(4).shape
    (4, 3)
    """

    def __init__(
        self,
        *,
        path=None,
        coupling=None,
        source=None,
        network=None,
        image_shape=None,
        width=None,
        n_blocks=3,
        max_iter=3000,
        batch_size=256,
        learning_rate=3e-3,
        s_min=0.01,
        window=None,
        validation_fraction=0.1,
        n_iter_no_change=8,
        checkpoint=None,
        device=None,
        random_state=None,
    ):
        self.path = path
        self.coupling = coupling
        self.source = source
        self.network = network
        self.image_shape = image_shape
        self.width = width
        self.n_blocks = n_blocks
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.s_min = s_min
        self.window = window
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y=None):
        """Train on X, together with the other processes where `torch.distributed` is initialised.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or iterable of such blocks
            Rows of an `np.memmap` stay on disk; blocks are written to a temporary file first. See
            docs/guide/training_at_scale.md.
        y : Ignored

        Returns
        -------
        self : FlowMatching

        Raises
        ------
        TypeError, ValueError
            If X or a parameter is not usable, the source gives rows of another dimension or not
            finite, or the checkpoint folder holds another fit; or if processes that fit together
            were given different things.
        FloatingPointError
            If the loss becomes infinite or NaN.
        RuntimeError
            If another process that fits together with this one has failed.

        Warns
        -----
        ConvergenceWarning
            On KeyboardInterrupt, which ends training and keeps the best weights so far.
        RuntimeWarning
            If a checkpoint cannot be written; training goes on, the last one written stays.
        """
        self._check_params()
        data = x = self._training_rows(X)
        device = x.device
        path, coupling, source = self._resolved()
        noise_range, window = self._ranges(path)
        span = self._span_basis(x) if isinstance(source, StandardGaussian) else None
        x = x if span is None else x @ span
        sampler = SourceSampler(source, self.scaling_, x.shape[1])
        sampler(2, np.random.default_rng(0))  # refuse what does not fit before anything is written
        team, checkpoint, rng = self._begin(data)
        generator = make_generator(rng, device)
        size = sampler.size(np.random.default_rng(rng.randint(np.iinfo(np.int32).max)))
        width = default_width(*x.shape)
        network = self._make_network(x.shape[1], width, rng)
        field = VelocityNetwork(network, path.schedule, size, noise_range[0]).to(device)
        n_evaluations = -(-self.max_iter // evaluation_interval(self.max_iter))
        context = self._init_callback_context(max_subtasks=n_evaluations)
        context.call_on_fit_task_begin(estimator=self)

        def learned(field, history):
            whole = field if span is None else SpanVelocity(field, span)
            return {
                "path_": path,
                "coupling_": coupling,
                "source_": source,
                "denoiser_": whole.requires_grad_(False).eval(),
                "histories_": [history],
                "loss_": history.best_loss,
                "n_iter_": history.steps[-1] if history.steps else 0,
                "noise_range_": noise_range,
                "window_": window,  # last: with it the model is fitted
            }

        def on_evaluation(history, best):
            def fitted():  # asked for by callbacks that score: the model if training ended here
                last = copy.deepcopy(field)
                last.load_state_dict(best)
                return learned(last, copy.deepcopy(history))

            task = context.subcontext(task_name="evaluation").call_on_fit_task_begin(estimator=self)
            return task.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes=fitted
            )

        def loss_of(rows):
            return MatchingLoss(
                rows, sampler, coupling, path, field.t_min, size, self.batch_size, generator, team
            )

        order = torch.randperm(len(x), generator=generator, device=device)
        kept, held = self._split(order, 0)
        loss, held_out = loss_of(Subset(x, kept)), HeldOutMatchingLoss(loss_of(x[held]))
        with self._training_threads(width):
            history = train(
                field,
                lambda module: loss(module.velocity),
                lambda module: held_out(module.velocity),
                max_iter=self.max_iter,
                learning_rate=self.learning_rate,
                n_iter_no_change=self.n_iter_no_change,
                generator=generator,
                on_evaluation=on_evaluation,
                checkpoint=checkpoint,
                team=team,
            )
        vars(self).update(self._probed(learned(field, history), x))
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    @property
    def has_score(self) -> bool:
        """Whether pairs are independent and the source is standard Gaussian: a diffusion model."""
        check_is_fitted(self)
        independent = isinstance(self.coupling_, IndependentCoupling)
        return independent and isinstance(self.source_, StandardGaussian)

    def default_solver(self) -> Solver:
        """Process whose Lyapunov vectors are taken by default: the flow itself, an ODE.

        In variance-exploding coordinates ``x / alpha``, so that exponents compare with those of
        other families; `RungeKutta4` steps in x.
        """
        check_is_fitted(self)
        return ExponentialMidpoint(VarianceExploding(*self.noise_range_))

    def denoiser(self) -> Denoiser:
        """The point of the data that the velocity points to, ``Den(y, s)``, see `VelocityNetwork`.

        ``E[x_0 | x_t]`` if there is no noise on the path, or if pairs are independent and the
        source is standard Gaussian; only then a denoiser of Gaussian noise, see `has_score`.
        """
        return self.denoiser_

    def velocity(self) -> Field:
        """The trained velocity, callable ``(x (n, D), t) -> dx/dt`` in the model's coordinates.

        For all t from 0, the data, to 1, the source; before the time of `s_min` it is that there.
        """
        check_is_fitted(self)
        return self.denoiser_.velocity

    def flow(
        self,
        *,
        solver: Solver | None = None,
        n_steps: int = 24,
        window: tuple[float, float] | None = None,
    ) -> Flow:
        """The generating process, from the source at t = 1 to the data.

        Parameters
        ----------
        solver : Solver, optional
            Default `RungeKutta4`. Solvers of a velocity step in the model's own coordinates x,
            where a state at time t is about ``alpha(t)`` times the data; those of a denoiser in
            the coordinates of their schedule, see `GenerativeModel.flow`.
        n_steps : int, default=24
            Steps, log-uniform in t.
        window : (s_min, s_max), optional
            Ratios ``sqrt(beta^2 + gamma^2) / alpha`` to run between; default from the source,
            at t = 1 exactly, to the time of `s_min`.

        Returns
        -------
        Flow
            Its exponents are -1 for a direction that the path alone contracts.

        Raises
        ------
        ValueError
            If `solver` is stochastic and the model has no score.
        """
        check_is_fitted(self)
        solver = RungeKutta4() if solver is None else solver
        self._check_solver(solver)
        if not solver.takes_velocity:
            return super().flow(solver=solver, n_steps=n_steps, window=window)
        times = self._times(n_steps, window)
        sigma = self.path_.schedule.sigma(times)
        elapsed = math.log(sigma[0] / sigma[-1])
        return Flow(self.velocity(), solver, times, elapsed, self.derivative)

    def _times(self, n_steps: int, window: tuple[float, float] | None) -> Tensor:
        if n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {n_steps}.")
        ratios = torch.tensor(self.noise_range_ if window is None else window).double()
        log_low, log_high = self.path_.time(ratios).log().tolist()
        log_high = 0.0 if window is None else log_high
        return torch.linspace(log_high, log_low, n_steps + 1, dtype=torch.float64).exp()

    def _schedule_of(self, solver: Solver) -> Schedule:
        return getattr(solver, "schedule", self.path_.schedule)

    def _draw_source(self, flow: Flow, n_samples: int, generator: torch.Generator) -> Tensor:
        """Points (n_samples, D) at the noise end of a flow, in its coordinates."""
        rng = np.random.default_rng(int(torch.randint(2**31 - 1, (), generator=generator)))
        z = self._sampler()(n_samples, rng).to(self.gaussian_.basis)
        return self._schedule_of(flow.solver).sigma(flow.times[0]).to(z) * z

    def score_samples(self, X) -> np.ndarray:
        """Log density of the data smoothed at the smallest ratio, in the user's units.

        Change of variables along the flow to the source, whose density must be known; with the
        exact log determinant of the discrete flow up to 128 features and an estimate from random
        probes, shared by all rows, beyond.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_density : ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If the source has no density.
        """
        check_is_fitted(self)
        if not isinstance(self.source_, Source):
            raise ValueError(
                f"score_samples needs a source with a density, got {self.source_!r}: take "
                "StandardGaussian, EightGaussians or a class derived from Source."
            )
        x, D = self.encode(X).double(), self.n_features_in_
        flow = replace(
            self.flow(solver=Heun()), field=copy.deepcopy(self.denoiser_).double().velocity
        )
        alpha = float(self.path_.alpha(flow.times[-1]))

        chunks = self._row_chunks(len(x), min(D, ALL_COLUMNS))
        volume = partial(velocity_log_volume, flow)
        values = log_densities(flow, alpha * x, chunks, self._source_log_density, volume)
        return values + D * (math.log(alpha) - self.scaling_.log_unit)

    def _source_log_density(self, z: Tensor) -> np.ndarray:
        """Log density (n,) of the source at rows z (n, D), both in the model's coordinates."""
        if self.source_.scales_with_data:
            return self.source_.log_density(z.double().cpu().numpy())
        log_p = self.source_.log_density(self.decode(z))
        return log_p + self.n_features_in_ * self.scaling_.log_unit

    def _sampler(self) -> SourceSampler:
        return SourceSampler(self.source_, self.scaling_, self.n_features_in_)

    def _resolved(self) -> tuple:
        """Path, coupling and source with their defaults."""
        path = LinearPath() if self.path is None else self.path
        coupling = IndependentCoupling() if self.coupling is None else self.coupling
        if self.coupling is None and isinstance(path, SchroedingerBridgePath):
            coupling = EntropicCoupling(2 * path.sigma**2)
        return path, coupling, StandardGaussian() if self.source is None else self.source

    def _ranges(self, path: Path) -> tuple[tuple[float, float], tuple[float, float]]:
        """Noise range and window."""
        kept_noise = float(path.gamma(torch.zeros(())))
        low = max(float(self.s_min), 1.1 * kept_noise)
        leading = float(self.gaussian_.variances.max()) ** 0.5
        high = max(5.0, 3 * leading, 25 * low)
        window = (2 * low, 20 * low) if self.window is None else tuple(self.window)
        check_noise_range(low, high, window)
        return (low, high), window

    def _check_params(self) -> None:
        self._check_training_params()
        check_scalar(self.s_min, "s_min", Real, min_val=0, include_boundaries="neither")
        if not np.isfinite(self.s_min):
            raise ValueError(f"s_min must be finite, got {self.s_min}.")
        if self.window is not None:
            check_window(self.window)
        for name, kind in (("path", Path), ("coupling", Coupling)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise TypeError(
                    f"{name} must be a {kind.__name__} of alignlearn.{name}s or None, got "
                    f"{value!r}."
                )
        source = self.source
        usable = isinstance(source, Source) or (callable(source) and not isinstance(source, type))
        if source is not None and not usable:
            raise TypeError(
                "source must be a Source of alignlearn.sources, a callable (n_samples, rng) -> "
                f"(n_samples, n_features) or None, got {source!r}."
            )
