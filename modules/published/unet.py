"""The denoising U-Net of CDC and DICM.

Yang and Mandt, "Lossy Image Compression with Conditional Diffusion Models", NeurIPS 2023, arXiv 2209.06950; DICM uses
the same network for the image and for the side image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.published.layers import ChannelNorm, LinearAttention, ResnetBlock, downsample, upsample
from utils.errors import ConfigError


class TimeEmbedding(nn.Module):
    """Normalised time -> embedding: Linear(1, 4 dim), GELU, Linear(4 dim, dim); no sinusoids."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(1, 4 * dim)
        self.project = nn.Linear(4 * dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """t (B,) float in [0, 1] -> (B, dim)."""
        return self.project(F.gelu(self.expand(t.float()[:, None])))


class DownStage(nn.Module):
    """One encoder level: two ResnetBlocks and LinearAttention; the first block takes the context by concatenation."""

    def __init__(self, inputs: int, context: int, outputs: int, time_channels: int, *, first: bool, last: bool) -> None:
        super().__init__()
        self.block1 = ResnetBlock(inputs + context, outputs, time_channels=time_channels, kernel=7 if first else 3)
        self.block2 = ResnetBlock(outputs, outputs, time_channels=time_channels)
        self.attention = LinearAttention(outputs)
        self.down = nn.Identity() if last else downsample(outputs, outputs)

    def forward(self, x: Tensor, context: Tensor | None, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, inputs, H, W) -> (features at this resolution, features for the next level)."""
        if context is not None:
            x = torch.cat([x, context.to(x.dtype)], dim=1)
        h = self.attention(self.block2(self.block1(x, embedding), embedding))
        return h, self.down(h)


class UpStage(nn.Module):
    """One decoder level: two ResnetBlocks and LinearAttention on the features and their skip, then twice the size."""

    def __init__(self, inputs: int, outputs: int, time_channels: int) -> None:
        super().__init__()
        self.block1 = ResnetBlock(2 * inputs, outputs, time_channels=time_channels)
        self.block2 = ResnetBlock(outputs, outputs, time_channels=time_channels)
        self.attention = LinearAttention(outputs)
        self.up = upsample(outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor, embedding: Tensor) -> Tensor:
        """x and skip (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""
        h = self.block1(torch.cat([x, skip], dim=1), embedding)
        return self.up(self.attention(self.block2(h, embedding)))


class PaperUNet(nn.Module):
    """U-Net of CDC and DICM: 39.9 M parameters at the published sizes; layers as in both released codes.

    ```
     x_t + context[0] ─► level 0 (dim, 7x7 first) ─────────────(no skip)      LayerNorm, 7x7 ─► output
         + context[1] ─► level 1 (2 dim) ──────────── skip ─────────────► up 1 ──┘
         + context[2] ─► level 2 (3 dim) ─────────── skip ──────────► up 2 ──┘
         + context[3] ─► level 3 (4 dim) ────────── skip ───────► up 3 ──┘
                         level 4 (5 dim) ───────── skip ────► up 4 ──┘
                         level 5 (6 dim) ──────── skip ─► up 5 ──┘
                                      └─► block, attention, block ─┘
    ```
    Level i works at 1/2^i of the size. Context i is concatenated to the input of level i, before its first block; the
    coarser levels have none. Level 0 has no skip to the decoder: full-resolution detail reaches the output through
    level 1's skip alone. The time enters every block.

    `context_channels` lists the contexts' widths from fine to coarse: (3, 64, 128, 192) for DICM and epsilon-CDC,
    (64, 64, 128, 192) for x-CDC, whose finest context is wider. The output predicts the noise or the image; the network
    does not know which.
    """

    def __init__(
        self,
        dim: int = 64,
        dim_mults: Sequence[int] = (1, 2, 3, 4, 5, 6),
        context_channels: Sequence[int] = (3, 64, 128, 192),
        out_channels: int = 3,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if len(context_channels) >= len(dim_mults):
            raise ConfigError(
                f"context_channels has {len(context_channels)} entries; the U-Net takes at most {len(dim_mults) - 1}, "
                "one for each level but the coarsest."
            )
        widths = [dim * mult for mult in dim_mults]
        last = len(widths) - 1
        inputs = [in_channels, *widths[:-1]]
        contexts = [*context_channels, *[0] * (len(widths) - len(context_channels))]
        self.context_channels = tuple(context_channels)
        self.in_channels = in_channels
        self.stride = 2**last
        """Height and width of the input must be multiples of this."""
        self.time_embedding = TimeEmbedding(dim)
        self.downs = nn.ModuleList(
            DownStage(inputs[i], contexts[i], widths[i], dim, first=i == 0, last=i == last) for i in range(last + 1)
        )
        self.middle1 = ResnetBlock(widths[-1], widths[-1], time_channels=dim)
        self.middle_attention = LinearAttention(widths[-1])
        self.middle2 = ResnetBlock(widths[-1], widths[-1], time_channels=dim)
        self.ups = nn.ModuleList(UpStage(widths[i], widths[i - 1], dim) for i in range(last, 0, -1))
        self.head_norm = ChannelNorm(widths[0])
        self.head = nn.Conv2d(widths[0], out_channels, 7, padding=3)

    def forward(self, x_t: Tensor, t: Tensor, context: Sequence[Tensor]) -> Tensor:
        """x_t (B, in_channels, H, W), t (B,) float in [0, 1], context[i] (B, context_channels[i], H/2^i, W/2^i).

        Returns (B, out_channels, H, W). H and W are multiples of `stride` (32). Raises ValueError for other shapes.
        """
        self._check(x_t, t, context)
        # Down: each level takes its context; its features are the skip to the level on the way up.
        embedding = self.time_embedding(t)
        h, skips = x_t, []
        for level, stage in enumerate(self.downs):
            skip, h = stage(h, context[level] if level < len(context) else None, embedding)
            skips.append(skip)
        # Middle, and up again; level 0's skip stays unused.
        h = self.middle2(self.middle_attention(self.middle1(h, embedding)), embedding)
        for stage in self.ups:
            h = stage(h, skips.pop(), embedding)
        return self.head(self.head_norm(h))

    def _check(self, x_t: Tensor, t: Tensor, context: Sequence[Tensor]) -> None:
        batch, channels, height, width = x_t.shape
        if channels != self.in_channels or height % self.stride or width % self.stride:
            raise ValueError(
                f"x_t is {tuple(x_t.shape)}; it must have {self.in_channels} channels and a height and width that are "
                f"multiples of {self.stride}."
            )
        if t.shape != (batch,) or not t.is_floating_point():
            raise ValueError(f"t is {t.dtype} {tuple(t.shape)}; it must be float ({batch},).")
        if len(context) != len(self.context_channels):
            raise ValueError(f"{len(context)} context maps were given; the U-Net takes {len(self.context_channels)}.")
        for level, (features, width_of) in enumerate(zip(context, self.context_channels, strict=True)):
            expected = (batch, width_of, height >> level, width >> level)
            if features.shape != expected:
                raise ValueError(f"Context {level} is {tuple(features.shape)}; it must be {expected}.")
