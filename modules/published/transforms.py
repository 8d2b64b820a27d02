"""The transforms of CDC's and DICM's hyperprior codec: g_a, h_a, g_s and h_s.

Yang and Mandt, "Lossy Image Compression with Conditional Diffusion Models", NeurIPS 2023, arXiv 2209.06950; DICM has
three such codecs of 13.7 M parameters each, the factorized prior included. Layers and widths as in the released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from modules.integer import LayerSpec
from modules.published.layers import ResnetBlock, downsample, upsample
from modules.transforms import HYPER_STRIDE

HYPER_SLOPE = 0.2
"""Negative slope of the LeakyReLU in h_a and in the float h_s; what they compute need not be exact."""


class PaperAnalysis(nn.Module):
    """g_a: for each multiplier a ResnetBlock and a 3x3 convolution of stride 2; the first block begins with a 7x7.

    Widths 64, 128, 192, 256 at 1/2, 1/4, 1/8, 1/16; no activation after the last convolution.
    """

    def __init__(self, dim: int = 64, mults: Sequence[int] = (1, 2, 3, 4), in_channels: int = 3) -> None:
        super().__init__()
        widths = [in_channels, *(dim * mult for mult in mults)]
        self.latent_channels = widths[-1]
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            layers += [ResnetBlock(inputs, outputs, kernel=3 if level else 7), downsample(outputs, outputs)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, 3, H, W) in [-1, 1] -> latent y (B, 256, H/16, W/16). ValueError unless 64 divides H and W."""
        if x.shape[-2] % HYPER_STRIDE or x.shape[-1] % HYPER_STRIDE:
            raise ValueError(f"The image is {x.shape[-1]}x{x.shape[-2]}; pad its edges to multiples of {HYPER_STRIDE}.")
        return self.layers(x)


class PaperSynthesis(nn.Module):
    """g_s: latent -> context maps; for each level, coarse to fine, a ResnetBlock and a 4x4 transposed convolution.

    Every upsampled map is a context: for mults (1, 2, 3, 4) they have `out_channels`, 64, 128 and 192 channels at full,
    1/2, 1/4 and 1/8 size. `out_channels` is 3 in DICM and in epsilon-CDC, 64 in x-CDC. The maps are features: although
    the finest has three channels, no loss asks it to be an image.
    """

    def __init__(self, dim: int = 64, mults: Sequence[int] = (1, 2, 3, 4), out_channels: int = 3) -> None:
        super().__init__()
        widths = [dim * mult for mult in mults]
        self.context_channels = (out_channels, *widths[:-1])
        """Widths of the context maps from fine to coarse: the U-Net's `context_channels`."""
        # The last block keeps its width and the transposed convolution alone goes down to out_channels.
        block_outputs = [widths[0], *widths[:-1]]
        self.blocks = nn.ModuleList(ResnetBlock(a, b) for a, b in zip(widths, block_outputs, strict=True))
        self.ups = nn.ModuleList(upsample(a, b) for a, b in zip(block_outputs, self.context_channels, strict=True))

    def forward(self, y_hat: Tensor) -> list[Tensor]:
        """y_hat (B, 256, h, w) -> contexts, fine to coarse: number i is (B, context_channels[i], 16h/2^i, 16w/2^i)."""
        contexts, h = [], y_hat
        for level in range(len(self.blocks) - 1, -1, -1):
            h = self.ups[level](self.blocks[level](h))
            contexts.append(h)
        return contexts[::-1]


class PaperHyperAnalysis(nn.Module):
    """h_a: a 3x3 convolution, then 5x5 convolutions of stride 2, LeakyReLU between them; no |y|, no last activation."""

    def __init__(self, latent_channels: int = 256, hyper_channels: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        widths = [latent_channels, *hyper_channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 5, stride=2, padding=2) if level else nn.Conv2d(a, b, 3, padding=1)
            for level, (a, b) in enumerate(pairwise(widths))
        )

    def forward(self, y: Tensor) -> Tensor:
        """y (B, 256, h, w), h and w multiples of 4 -> hyper-latent z (B, 256, h/4, w/4)."""
        for level, layer in enumerate(self.layers):
            y = layer(F.leaky_relu(y, HYPER_SLOPE) if level else y)
        return y


def hyper_synthesis_layers(
    latent_channels: int = 256, hyper_channels: Sequence[int] = (256, 256, 256)
) -> list[LayerSpec]:
    """The layers of h_s for `IntegerSynthesis`: z_hat (B, 256, h/4, w/4) -> (B, 512, h, w), means first, then scales.

    Published: 5x5 transposed convolutions of stride 2, LeakyReLU(0.2), and a last 3x3 convolution. Departures, because
    what feeds the coder is computed in exact integers: nearest upsampling and a 5x5 convolution stand for each
    transposed one (as many weights, the same 3x3 reach on the coarse grid; the published layer inserts zeros where this
    one repeats), the negative slope is the integer network's 1/4, and the second half of the channels is not the scale
    but the index of its table (`Hyperprior`: from 0.11, where the published lower bound is 0.1, in geometric steps).
    The parameter count is unchanged: 4 457 472 at the published widths.
    """
    layers = [
        LayerSpec(inputs, outputs, kernel=5, upsample=2, activation="leaky_relu")
        for inputs, outputs in zip(hyper_channels[:0:-1], hyper_channels[-2::-1], strict=True)
    ]
    return [*layers, LayerSpec(hyper_channels[0], 2 * latent_channels, kernel=3, activation="none")]


class PaperHyperSynthesis(nn.Module):
    """h_s as published, in floats: for latents that no coder sees. As many parameters as `hyper_synthesis_layers`."""

    def __init__(self, latent_channels: int = 256, hyper_channels: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        widths = hyper_channels[::-1]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, stride=2, padding=2, output_padding=1) for a, b in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], 2 * latent_channels, 3, padding=1)

    def forward(self, z_hat: Tensor) -> Tensor:
        """z_hat (B, 256, h/4, w/4) -> (B, 512, h, w): the means of y, then its scales before their lower bound."""
        for up in self.ups:
            z_hat = F.leaky_relu(up(z_hat), HYPER_SLOPE)
        return self.head(z_hat)
