"""The side-image encoder e_side, with a learned null input that stands for "no side image"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modules.transforms import Pyramid


class SideEncoder(nn.Module):
    """e_side: side image (B, 3, H, W) in [-1, 1] -> features at 1/4, 1/8, 1/16.

    Where `present` is 0 the features are one learned vector a level: in training for a random part of the samples (side
    dropout), in decoding when the receiver has no side image.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels, blocks)
        self.null = nn.ParameterList(nn.Parameter(torch.zeros(c)) for c in channels)

    def forward(self, x_side: Tensor, present: Tensor) -> list[Tensor]:
        """x_side (B, 3, H, W), present (B,) bool."""
        features = self.pyramid(x_side)
        mask = present[:, None, None, None]
        return [torch.where(mask, f, n.to(f.dtype)[:, None, None]) for f, n in zip(features, self.null, strict=True)]
