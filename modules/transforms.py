"""Transforms of images: analysis g_a, hyper-analysis h_a, side-image encoder e_side, and the blocks they are made of.

An image enters through PixelUnshuffle(4), so that no convolution runs at full resolution. A pyramid has the scales 0, 1
and 2, at 1/4, 1/8 and 1/16 of the image's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 4
"""Size of the pixel block that becomes the channels of one position at 1/4 resolution."""
STRIDE = 16
"""Image pixels for each position of the latent y."""
HYPER_STRIDE = 64
"""Image pixels for each position of the hyper-latent z; images are padded to a multiple of it."""


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


class BlockDCT(nn.Module):
    """Image (B, 3, H, W) <-> orthonormal DCT-II of its blocks of 3 colours x 4 x 4 pixels (B, 48, H/4, W/4), float32.

    A local spectrum at the resolution of PixelUnshuffle(4): channel 0 is the grey mean, channels rise in frequency
    along columns, then rows, then colours. The inverse is the transpose.
    """

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        colour, line = dct(3), dct(PATCH)
        self.register_buffer("basis", torch.kron(colour, torch.kron(line, line)).float(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Image -> coefficients."""
        return _mix_channels(F.pixel_unshuffle(image.float(), PATCH), self.basis)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Coefficients -> image."""
        return F.pixel_shuffle(_mix_channels(coefficients.float(), self.basis.T), PATCH)


def dct(size: int) -> Tensor:
    """The orthonormal DCT-II matrix (frequency, position), float64."""
    frequency, position = torch.meshgrid(*(torch.arange(size, dtype=torch.float64),) * 2, indexing="ij")
    matrix = torch.cos(torch.pi * frequency * (position + 0.5) / size) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def _mix_channels(x: Tensor, matrix: Tensor) -> Tensor:
    """(B, C, H, W) with (D, C) -> (B, D, H, W); in float32 also under autocast: low noise must stay exact."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, matrix[:, :, None, None])


class Pyramid(nn.Module):
    """Image (B, 3, H, W) in [-1, 1] -> features at 1/4, 1/8, 1/16 with `channels` each."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int], embedding: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * PATCH**2, channels[0], 3, padding=1)
        self.stages = nn.ModuleList(Stage(c, n, embedding) for c, n in zip(channels, blocks, strict=True))
        self.downs = nn.ModuleList(Down(a, b) for a, b in pairwise(channels))

    def forward(self, image: Tensor, embedding: Tensor | None = None) -> list[Tensor]:
        """Features from fine to coarse."""
        h = self.stages[0](self.stem(F.pixel_unshuffle(image, PATCH)), embedding)
        features = [h]
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            h = stage(down(h), embedding)
            features.append(h)
        return features


class Analysis(nn.Module):
    """g_a: image (B, 3, H, W) in [-1, 1] and rate (B,) in [0, 1] -> latent y (B, M, H/16, W/16).

    With `shortcut`, features at 1/8 also enter y directly: a position of y stands for 768 pixel values, and at high
    rates it has more to say than the features at 1/16 have room for.
    """

    def __init__(
        self, channels: Sequence[int], blocks: Sequence[int], latent: int, embedding: int, shortcut: bool = False
    ) -> None:
        super().__init__()
        self.conditioning = Conditioning(1, embedding)
        self.pyramid = Pyramid(channels, blocks, embedding)
        self.head = nn.Conv2d(channels[-1], latent, 1)
        self.shortcut = Down(channels[-2], latent) if shortcut else None
        with torch.no_grad():  # Begin with y of about unit size: one optimizer step must be small against a symbol.
            self.head.weight.mul_(16.0)
            if self.shortcut is not None:
                self.shortcut.conv.weight.mul_(16.0)

    def forward(self, image: Tensor, rate: Tensor) -> Tensor:
        """See the class."""
        *_, eighth, sixteenth = self.pyramid(image, self.conditioning(rate))
        y = self.head(sixteenth)
        return y if self.shortcut is None else y + self.shortcut(eighth)


class HyperAnalysis(nn.Module):
    """h_a: latent y (B, M, H/16, W/16) -> hyper-latent z (B, N, H/64, W/64), `width` features between."""

    def __init__(self, latent: int, hyper: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(latent, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, hyper, 3, stride=2, padding=1),
        )

    def forward(self, y: Tensor) -> Tensor:
        """See the class."""
        return self.layers(y)


class Side(NamedTuple):
    """What fusion is given: the side image (B, 3, H, W) in [-1, 1] and its features, fine to coarse."""

    image: Tensor
    features: list[Tensor]


class SideEncoder(nn.Module):
    """e_side: side image (B, 3, H, W) in [-1, 1] -> itself, and features at 1/4, 1/8, 1/16.

    Where `present` is False the image is 0 and the features are one learned vector a level: in training for a random
    part of the samples (side dropout), in decoding when the receiver has no side image.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels, blocks)
        self.null = nn.ParameterList(nn.Parameter(torch.zeros(c)) for c in channels)

    def forward(self, x_side: Tensor, present: Tensor) -> Side:
        """x_side (B, 3, H, W), of any values where `present` (B,) bool is False."""
        mask = present[:, None, None, None]
        x_side = torch.where(mask, x_side, 0.0)
        features = self.pyramid(x_side)
        nulls = (null.to(f.dtype)[:, None, None] for null, f in zip(self.null, features, strict=True))
        return Side(x_side, [torch.where(mask, f, null) for f, null in zip(features, nulls, strict=True)])
