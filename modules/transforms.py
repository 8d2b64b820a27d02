"""The image transforms: analysis g_a, hyper-analysis h_a, and the side-image encoder e_side.

An image enters through PixelUnshuffle(4), so that no convolution runs at full resolution; level 0, 1, 2 of a pyramid
are 1/4, 1/8 and 1/16 of the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.layers import Conditioning, Down, Stage

PATCH = 4
"""Size of the pixel block that becomes the channels of one position at 1/4 resolution."""
STRIDE = 16
"""Image pixels for each position of the latent y."""
HYPER_STRIDE = 64
"""Image pixels for each position of the hyper-latent z; images are padded to a multiple of it."""


class BlockDCT(nn.Module):
    """Image (B, 3, H, W) <-> orthonormal DCT-II of its blocks of 3 colours x 4 x 4 pixels (B, 48, H/4, W/4), float32.

    A local spectrum at the resolution of PixelUnshuffle(4): channel 0 is the grey mean, channels rise in frequency
    along columns, then rows, then colours. The inverse is the transpose.
    """

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        colour, line = _dct(3), _dct(PATCH)
        self.register_buffer("basis", torch.kron(colour, torch.kron(line, line)).float(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Image -> coefficients."""
        return _mix_channels(F.pixel_unshuffle(image.float(), PATCH), self.basis)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Coefficients -> image."""
        return F.pixel_shuffle(_mix_channels(coefficients.float(), self.basis.T), PATCH)


def _dct(size: int) -> Tensor:
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
    """g_a: image (B, 3, H, W) in [-1, 1] and rate (B,) in [0, 1] -> latent y (B, M, H/16, W/16)."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int], latent: int, embedding: int) -> None:
        super().__init__()
        self.conditioning = Conditioning(1, embedding)
        self.pyramid = Pyramid(channels, blocks, embedding)
        self.head = nn.Conv2d(channels[-1], latent, 1)
        with torch.no_grad():  # Begin with y of about unit size: one optimizer step must be small against a symbol.
            self.head.weight.mul_(16.0)

    def forward(self, image: Tensor, rate: Tensor) -> Tensor:
        """See the class."""
        return self.head(self.pyramid(image, self.conditioning(rate))[-1])


class HyperAnalysis(nn.Module):
    """h_a: latent y (B, M, H/16, W/16) -> hyper-latent z (B, N, H/64, W/64)."""

    def __init__(self, latent: int, hyper: int) -> None:
        super().__init__()
        width = (latent + hyper) // 2
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
