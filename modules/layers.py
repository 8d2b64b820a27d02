"""Building blocks shared by the transforms and the U-Net."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conditioning(nn.Module):
    """Scalars in [0, 1] (rate, time, gamma) -> one embedding (B, size): Fourier features, summed projections, SiLU.

    Quarter a period to two and a half periods over [0, 1]: nothing here depends on a scalar more sharply, and higher
    frequencies only make its effect noisy between training samples.
    """

    def __init__(self, scalars: int, size: int, frequencies: int = 8) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.linspace(-1, 2.27, frequencies), persistent=False)
        self.frequencies: Tensor
        self.project = nn.ModuleList(nn.Linear(2 * frequencies + 1, size) for _ in range(scalars))
        self.mix = nn.Linear(size, size)

    def forward(self, *scalars: Tensor) -> Tensor:
        """Each scalar (B,) float in [0, 1]."""
        total = torch.zeros((), device=scalars[0].device)
        for scalar, project in zip(scalars, self.project, strict=True):
            angles = scalar.float()[:, None] * self.frequencies
            total = total + project(torch.cat([scalar.float()[:, None], angles.sin(), angles.cos()], dim=1))
        return F.silu(self.mix(F.silu(total)))


class ResBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions; an embedding scales and shifts the features between them.

    It has no normalisation, so that a result does not depend on the image's size or on tiling.
    """

    def __init__(self, channels: int, embedding: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * channels) if embedding else None
        with torch.no_grad():
            self.conv2.weight.mul_(0.2)
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x (B, channels, H, W), embedding (B, E) where the block has one."""
        h = self.conv1(F.silu(x))
        if self.modulate is not None and embedding is not None:
            scale, shift = self.modulate(embedding)[:, :, None, None].to(h.dtype).chunk(2, dim=1)
            h = torch.addcmul(h + shift, h, scale)
        return x + self.conv2(F.silu(h))


class Stage(nn.Module):
    """`blocks` residual blocks at one resolution."""

    def __init__(self, channels: int, blocks: int, embedding: int = 0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(channels, embedding) for _ in range(blocks))

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        for block in self.blocks:
            x = block(x, embedding)
        return x


class Down(nn.Module):
    """Half the resolution: PixelUnshuffle, then a 1x1 convolution, computed as the one 2x2 convolution that they are.

    That halves its time on a CPU, where PixelUnshuffle costs more than the products.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/2, W/2)."""
        return F.conv2d(x, self.conv.weight.reshape(-1, x.shape[1], 2, 2), self.conv.bias, stride=2)


class Up(nn.Module):
    """Twice the resolution: a 1x1 convolution, then PixelShuffle."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4 * outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, 2H, 2W)."""
        return F.pixel_shuffle(self.conv(x), 2)
