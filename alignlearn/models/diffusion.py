"""Diffusion: a denoiser trained on the user's data."""

from __future__ import annotations

import copy
from functools import partial
from numbers import Real

import numpy as np
import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn

from alignlearn._arrays import make_generator
from alignlearn._callbacks import with_callbacks
from alignlearn._params import check_integers, check_noise_range
from alignlearn._rows import Subset
from alignlearn.denoising import DenoisingLoss, HeldOutLoss, structure_level
from alignlearn.flow import Denoiser
from alignlearn.models.denoisers import (
    MeanDenoiser,
    PiecewiseDenoiser,
    PreconditionedDenoiser,
    SmoothDenoiser,
    SpanDenoiser,
)
from alignlearn.models.pieces import Pieces, find_pieces
from alignlearn.models.shells import ShellDenoiser, find_shell
from alignlearn.models.trained import SMALL_WIDTH, TrainedModel, default_width
from alignlearn.training import evaluation_interval, train


class Diffusion(TrainedModel):
    """Diffusion model of vectors: denoising score matching with gated residual networks.

    A few networks are trained, each without another part of the rows, on which the denoising loss
    decides when its weights are best, so that small or noisy data are not memorised; their mean is
    the denoiser. Data that lie in a linear subspace are learned there, and data near a sphere, such
    as rows of one norm, with what the radius says (see `alignlearn.models.shells`). Where a mixture
    of a few Gaussians has a lower loss than the first network, as for flat pieces of several
    dimensions, the networks learn what it leaves over. Where the first of several finds no
    structure below some noise level and goes wrong there, as under noise, the networks learn the
    levels above; if it did so in the first half of its steps, more and smaller ones, which learn
    less by heart.

    Parameters
    ----------
    network : torch.nn.Module, optional
        Map ``(x (n, D), log_s () or (n, 1)) -> (n, D)``, copied by `fit`. Default: a
        `GatedNetwork` sized from the data.
    image_shape : (C, H, W) or (H, W), optional
        Rows are images, flattened with the channels first: the default network is a small `UNet`,
        which learns local structure from fewer images than a network of whole rows, and costs more
        a step. The data's linear span is not used then.
    width : int, optional
        Width of the default network; default from n and D, for images 32 channels.
    n_blocks : int, default=3
        Blocks of the default network; for images of its coarsest level.
    n_estimators : int, optional
        Number of networks, or rather a budget of as many times `max_iter` steps: networks that stop
        early leave time for others, up to four. 1 is a single network, and the default for images;
        else 3 where the default network is small (few rows, or noise), 2 where not.
    max_iter : int, default=3000
        Optimisation steps of a network at most. More steps give better tangent spaces where data
        suffice.
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
        Share of the rows that each network holds out, up to 20,000 of them.
    n_iter_no_change : int, default=8
        Evaluations (40 over `max_iter` steps) without improvement after which training stops.
    checkpoint : str or os.PathLike, optional
        Folder in which `fit` leaves its state. A fit that was killed or interrupted goes on from
        there if run again with the same data and parameters, and ends bitwise as if nothing had
        happened; one that is finished returns at once. Remove the folder to start anew. Give an
        integer `random_state` to whatever seeds the model (such as a `LyapunovManifold`), else
        the next fit is another one.
    device : str or torch.device, optional
        None is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds weights, batches, noise and the held-out rows.

    Attributes
    ----------
    denoiser_ : torch.nn.Module
        The trained denoiser.
    histories_ : list of TrainingHistory
        Training curve of each network.
    loss_ : float
        Held-out denoising loss of the weights kept, mean over the networks; 1 means that no
        structure was found.
    n_iter_ : int
        Steps taken, the most of any network.
    structure_level_ : float
        Noise level below which no structure was found; `s_min` where there is some at all.

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
        image_shape=None,
        width=None,
        n_blocks=3,
        n_estimators=None,
        max_iter=3000,
        batch_size=256,
        learning_rate=3e-3,
        s_min=0.01,
        s_max=None,
        window=(0.02, 0.2),
        validation_fraction=0.1,
        n_iter_no_change=8,
        checkpoint=None,
        device=None,
        random_state=None,
    ):
        self.network = network
        self.image_shape = image_shape
        self.width = width
        self.n_blocks = n_blocks
        self.n_estimators = n_estimators
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.s_min = s_min
        self.s_max = s_max
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
        self : Diffusion

        Raises
        ------
        ValueError
            If X or a parameter is not usable, or the checkpoint folder holds another fit; or if
            processes that fit together were given different things.
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
        x = self._training_rows(X)
        team, checkpoint, rng = self._begin(x)
        device = x.device
        generator = make_generator(rng, device)
        leading = float(self.gaussian_.variances.max()) ** 0.5
        noise_range = (
            float(self.s_min),
            max(5.0, 3 * leading) if self.s_max is None else self.s_max,
        )
        basis = self._span_basis(x)
        x = x if basis is None else x @ basis
        shell = team.first(lambda: find_shell(x)) if self._learns_whole_rows else None
        width = default_width(*x.shape)
        n_estimators = self._n_networks(width)
        n_evaluations = -(-self.max_iter // evaluation_interval(self.max_iter))
        context = self._init_callback_context(max_subtasks=(n_estimators + 2) * n_evaluations)
        context.call_on_fit_task_begin(estimator=self)

        order = torch.randperm(len(x), generator=generator, device=device)
        members, histories = [], []

        def on_evaluation(history, best):
            def fitted():  # asked for by callbacks that score: the model if training ended here
                last = copy.deepcopy(member)
                last.load_state_dict(best)
                learned = copy.deepcopy([*histories, history])
                return self._learned([*members, last], learned, basis, noise_range, level)

            task = context.subcontext(task_name="evaluation").call_on_fit_task_begin(estimator=self)
            return task.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes=fitted
            )

        budget, at_most = n_estimators * self.max_iter, 1 if n_estimators == 1 else MAX_NETWORKS
        pieces, flat, at_least, (level, s_max) = None, False, 1, noise_range
        while len(members) < at_least or (len(members) < at_most and 2 * budget > self.max_iter):
            kept, held = self._split(order, 0 if flat else len(members))
            network = self._make_network(x.shape[1], width, rng)
            levels = (level, s_max)
            held_out = HeldOutLoss(x[held], levels, generator, team=team)
            if pieces is None:
                pieces = self._find_pieces(x, kept, held_out, rng, team)
            if flat:
                member = PiecewiseDenoiser(pieces.denoiser, network)
            else:
                member = PreconditionedDenoiser(network)
                member = member if shell is None else ShellDenoiser(member, shell)
            member = member.to(device)
            with self._training_threads(width):
                history = train(
                    member,
                    DenoisingLoss(Subset(x, kept), levels, self.batch_size, generator, team),
                    held_out,
                    max_iter=self.max_iter,
                    learning_rate=self.learning_rate,
                    n_iter_no_change=self.n_iter_no_change,
                    generator=generator,
                    on_evaluation=on_evaluation,
                    checkpoint=checkpoint,
                    team=team,
                    replayed=self._plays_back and isinstance(x, Tensor),
                )
            first = not (flat or members or history.stopped or level > noise_range[0])
            if first and pieces.loss < history.best_loss:
                flat = True  # over again, from the closed form
            elif first and at_most > 1 and history.best_step < history.steps[-1]:  # then went wrong
                level = team.first(partial(structure_level, held_out, member, noise_range))
            over_again = first and (flat or level > noise_range[0])
            if over_again and not flat:
                sized = self.network is None and self.width is None
                if sized and 2 * history.best_step <= self.max_iter:
                    width, n_estimators = SMALL_WIDTH, self._n_networks(SMALL_WIDTH)
                budget, at_least = n_estimators * self.max_iter, min(n_estimators, at_most)
            elif not over_again and (history.best_step or not members):
                members.append(member)
                histories.append(history)
            if history.stopped:
                break
            budget -= history.steps[-1]
        learned = self._learned(members, histories, basis, noise_range, level)
        vars(self).update(self._probed(learned, x))
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    def _n_networks(self, width: int) -> int:
        """How many are paid for, of this default width."""
        if self.n_estimators is not None:
            return self.n_estimators
        if self.image_shape is not None:
            return 1
        return 3 if width == SMALL_WIDTH else 2

    def _learned(self, members, histories, basis, noise_range, level) -> dict:
        """Fitted attributes of the mean of the members."""
        denoiser = members[0] if len(members) == 1 else MeanDenoiser(members)
        if level > noise_range[0]:
            denoiser = SmoothDenoiser(denoiser, level)
        denoiser = denoiser if basis is None else SpanDenoiser(denoiser, basis)
        return {
            "denoiser_": denoiser.requires_grad_(False).eval(),
            "histories_": histories,
            "loss_": float(np.mean([history.best_loss for history in histories])),
            "n_iter_": max(history.steps[-1] if history.steps else 0 for history in histories),
            "noise_range_": noise_range,
            "structure_level_": level,
            "window_": tuple(self.window),  # last: with it the model is fitted
        }

    def _find_pieces(self, x, kept, held_out, rng, team) -> Pieces:
        """Flat pieces of the rows kept, unless a network is asked for; rng is left as it is."""
        if not self._learns_whole_rows:
            return Pieces()
        seed = copy.deepcopy(rng).randint(np.iinfo(np.int32).max)
        return team.first(lambda: find_pieces(Subset(x, kept), held_out, float(self.s_min), seed))

    def denoiser(self) -> Denoiser:
        """The trained denoiser."""
        return self.denoiser_

    def known_span(self) -> Tensor | None:
        """Basis (D, r) of the linear span of the data, if that is smaller than D."""
        return self.denoiser_.basis if isinstance(self.denoiser_, SpanDenoiser) else None

    def known_normals(self, x: Tensor) -> Tensor | None:
        """Radial directions (n, D, 1) of the sphere near which the data lie, if there is one."""
        shell = next((m for m in self.denoiser_.modules() if isinstance(m, ShellDenoiser)), None)
        if shell is None:
            return None
        span = self.known_span()
        center = shell.center if span is None else span @ shell.center
        return nn.functional.normalize(x - center.to(x), dim=1)[..., None]

    @property
    def _plays_back(self) -> bool:
        return self.network is None

    def _check_params(self) -> None:
        self._check_training_params()
        check_integers(self, "n_estimators", optional=True)
        for name in ("s_min", "s_max"):
            value = getattr(self, name)
            if value is not None or name != "s_max":
                check_scalar(value, name, Real, min_val=0, include_boundaries="neither")
        check_noise_range(self.s_min, 5.0 if self.s_max is None else self.s_max, self.window)


# Networks at most: their number is the price of a frame.
MAX_NETWORKS = 4
