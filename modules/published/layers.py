"""Building blocks that published networks share: CDC and DICM, and Ballé's transforms in NDIC, CAM and LDMIC.

Facts (kernel sizes, orders, activations) from Yang and Mandt, "Lossy Image Compression with Conditional Diffusion
Models", NeurIPS 2023 (CDC), and from its descendant DICM, "Distributed Image Compression with Conditional Diffusion
Models"; both use the same blocks.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.likelihoods import lower_bound

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


# ------------------------------------------------ Ballé's transforms, which NDIC, CAM and LDMIC share

GDN_PEDESTAL = 2.0**-36
"""Added to what GDN stores the square root of, so that the square root has a finite slope at 0."""
BETA_MIN = 1e-6
"""Smallest beta of GDN, which keeps the root positive."""


class GDN(nn.Module):
    """Generalised divisive normalisation, and with `inverse` its approximate inverse.

    y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), and x_i = y_i sqrt(beta_i + sum_j gamma_ij y_j^2): Ballé, Laparra,
    Simoncelli 2016 and 2017 (arXiv 1511.06281, 1611.01704). beta and gamma stay non-negative since their square roots
    are what is learned; a bound passes gradients that would raise a value. They begin at 1 and 0.1 times the identity.
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter((torch.ones(channels) + GDN_PEDESTAL).sqrt())
        self.gamma = nn.Parameter((0.1 * torch.eye(channels) + GDN_PEDESTAL).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape, float32."""
        with full_precision(x.device):
            x = x.float()
            beta = lower_bound(self.beta, (BETA_MIN + GDN_PEDESTAL) ** 0.5) ** 2 - GDN_PEDESTAL
            gamma = lower_bound(self.gamma, GDN_PEDESTAL**0.5) ** 2 - GDN_PEDESTAL
            root = F.conv2d(x * x, gamma[:, :, None, None], beta)
            return x * (root.sqrt() if self.inverse else root.rsqrt())


def conv5(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """(B, inputs, H, W) -> (B, outputs, H/2, W/2): 5x5 convolution of stride 2."""
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=bias)


def deconv5(inputs: int, outputs: int, bias: bool = True) -> nn.ConvTranspose2d:
    """(B, inputs, H, W) -> (B, outputs, 2H, 2W): 5x5 transposed convolution of stride 2."""
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1, bias=bias)


def gdn_analysis(channels: int) -> nn.Sequential:
    """Image (B, 3, H, W) -> y (B, channels, H/16, W/16): four conv5 with GDN between them."""
    layers: list[nn.Module] = [conv5(3, channels)]
    for _ in range(3):
        layers += [GDN(channels), conv5(channels, channels)]
    return nn.Sequential(*layers)


def gdn_synthesis(inputs: int, channels: int) -> nn.Sequential:
    """(B, inputs, h, w) -> image (B, 3, 16h, 16w), not clamped: four deconv5 with inverse GDN between them."""
    layers: list[nn.Module] = []
    for width in (inputs, channels, channels):
        layers += [deconv5(width, channels), GDN(channels, inverse=True)]
    return nn.Sequential(*layers, deconv5(channels, 3))
