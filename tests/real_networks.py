"""Networks as users bring them: attention, GroupNorm, channels-last memory, dropout."""

import torch
from torch import nn

CHANNELS, SIZE = 2, 4
N_FEATURES = CHANNELS * SIZE**2


class ImageNetwork(nn.Module):
    """A denoiser of rows that are small images, with all that forward mode stumbles over."""

    def __init__(self, n_hidden=8):
        super().__init__()
        self.gradient_checkpointing = True
        self.first = nn.Conv2d(CHANNELS, n_hidden, 3, padding=1)
        self.norm = nn.GroupNorm(2, n_hidden)
        self.attention = nn.MultiheadAttention(n_hidden, 2, batch_first=True)
        self.last = nn.Conv2d(n_hidden, CHANNELS, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, y, s):
        """Rows y (n, 32), any s."""
        h = self.first(y.reshape(-1, CHANNELS, SIZE, SIZE))
        h = h.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last in memory
        h = self.dropout(nn.functional.silu(self.norm(h)))
        tokens = h.flatten(2).mT
        fused = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        tokens = tokens + fused + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        h = self.last(tokens.mT.unflatten(2, (SIZE, SIZE)))
        return (y + h.flatten(1)) / (1 + s * s).to(y)


def image_network(**options):
    """With fixed weights, in float64 and training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ImageNetwork(**options).double().requires_grad_(False).train()


def diffusers_unet(**options):
    """A tiny UNet2DModel with fixed weights, on images of 4 x 4 pixels; default with attention."""
    from diffusers import UNet2DModel

    tiny = {
        "sample_size": 4,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(**(tiny | options)).requires_grad_(False)


def unet():
    """A denoiser of rows that are such images, in float64 and training mode."""
    network = diffusers_unet(block_out_channels=(8, 16)).double().train()

    def denoise(y, s):
        images = y.reshape(-1, 1, 4, 4)
        return (y + network(images, 250 * torch.log1p(s)).sample.flatten(1)) / (1 + s * s).to(y)

    return denoise


def dense_jacobian(step, x):
    """Jacobian at each row (n, D, D), one backward pass through the plain graph after the other."""
    rows = []
    for row in x:
        row = row[None].clone().requires_grad_()
        image = step(row)[0]
        rows.append(
            torch.stack([torch.autograd.grad(v, row, retain_graph=True)[0][0] for v in image])
        )
    return torch.stack(rows)
