"""What models that train networks share: the networks, held-out rows and checks of parameters."""

from __future__ import annotations

import copy
import math
import os
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_random_state, check_scalar
from torch import Tensor, nn

from alignlearn._arrays import make_generator, resolve_device, torch_threads
from alignlearn._params import check_integers
from alignlearn._rows import DiskRows
from alignlearn._team import Team
from alignlearn.checkpoint import Checkpoint, digest, fingerprint
from alignlearn.derivatives import probe_derivative
from alignlearn.gaussian import triangle
from alignlearn.models.base import GenerativeModel
from alignlearn.networks import GatedNetwork
from alignlearn.unet import UNet

# Rows held out by a network at most: more would decide no better when its weights are best.
_HELD_OUT = 20_000

# Width of the default network where few or low-dimensional data make it small.
SMALL_WIDTH = 64
# Numbers in the hidden state of a batch up to which threads wait longer than they help.
_ONE_THREAD = SMALL_WIDTH * 256
# Width of the U-Net of images at its finest level.
IMAGE_WIDTH = 32


def default_width(n_samples: int, n_features: int) -> int:
    """Width of the default network: what n rows can teach, and D asks for."""
    return SMALL_WIDTH if n_samples * n_features < 20_000 else 128


class TrainedModel(GenerativeModel):
    """A generative model whose `denoiser_` is trained in steps.

    A new member has the parameters `network`, `image_shape`, `width`, `n_blocks`, `max_iter`,
    `batch_size`, `learning_rate`, `validation_fraction`, `n_iter_no_change` and `checkpoint` of
    `Diffusion`.
    """

    def _training_rows(self, X) -> Tensor | DiskRows:
        """Scaled rows of X (n, D), float32 on the device, if all processes of a team have them."""

        def scaled() -> Tensor | DiskRows:
            x = self._fit_scaled_rows(X, torch.float32, resolve_device(self.device))
            self._check_image_shape(x.shape[1])
            return x

        return Team.current().every(scaled)

    def _begin(self, x: Tensor | DiskRows) -> tuple[Team, Checkpoint | None, np.random.RandomState]:
        """Team, checkpoint and randomness of a training on x, the same for all of the team.

        Raises
        ------
        ValueError
            If the processes were given different things, or no seed, or more there are of them than
            rows in a batch; or the checkpoint folder holds another fit.
        """
        team, checkpoint, seed = Team.current(), None, self.random_state
        if team.size > self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} rows cannot be shared by the {team.size} processes "
                "that torch.distributed connects: raise it, or start fewer."
            )
        if team.size > 1 or self.checkpoint is not None:
            fit, scaling = fingerprint(self, x), self.scaling_
            units = f"{scaling.exponent} {scaling.scale!r} {digest(scaling.center)}"
            team.check_same({**fit, "center and scale of the data": units})
        if self.checkpoint is not None:
            checkpoint = team.first(lambda: Checkpoint(self.checkpoint, fit))
            checkpoint.writes = team.rank == 0
            seed = checkpoint.seed if seed is None else seed
        if team.size > 1 and seed is None:
            raise ValueError(
                f"random_state=None would give each of the {team.size} processes that fit together "
                "another model: pass the same integer to all of them."
            )
        return team, checkpoint, check_random_state(seed)

    @property
    def _learns_whole_rows(self) -> bool:
        """Whether the network is the default one, which is helped with what the rows show."""
        return self.network is None and self.image_shape is None

    def _span_basis(self, x: Tensor | DiskRows) -> Tensor | None:
        """Orthonormal basis (D, r) of the linear span of the rows, None if that is everything."""
        rank = self.scaling_.rank
        if rank == x.shape[1] or not self._learns_whole_rows:
            return None
        if rank <= self.gaussian_.basis.shape[1]:
            return self.gaussian_.basis[:, :rank].contiguous()
        return torch.linalg.svd(triangle(x), full_matrices=False).Vh[:rank].T.to(x[:0])

    def _split(self, order: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Rows to train on and rows held out by network i: fold after fold of a random order."""
        n_held = min(round(self.validation_fraction * len(order)), _HELD_OUT)
        if n_held < 2:  # fewer rows select nothing: train and select on all of them
            return order, order
        order = order.roll(-i * n_held)
        return order[n_held:], order[:n_held]

    def _make_network(self, n_features: int, width: int, rng) -> nn.Module:
        """The user's network, or the default one of this width where the user says none."""
        if self.network is not None:
            return copy.deepcopy(self.network)
        if self.image_shape is not None:
            width = IMAGE_WIDTH if self.width is None else self.width
            return UNet(
                _channels_first(self.image_shape),
                width=width,
                n_blocks=self.n_blocks,
                generator=make_generator(rng),
            )
        width = self.width or width
        generator = make_generator(rng)
        return GatedNetwork(n_features, width=width, n_blocks=self.n_blocks, generator=generator)

    def _training_threads(self, width: int) -> AbstractContextManager[None]:
        """One thread of torch where the default network, of this default width, is small."""
        one = (self.width or width) * self.batch_size <= _ONE_THREAD and self._learns_whole_rows
        return torch_threads(1) if one else nullcontext()

    def _bytes_per_column(self) -> int:
        n_hidden = max((p.shape[0] for p in self.denoiser_.parameters()), default=1)
        for module in self.denoiser_.modules():
            n_hidden = max(n_hidden, getattr(module, "n_hidden", 0))
        return 32 * (self.n_features_in_ + n_hidden) * len(self.histories_)

    def _probed(self, learned: dict, x: Tensor) -> dict:
        """Fitted attributes, with how a network of the user's is differentiated; rows x scaled."""
        vars(self).pop("derivative_", None)  # of an earlier fit
        if self.network is None:
            return learned
        denoise, s = learned["denoiser_"], torch.tensor(learned["window_"]).double().prod().sqrt()
        return {"derivative_": probe_derivative(lambda y: denoise(y, s), x[:2])} | learned

    def _check_training_params(self) -> None:
        check_integers(self, "n_blocks", "max_iter", "batch_size", "n_iter_no_change")
        check_integers(self, "width", optional=True)
        check_scalar(
            self.learning_rate, "learning_rate", Real, min_val=0, include_boundaries="neither"
        )
        check_scalar(
            self.validation_fraction,
            "validation_fraction",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="left",
        )
        if not isinstance(self.checkpoint, str | os.PathLike | None):
            raise ValueError(f"checkpoint must be a folder or None, got {self.checkpoint!r}.")
        for name in ("learning_rate", "validation_fraction"):
            if not np.isfinite(getattr(self, name)):  # NaN is within all bounds
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}.")
        if self.network is not None and not isinstance(self.network, nn.Module):
            raise ValueError(
                f"network must be a torch.nn.Module or None, got {type(self.network).__name__}."
            )
        if self.image_shape is not None:
            if self.network is not None:
                raise ValueError("expected network or image_shape, got both: leave one None.")
            _channels_first(self.image_shape)

    def _check_image_shape(self, n_features: int) -> None:
        """Refuse an `image_shape` that rows of so many features do not have."""
        if self.image_shape is not None and math.prod(self.image_shape) != n_features:
            raise ValueError(
                f"image_shape={self.image_shape!r} has {math.prod(self.image_shape)} values, but X "
                f"has {n_features} features: rows are flattened images, channels first."
            )


def _channels_first(image_shape) -> tuple[int, int, int]:
    """Shape (C, H, W) of (C, H, W) or (H, W).

    Raises
    ------
    ValueError
        If it is neither.
    """
    is_shape = isinstance(image_shape, tuple | list) and len(image_shape) in (2, 3)
    if not is_shape or not all(isinstance(n, Integral) and n >= 1 for n in image_shape):
        raise ValueError(
            f"image_shape must be (C, H, W) or (H, W), positive integers, got {image_shape!r}."
        )
    C, H, W = image_shape if len(image_shape) == 3 else (1, *image_shape)
    return int(C), int(H), int(W)
