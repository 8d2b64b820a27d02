"""The conditional U-Net denoiser, in pixel space behind a block transform."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from modules.transforms import PATCH, BlockDCT, Conditioning, Down, Stage, Up


class UNet(nn.Module):
    """Noisy image, noise level, gamma, rate and context -> prediction of x0, epsilon or v (B, 3, H, W).

        x_t ─ block DCT ─ 1/4 ─► 1/8 ─► 1/16 ─► 1/8 ─► 1/4 ─ inverse ─► prediction
                           ▲      ▲       ▲
                        context at each scale is added on the way down

    Convolutional throughout, most of the work at 1/8 and 1/16. The head gives coefficients and, for each, how much of
    the input to add to it: a Wiener filter whose gain follows place and frequency, so that a sky can lose all of its
    noise and a tree keep what may be leaves, without the noise itself having to pass through the network. One gain for
    all frequencies would be set by the strong low ones and, by the shrinkage of MMSE estimates, take the detail away.
    """

    def __init__(
        self, channels: Sequence[int], blocks: Sequence[int], context_channels: Sequence[int], embedding: int
    ) -> None:
        super().__init__()
        self.conditioning = Conditioning(3, embedding)
        self.blocks = BlockDCT()
        self.stem = nn.Conv2d(3 * PATCH**2, channels[0], 3, padding=1)
        self.context = nn.ModuleList(nn.Conv2d(k, c, 1) for k, c in zip(context_channels, channels, strict=True))
        self.down_stages = nn.ModuleList(Stage(c, n, embedding) for c, n in zip(channels, blocks, strict=True))
        self.downs = nn.ModuleList(Down(a, b) for a, b in pairwise(channels))
        self.ups = nn.ModuleList(Up(b, a) for a, b in pairwise(channels))
        self.merges = nn.ModuleList(nn.Conv2d(2 * c, c, 1) for c in channels[:-1])
        self.up_stages = nn.ModuleList(Stage(c, n, embedding) for c, n in zip(channels[:-1], blocks[:-1], strict=True))
        self.head = nn.Conv2d(channels[0], 2 * 3 * PATCH**2, 3, padding=1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.weight[3 * PATCH**2 :] = 0
            self.head.bias[3 * PATCH**2 :] = 0  # type: ignore[index]

    def forward(self, x_t: Tensor, t: Tensor, gamma: Tensor, rate: Tensor, context: list[Tensor]) -> Tensor:
        """x_t (B, 3, H, W); t, gamma, rate (B,) in [0, 1]; context as the synthesis gives it, fine to coarse."""
        embedding = self.conditioning(t, gamma, rate)
        coefficients = self.blocks(x_t)
        h = self.stem(coefficients)
        skips: list[Tensor] = []
        for scale, (project, stage) in enumerate(zip(self.context, self.down_stages, strict=True)):
            if scale:
                h = self.downs[scale - 1](h)
            h = stage(h + project(context[scale]), embedding)
            skips.append(h)
        for scale in reversed(range(len(self.merges))):
            h = self.ups[scale](h)
            h = self.merges[scale](torch.cat([h, skips[scale]], dim=1))
            h = self.up_stages[scale](h, embedding)
        estimate, gain = self.head(h).float().chunk(2, dim=1)
        return self.blocks.inverse(torch.addcmul(estimate, gain, coefficients))
