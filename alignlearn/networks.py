"""The gated residual network: the map behind `alignlearn.models.Diffusion`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def _linear(n_in: int, n_out: int, generator: torch.Generator, gain: float = 1.0) -> nn.Linear:
    """Linear layer with weights ``N(0, gain^2 / n_in)`` drawn from `generator`, bias zero."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    with torch.no_grad():
        layer.weight.normal_(0.0, gain / math.sqrt(n_in), generator=generator)
        layer.bias.zero_()
    return layer


def _rms_norm(h: Tensor) -> Tensor:
    """``h / rms(h)`` over the last axis."""
    return h * torch.rsqrt((h * h).mean(-1, keepdim=True) + 1e-6)


class GatedBlock(nn.Module):
    """``h + W_o (silu(a) * b)``, ``(a, b) = W (1 + G e) n(h)``: a gated linear unit (Shazeer 2020).

    The sigmoid is written out: its derivative reuses the forward value, so that a tangent column
    costs no exponential. `W_o` starts at zero, the block at the identity.
    """

    def __init__(self, width: int, n_embedding: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = _linear(n_embedding, width, generator, gain=0.0)
        self.inner = _linear(width, 2 * width, generator)
        self.outer = _linear(width, width, generator, gain=0.0)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        a, b = self.inner(_rms_norm(h) * (1 + self.scale(embedding))).chunk(2, -1)
        return h + self.outer(a * torch.sigmoid(a) * b)


class GatedNetwork(nn.Module):
    """Residual network of gated blocks on vectors, conditioned on the log noise level.

    Multiplicative gates represent products of coordinates in one layer, which is what a curved
    manifold asks of a denoiser: with plain activations a 10-sphere is not learned in the same time
    (docs/benchmarks.md).

    Parameters
    ----------
    n_features : int
        Size D of a row.
    width : int
        Width of the hidden state.
    n_blocks : int
        Number of gated residual blocks.
    generator : torch.Generator
        Source of the initial weights; the global generator is not touched.
    """

    def __init__(
        self, n_features: int, *, width: int, n_blocks: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        n_embedding = 32
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(torch.linspace(-2.0, 2.0, n_embedding // 2)))
        self.embed = _linear(n_embedding, n_embedding, generator)
        self.encode = _linear(n_features, width, generator)
        self.blocks = nn.ModuleList(
            GatedBlock(width, n_embedding, generator) for _ in range(n_blocks)
        )
        self.decode = _linear(width, n_features, generator, gain=0.0)

    def forward(self, x: Tensor, log_s: Tensor) -> Tensor:
        """Map rows ``x (n, D)`` at log noise ``log_s``, () or (n, 1), to rows (n, D)."""
        phase = log_s.reshape(-1, 1) * self.frequencies
        embedding = nn.functional.silu(self.embed(torch.cat([phase.sin(), phase.cos()], -1)))
        h = self.encode(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.decode(_rms_norm(h))
