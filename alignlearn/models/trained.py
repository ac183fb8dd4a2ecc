"""What models that train networks share: the networks, held-out rows and checks of parameters."""

from __future__ import annotations

import copy
import os
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn

from alignlearn._arrays import make_generator
from alignlearn.derivatives import probe_derivative
from alignlearn.models.base import GenerativeModel
from alignlearn.networks import GatedNetwork

# Width of the default network where few or low-dimensional data make it small.
SMALL_WIDTH = 64


def default_width(n_samples: int, n_features: int) -> int:
    """Width of the default network: what n rows can teach, and D asks for."""
    return SMALL_WIDTH if n_samples * n_features < 20_000 else 128


class TrainedModel(GenerativeModel):
    """A generative model whose `denoiser_` is trained in steps.

    A new member has the parameters `network`, `width`, `n_blocks`, `max_iter`, `batch_size`,
    `learning_rate`, `validation_fraction`, `n_iter_no_change` and `checkpoint` of `Diffusion`.
    """

    def _span_basis(self, x: Tensor) -> Tensor | None:
        """Orthonormal basis (D, r) of the linear span of the rows, None if that is everything."""
        rank = self.scaling_.rank
        if rank == x.shape[1] or self.network is not None:
            return None
        if rank <= self.gaussian_.basis.shape[1]:
            return self.gaussian_.basis[:, :rank].contiguous()
        return torch.linalg.svd(x.double(), full_matrices=False).Vh[:rank].T.to(x)

    def _split(self, order: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Rows to train on and rows held out by network i: fold after fold of a random order."""
        n_held = round(self.validation_fraction * len(order))
        if n_held < 2:  # fewer rows select nothing: train and select on all of them
            return order, order
        order = order.roll(-i * n_held)
        return order[n_held:], order[:n_held]

    def _make_network(self, n_samples: int, n_features: int, rng) -> nn.Module:
        if self.network is not None:
            return copy.deepcopy(self.network)
        width = default_width(n_samples, n_features) if self.width is None else self.width
        generator = make_generator(rng)
        return GatedNetwork(n_features, width=width, n_blocks=self.n_blocks, generator=generator)

    def _bytes_per_column(self) -> int:
        n_hidden = max((p.shape[0] for p in self.denoiser_.parameters()), default=1)
        return 32 * (self.n_features_in_ + n_hidden) * len(self.histories_)

    def _probed(self, learned: dict, x: Tensor) -> dict:
        """Fitted attributes, with how a network of the user's is differentiated; rows x scaled."""
        vars(self).pop("derivative_", None)  # of an earlier fit
        if self.network is None:
            return learned
        denoise, s = learned["denoiser_"], torch.tensor(learned["window_"]).double().prod().sqrt()
        return {"derivative_": probe_derivative(lambda y: denoise(y, s), x[:2])} | learned

    def _check_training_params(self) -> None:
        for name in ("n_blocks", "max_iter", "batch_size", "n_iter_no_change"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        if self.width is not None:
            check_scalar(self.width, "width", Integral, min_val=1)
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
