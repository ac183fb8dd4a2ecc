"""The gated residual network: the map behind `alignlearn.models.Diffusion`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def _linear(n_in: int, n_out: int, generator: torch.Generator, *, zero: bool = False) -> nn.Linear:
    """Linear layer with weights and bias ``U(-1, 1) / sqrt(n_in)`` from `generator`, or zero.

    Always float32, whatever torch's default is: that is what the library trains in.
    """
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float32)
    bound = 0.0 if zero else 1 / math.sqrt(n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def _rms_norm(h: Tensor) -> Tensor:
    """``h / rms(h)`` over the last axis."""
    return h * torch.rsqrt((h * h).mean(-1, keepdim=True) + 1e-6)


# Features of the noise level.
N_NOISE = 8


def _noise_frequencies() -> Tensor:
    """Half octaves from 1/4, (N_NOISE / 2,), float32."""
    return 0.25 * 2.0 ** (torch.arange(N_NOISE // 2, dtype=torch.float32) / 2)


def _noise_features(log_s: Tensor, frequencies: Tensor) -> Tensor:
    """Sines and cosines of the log noise, () or (n, 1), at frequencies: (1 or n, N_NOISE)."""
    phase = log_s.reshape(-1, 1) * frequencies
    return torch.cat([phase.sin(), phase.cos()], -1)


class GatedBlock(nn.Module):
    """``h + W_o (silu(a + V e) * b)``, ``(a, b) = W h / rms(h)``: a gated linear unit.

    (Shazeer 2020.) The noise features e condition the gate; `W_o` starts at zero, the block at the
    identity.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = _linear(width, 4 * width, generator)
        self.noise = _linear(N_NOISE, 2 * width, generator)
        self.outer = _linear(2 * width, width, generator, zero=True)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Hidden rows h (n, width) with noise features e (n or 1, N_NOISE)."""
        a, b = self.inner(_rms_norm(h)).chunk(2, -1)
        return h + self.outer(nn.functional.silu(a + self.noise(e)) * b)


class GatedNetwork(nn.Module):
    """Residual network of gated units on vectors, conditioned on the log noise level.

    Multiplicative gates represent products of coordinates in one layer, which is what a curved
    manifold asks of a denoiser; ``examples/benchmarks/networks.py`` compares them with plain ones.
    The first layer is linear plus a gated unit of the input.

    Parameters
    ----------
    n_features : int
        Size D of a row.
    width : int
        Width of the hidden state.
    n_blocks : int
        Number of gated residual blocks.
    generator : torch.Generator
        CPU generator of the initial weights; the global generator is not touched.
    """

    frequencies: Tensor

    def __init__(
        self, n_features: int, *, width: int, n_blocks: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.register_buffer("frequencies", _noise_frequencies())
        self.encode = _linear(n_features + N_NOISE, 3 * width, generator)
        self.blocks = nn.ModuleList(GatedBlock(width, generator) for _ in range(n_blocks))
        self.decode = _linear(width, n_features, generator, zero=True)

    def forward(self, x: Tensor, log_s: Tensor) -> Tensor:
        """Map rows ``x (n, D)`` at log noise ``log_s``, () or (n, 1), to rows (n, D)."""
        e = _noise_features(log_s, self.frequencies)
        linear, a, b = self.encode(torch.cat([x, e.expand(len(x), -1)], -1)).chunk(3, -1)
        h = linear + nn.functional.silu(a) * b
        for block in self.blocks:
            h = block(h, e)
        return self.decode(_rms_norm(h))


class ColumnTime(nn.Module):
    """``(x, t) -> network(x, t[:, None])``: for networks of rows that take time as a column.

    Such as those of this library behind `PretrainedModel`, which has one number for each row.

    Parameters
    ----------
    network : nn.Module
        ``(x (n, D), t (n, 1)) -> Tensor``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Rows x (n, D), times t (n,)."""
        return self.network(x, t[:, None])
