"""PretrainedModel: a network that exists already, whatever it predicts and however it counts."""

from __future__ import annotations

import math
import warnings
from itertools import chain
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from alignlearn._arrays import in_chunks, make_generator, resolve_device, row_chunks
from alignlearn._callbacks import with_callbacks
from alignlearn._params import check_noise_range, check_window
from alignlearn.clocks import Clock, LinearClock
from alignlearn.denoising import HeldOutLoss
from alignlearn.derivatives import graph_bytes, probe_derivative
from alignlearn.flow import Denoiser
from alignlearn.guards import guarded, is_out_of_memory, networks_of
from alignlearn.models.base import GenerativeModel
from alignlearn.models.denoisers import NetworkDenoiser
from alignlearn.predictions import Prediction
from alignlearn.schedules import Schedule

# Rows at which `fit` asks the network, again and again until so many numbers were compared, and the
# loss from which it warns: 1 is no structure at all, and 4096 numbers scatter by about .02.
_LOSS_ROWS, _LOSS_NUMBERS, _NO_STRUCTURE = 64, 4096, 1.1

# A forward pass of a row keeps about this share of what reverse mode would.
_LIVE_SHARE = 8


class PretrainedModel(GenerativeModel):
    """A generative model that exists already: any network ``(x, t)`` with its conventions.

    The network may predict the data, the noise, a mixture of both, the score or a velocity, on any
    Gaussian path, in any direction and unit of time. `fit` trains nothing: it takes the scale of X,
    asks the network at some rows and says how well it denoises them. Ready calls for models of
    other libraries are in `alignlearn.doors`.

    Parameters
    ----------
    network : callable
        ``(x, t) -> like x``, differentiable by PyTorch, with rows x of shape (n, D), or
        ``(n, *shape)``, and t of shape (n,), the same for all rows or one for each. Not copied,
        also not by `clone`, and never changed; it must be in evaluation mode. Further arguments,
        such as a class or a prompt, are fixed by ``functools.partial``.
    prediction : Prediction
        What it was trained to predict, see `alignlearn.predictions`.
    schedule : Schedule
        Path on which it was trained, see `alignlearn.schedules` and `alignlearn.tabulated`.
    clock : Clock, optional
        What it is told at a time of the schedule, see `alignlearn.clocks`; default the time itself,
        from 0, data, to 1, noise.
    shape : tuple of int, optional
        Shape of a row as the network takes it, such as (channels, height, width).
    shift, scale : float, default=0, 1
        The network sees ``(X - shift) / scale``: 0.5 and 0.5 if it was trained on [-1, 1] and X is
        in [0, 1]. `shift` may be an array of shape (D,). None is the mean of X, and its standard
        deviation (root mean variance), for a network that was trained on data scaled so.
    coupled : bool, default=False
        Whether data and noise were paired in training, as by optimal transport. Then there is no
        score, and the ODE is followed by default.
    s_min, s_max : float, optional
        Range of noise levels, in units of the data's standard deviation. Default: that of the
        schedule within 0.01 and three standard deviations of the leading principal axis, at least
        5.
    window : (float, float), optional
        Noise levels over which Lyapunov vectors are taken by default; default a decade from 0.02,
        or from `s_min` if that is larger.
    device : str or torch.device, optional
        None is where the network's parameters are. A network is not moved.
    random_state : int, RandomState instance or None, default=None
        Draws the noise of `fit`, and used by `sample`.

    Attributes
    ----------
    loss_ : float
        Denoising loss at rows of X: 1 for the best denoiser of isotropic Gaussian data, less if the
        network knows the data. The rows may be ones that it was trained on.
    stretch_ : float
        Length in the network's coordinates of a unit of the scaled ones.
    offset_ : Tensor of shape (n_features,)
        The mean of the data in the network's coordinates.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.models import PretrainedModel
    >>> from alignlearn.predictions import NoisePrediction
    >>> from alignlearn.schedules import Cosine
    >>> def network(x, t):  # predicts the noise in standard normal data, exactly
    ...     return Cosine().sigma(t)[:, None] * x
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> model = PretrainedModel(network, NoisePrediction(), Cosine(), random_state=0).fit(X)
    >>> bool(abs(model.loss_ - 1) < 0.1)
    True
    """

    def __init__(
        self,
        network=None,
        prediction=None,
        schedule=None,
        *,
        clock=None,
        shape=None,
        shift=0.0,
        scale=1.0,
        coupled=False,
        s_min=None,
        s_max=None,
        window=None,
        device=None,
        random_state=None,
    ):
        self.network = network
        self.prediction = prediction
        self.schedule = schedule
        self.clock = clock
        self.shape = shape
        self.shift = shift
        self.scale = scale
        self.coupled = coupled
        self.s_min = s_min
        self.s_max = s_max
        self.window = window
        self.device = device
        self.random_state = random_state

    def __sklearn_clone__(self):
        """An unfitted twin that shares the network: weights are large, and never changed."""
        shell: Any = object.__new__(type(self))
        vars(shell).update(vars(self), network=None)
        twin = BaseEstimator.__sklearn_clone__(shell)
        twin.network = self.network
        return twin

    @with_callbacks
    def fit(self, X, y=None):
        """Take the scale of X and ask the network at some of its rows; nothing is trained.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        self : PretrainedModel

        Raises
        ------
        TypeError
            If a parameter is of the wrong kind.
        ValueError
            If X or a parameter is not usable, the network is in training mode, fails at rows of X
            or returns another shape, or its noise levels do not reach the scale of X.
        FloatingPointError
            If it returns infinity or NaN.

        Warns
        -----
        ConvergenceWarning
            If the network denoises X no better than if it knew nothing: most often its conventions
            are others than those given.
        """
        context = self._init_callback_context().call_on_fit_task_begin(estimator=self)
        self._check_params()
        dtype, device = self._place()
        x = self._fit_scaling(X, torch.promote_types(dtype, torch.float32), device)
        shape = self._row_shape(x.shape[1])
        self.stretch_, self.offset_ = self._coordinates(x)
        denoise = self._denoiser(shape, dtype)
        noise_range, window = self._noise_levels()
        s = torch.tensor(math.sqrt(math.prod(noise_range)), dtype=torch.float64)
        self._first_words(denoise, x[:2], s)
        self._graph_bytes = graph_bytes(lambda y: denoise(y, s), x)
        self.loss_ = self._loss(denoise, x, noise_range)
        self.derivative_ = probe_derivative(lambda y: denoise(y, s), x[:2])
        self.noise_range_ = noise_range
        self.window_ = window  # last: with it the model is fitted
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    @property
    def has_score(self) -> bool:
        """Whether ``(Den(y, s) - y) / s^2`` is the score: not if the pairs were coupled."""
        return not self.coupled

    def denoiser(self) -> Denoiser:
        """What the network says, as the denoiser of the scaled data."""
        check_is_fitted(self)
        return self._denoiser(self._row_shape(self.n_features_in_), self._place()[0])

    def _denoiser(self, shape: tuple[int, ...], dtype: torch.dtype) -> NetworkDenoiser:
        clock = LinearClock() if self.clock is None else self.clock
        return NetworkDenoiser(
            self.network,
            self.prediction,
            self.schedule,
            clock,
            shape,
            dtype,
            self.stretch_,
            self.offset_,
        )

    def _bytes_per_column(self) -> int:
        return max(super()._bytes_per_column(), self._graph_bytes // _LIVE_SHARE)

    def _place(self) -> tuple[torch.dtype, torch.device]:
        """Type and device of the network's numbers; of one without parameters float32, as asked."""
        modules = networks_of(self.network)
        tensors = (t for m in modules for t in chain(m.parameters(), m.buffers()))
        tensor = next((t for t in tensors if t.is_floating_point()), None)
        if tensor is None:
            return torch.float32, resolve_device(self.device)
        if self.device is not None and resolve_device(self.device).type != tensor.device.type:
            raise ValueError(
                f"device={self.device!r}, but the network is on {tensor.device}: leave device out, "
                "or move the network with its method to()."
            )
        return tensor.dtype, tensor.device

    def _row_shape(self, D: int) -> tuple[int, ...]:
        if self.shape is None:
            return (D,)
        if math.prod(self.shape) != D:
            raise ValueError(
                f"shape={self.shape!r} has {math.prod(self.shape)} numbers, but X has {D} features:"
                " pass images as flattened rows of that shape."
            )
        return tuple(int(size) for size in self.shape)

    def _coordinates(self, x: Tensor) -> tuple[float, Tensor]:
        """`stretch_` and `offset_`: the network sees ``stretch_ x + offset_``."""
        exponent, center, unit, _ = self.scaling_
        scale = np.ldexp(unit, exponent) if self.scale is None else float(self.scale)
        if self.shift is None:
            offset = np.zeros_like(center)
        else:
            shift = np.asarray(self.shift, dtype=np.float64)
            if shift.ndim and shift.shape != center.shape:
                raise ValueError(
                    f"shift must be a number or of shape ({len(center)},), got shape {shift.shape}."
                )
            with np.errstate(over="ignore"):
                offset = (np.ldexp(center, exponent) - shift) / scale
        stretch = 1.0 if self.scale is None else float(np.ldexp(unit, exponent) / scale)
        size = max(stretch, float(np.abs(offset).max()))
        if not 0 < stretch or not size < 1e-3 * math.sqrt(torch.finfo(x.dtype).max):
            raise ValueError(
                f"X is far from what the network can represent: (X - shift) / scale would have a "
                f"mean up to {np.abs(offset).max():.3g} and the standard deviation {stretch:.3g}. "
                "Check shift and scale."
            )
        return stretch, torch.from_numpy(offset).to(x)

    def _noise_levels(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Noise range and window, in units of the data's standard deviation."""
        ends = self.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
        low, high = (float(s) / self.stretch_ for s in ends)
        leading = float(self.gaussian_.variances.max()) ** 0.5
        s_min = max(low, 0.01) if self.s_min is None else float(self.s_min)
        s_max = min(high, max(5.0, 3 * leading)) if self.s_max is None else float(self.s_max)
        if not low * (1 - 1e-6) <= s_min < s_max <= high * (1 + 1e-6):
            raise ValueError(
                f"the schedule has noise levels from {low:.3g} to {high:.3g} in units of X's "
                f"standard deviation, which do not allow s_min={s_min:.3g}, s_max={s_max:.3g}: "
                "check shift and scale, or choose others."
            )
        start = max(0.02, s_min)
        window = (start, min(10 * start, s_max)) if self.window is None else self.window
        check_noise_range(s_min, s_max, window)
        return (s_min, s_max), (float(window[0]), float(window[1]))

    def _first_words(self, denoise: NetworkDenoiser, x: Tensor, s: Tensor) -> None:
        """Ask the network for the first time, so that what it refuses is said here."""
        try:
            with torch.no_grad():
                denoise(x, s)
        except (RuntimeError, TypeError, AttributeError, LookupError) as error:
            if is_out_of_memory(error):
                raise
            rows = (len(x), *denoise.shape)
            raise ValueError(
                f"network fails at rows of shape {rows} and times of shape ({len(x)},): {error}. "
                "Pass shape if it takes images, device if its numbers are not on that of the rows, "
                f"{x.device}, and functools.partial(network, ...) if it wants further arguments."
            ) from error

    def _loss(self, denoise: NetworkDenoiser, x: Tensor, noise_range) -> float:
        """Denoising loss at rows spread over x; warns if there is no structure in it."""

        def denoised(y: Tensor, s: Tensor) -> Tensor:
            chunks = row_chunks(len(y), self._bytes_per_column())
            return torch.cat(in_chunks(lambda rows: denoise(y[rows], s[rows]), chunks))

        generator = make_generator(self.random_state, x.device)
        rows = x[:: -(-len(x) // _LOSS_ROWS)]
        n_draws = max(_LOSS_ROWS, _LOSS_NUMBERS // x.shape[1])
        with guarded(denoise):
            loss = HeldOutLoss(rows, noise_range, generator, n_draws=n_draws)(denoised)
        if not math.isfinite(loss):
            raise FloatingPointError("the network returned infinity or NaN at noisy rows of X.")
        if loss > _NO_STRUCTURE:
            warnings.warn(
                f"the network denoises X no better than one that knows nothing of it (loss_ "
                f"{loss:.3g}, expected below 1). Check prediction, schedule, clock, shift and "
                "scale, and that X is of the kind it was trained on.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return loss

    def _check_params(self) -> None:
        if not callable(self.network) or isinstance(self.network, type):
            raise TypeError(f"network must be a callable (x, t), got {self.network!r}.")
        modules = [module for module in networks_of(self.network) if module.training]
        modules = [m for m in modules if not isinstance(m, torch.fx.GraphModule)]  # exported so
        if modules:
            raise ValueError(
                f"network is in training mode ({type(modules[0]).__name__}.training is True), "
                "where dropout and batch normalisation mix in other things: call its method eval() "
                "first."
            )
        kinds = {"prediction": Prediction, "schedule": Schedule, "clock": Clock}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and not (name == "clock" and value is None):
                module = {"clock": "clocks"}.get(name, f"{name}s")
                raise TypeError(
                    f"{name} must be a {kind.__name__} of alignlearn.{module}, got {value!r}."
                )
        self._check_shape()
        if self.scale is not None and not (_is_number(self.scale) and 0 < self.scale < math.inf):
            raise ValueError(f"scale must be a positive number or None, got {self.scale!r}.")
        if self.shift is not None:
            try:
                shift = np.asarray(self.shift, dtype=np.float64)
            except (TypeError, ValueError):
                shift = np.array(np.nan)
            if shift.size == 0 or shift.ndim > 1 or not np.isfinite(shift).all():
                raise ValueError(
                    f"shift must be a finite number, an array of one per feature or None, got "
                    f"{self.shift!r}."
                )
        if not isinstance(self.coupled, bool | np.bool_):
            raise TypeError(f"coupled must be True or False, got {self.coupled!r}.")
        for name in ("s_min", "s_max"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a positive number or None, got {value!r}.")
        if self.window is not None:
            check_window(self.window)

    def _check_shape(self) -> None:
        shape = self.shape
        if shape is not None and not (
            isinstance(shape, tuple | list)
            and shape
            and all(isinstance(size, Integral) and size > 0 for size in shape)
        ):
            raise ValueError(f"shape must be a tuple of positive integers or None, got {shape!r}.")


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
