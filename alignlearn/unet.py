"""A small U-Net of gated convolutions: the map behind ``Diffusion(image_shape=...)``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from alignlearn.networks import N_NOISE, _linear, _noise_features, _noise_frequencies

# Images of so many pixels a side are read in squares of four; a level is halved as long as a side
# has at least so many of its own.
_FOLDED, _HALVED = 16, 8


def _conv(n_in: int, n_out: int, generator: torch.Generator) -> nn.Conv2d:
    """3 x 3 convolution with weights and bias ``U(-1, 1) / sqrt(9 n_in)``, float32 as `_linear`."""
    layer = nn.utils.skip_init(nn.Conv2d, n_in, n_out, 3, padding=1, dtype=torch.float32)
    bound = 1 / math.sqrt(9 * n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def _convolved(layer: nn.Conv2d, h: Tensor) -> Tensor:
    """Channels stay last, where norms and products are contiguous and convolutions fastest."""
    return layer(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _norm(h: Tensor) -> Tensor:
    """Channels over their root mean square where that is large: dim pixels stay dim."""
    return h * torch.rsqrt((h * h).mean(-1, keepdim=True) + 1)


def _fold(h: Tensor) -> Tensor:
    """Squares of four pixels become one of four times as many channels."""
    n, H, W, c = h.shape
    return h.reshape(n, H // 2, 2, W // 2, 2, c).transpose(2, 3).reshape(n, H // 2, W // 2, 4 * c)


def _unfold(h: Tensor) -> Tensor:
    """Inverse of `_fold`."""
    n, H, W, c = h.shape
    return h.reshape(n, H, W, 2, 2, c // 4).transpose(2, 3).reshape(n, 2 * H, 2 * W, c // 4)


class GatedConvBlock(nn.Module):
    """`GatedBlock` at every pixel, of its 3 x 3 neighbourhood and of the mean over the image.

    ``h + W_o (silu(a + V [e, mean g]) * b)``, ``(a, b) = W * g``, with the convolution ``W *`` and
    ``g = h / sqrt(1 + |h|^2 / width)`` over the channels of a pixel. Unlike a root mean square
    alone this norm lets a block see how bright a pixel is: objects that only move have one
    brightness, and noise in it must go.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = _conv(width, 2 * width, generator)
        self.whole = _linear(N_NOISE + width, width, generator)
        self.outer = _linear(width, width, generator, zero=True)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Hidden images h (n, H, W, width) with noise features e (n or 1, N_NOISE)."""
        g = _norm(h)
        a, b = _convolved(self.inner, g).chunk(2, -1)
        whole = self.whole(torch.cat([e.expand(len(h), -1), g.mean((1, 2))], -1))
        return h + self.outer(nn.functional.silu(a + whole[:, None, None]) * b)


class UNet(nn.Module):
    """Residual network of gated convolutions on images, conditioned on the log noise level.

    Images of 16 pixels a side or more are read in squares of four pixels; then levels of half the
    pixels and twice the width follow down to fewer than 8 pixels a side, with a block on the way
    down, a block on the way up and a skip connection at each. Sides that cannot be halved so often
    are filled up with zeros. Each pixel has a bias of its own: a place can mean something.

    Nothing but products, convolutions and norms over channels, which both modes of differentiation
    take in batches of tangent columns; no layer mixes rows.

    Parameters
    ----------
    image_shape : (int, int, int)
        Channels C, height H and width W of a row, which has ``C H W`` features in this order.
    width : int
        Channels of the hidden state at the finest level.
    n_blocks : int
        Blocks of the coarsest level.
    generator : torch.Generator
        CPU generator of the initial weights; the global generator is not touched.

    References
    ----------
    Ronneberger, Fischer & Brox, "U-Net", MICCAI 2015; Shazeer, "GLU variants improve Transformer",
    2020, for the gates.

    Examples
    --------
    >>> import torch
    >>> from alignlearn.unet import UNet
    >>> network = UNet((3, 20, 31), width=8, n_blocks=1, generator=torch.Generator())
    >>> network(torch.zeros(5, 3 * 20 * 31), torch.tensor(-1.0)).shape
    torch.Size([5, 1860])
    """

    frequencies: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        width: int,
        n_blocks: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        C, H, W = image_shape
        self.folded = max(H, W) >= _FOLDED
        side = -(-max(H, W) // 2) if self.folded else max(H, W)
        widths = [width]
        while side >= _HALVED:
            side = -(-side // 2)
            widths.append(2 * widths[-1])
        unit = 2 ** (len(widths) - 1 + self.folded)  # pixels that become one
        self.padding = (-W % unit, -H % unit)
        n_pixels = [
            (n + p) // (1 + self.folded) for n, p in zip((H, W), self.padding[::-1], strict=True)
        ]
        n_channels = 4 * C if self.folded else C
        self.n_hidden = 3 * width * math.prod(n_pixels)  # numbers in the largest hidden state
        self.register_buffer("frequencies", _noise_frequencies())
        self.encode = _conv(n_channels, 3 * width, generator)
        self.noise = _linear(N_NOISE, 3 * width, generator)
        self.place = nn.Parameter(torch.zeros(*n_pixels, 3 * width, dtype=torch.float32))
        steps = list(zip(widths, widths[1:], strict=False))
        self.down_blocks = nn.ModuleList(GatedConvBlock(a, generator) for a, _ in steps)
        self.down = nn.ModuleList(_linear(4 * a, b, generator) for a, b in steps)
        self.middle = nn.ModuleList(GatedConvBlock(widths[-1], generator) for _ in range(n_blocks))
        self.up = nn.ModuleList(_linear(b, 4 * a, generator) for a, b in steps)
        self.up_blocks = nn.ModuleList(GatedConvBlock(a, generator) for a, _ in steps)
        self.decode = _linear(width, n_channels, generator, zero=True)

    def forward(self, x: Tensor, log_s: Tensor) -> Tensor:
        """Map rows ``x (n, C H W)`` at log noise ``log_s``, () or (n, 1), to rows alike."""
        C, H, W = self.image_shape
        e = _noise_features(log_s, self.frequencies)
        h = x.reshape(-1, C, H, W).permute(0, 2, 3, 1)
        if any(self.padding):
            h = nn.functional.pad(h, (0, 0, 0, self.padding[0], 0, self.padding[1]))
        h = _fold(h) if self.folded else h
        h = _convolved(self.encode, h) + self.noise(e)[:, None, None] + self.place
        linear, a, b = h.chunk(3, -1)
        h = linear + nn.functional.silu(a) * b
        skips = []
        for block, down in zip(self.down_blocks, self.down, strict=True):
            h = block(h, e)
            skips.append(h)
            h = down(_fold(h))
        for block in self.middle:
            h = block(h, e)
        for block, up in zip(reversed(self.up_blocks), reversed(self.up), strict=True):
            h = block(skips.pop() + _unfold(up(h)), e)
        h = self.decode(_norm(h))
        h = _unfold(h) if self.folded else h
        return h[:, :H, :W].permute(0, 3, 1, 2).reshape(x.shape)
