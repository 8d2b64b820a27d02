"""Building blocks of the published CDC and DICM networks, shared by their transforms and their U-Net.

Facts (kernel sizes, orders, activations) from Yang and Mandt, "Lossy Image Compression with Conditional Diffusion
Models", NeurIPS 2023 (CDC), and from its descendant DICM, "Distributed Image Compression with Conditional Diffusion
Models"; both use the same blocks.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_SLOPE = 0.2
"""Negative slope of the LeakyReLU through which the time embedding enters a block."""


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Context without autocast on this device; devices that know no autocast (meta) need none."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with a gain and an offset per channel.

    Statistics are taken in float32 under autocast too: a variance in bfloat16 has three significant digits.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape and type."""
        # gain (x - mean) / sqrt(variance + eps) + offset, over the channels.
        variance, mean = torch.var_mean(x.float(), dim=1, keepdim=True, correction=0)
        normed = (x.float() - mean) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.offset[:, None, None], normed, self.gain[:, None, None]).to(x.dtype)


class ConvBlock(nn.Module):
    """Convolution of stride 1, then ChannelNorm, then ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = ChannelNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W), not negative."""
        return F.relu(self.norm(self.conv(x)))


class ResnetBlock(nn.Module):
    """Two ConvBlocks beside a shortcut (1x1 convolution where the width changes); the time is added between them.

    `kernel` is the first convolution's size: 7 in the block that reads the image, 3 in every other. `time_channels` is
    the length of the time embedding, 0 for a block without time.
    """

    def __init__(self, inputs: int, outputs: int, *, time_channels: int = 0, kernel: int = 3) -> None:
        super().__init__()
        self.block1 = ConvBlock(inputs, outputs, kernel)
        self.block2 = ConvBlock(outputs, outputs)
        self.time = nn.Linear(time_channels, outputs) if time_channels else None
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x (B, inputs, H, W), embedding (B, time_channels) where the block has a time -> (B, outputs, H, W)."""
        h = self.block1(x)
        if self.time is not None:
            if embedding is None:
                raise ValueError("This block was built with a time embedding; pass one of shape (B, time_channels).")
            h = h + self.time(F.leaky_relu(embedding, TIME_SLOPE))[:, :, None, None].to(h.dtype)
        return self.block2(h) + self.shortcut(x)


class LinearAttention(nn.Module):
    """Pre-normalised residual self-attention whose cost is linear in the number of pixels N: one head of all channels.

    out = ((softmax_N(k) v^T)^T q) / sqrt(C): keys are normalised over the pixels, queries only scaled, so the C x C
    product comes first. The products run in float32: softmax over 32768 pixels underflows in float16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.to_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        qkv = self.to_qkv(self.norm(x))
        with full_precision(x.device):
            # summary (C, C) = v softmax(k)^T, then summary q / sqrt(C).
            q, k, v = qkv.float().flatten(2).chunk(3, dim=1)
            summary = torch.matmul(v, k.softmax(dim=-1).transpose(1, 2))
            out = torch.matmul(summary, q * q.shape[1] ** -0.5)
        return x + self.to_out(out.view_as(x).to(qkv.dtype))


def downsample(inputs: int, outputs: int) -> nn.Conv2d:
    """(B, inputs, H, W) -> (B, outputs, H/2, W/2) for even H and W: 3x3 convolution of stride 2."""
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


def upsample(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """(B, inputs, H, W) -> (B, outputs, 2H, 2W): 4x4 transposed convolution of stride 2."""
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
