"""The side-image encoder e_side, with a learned null input that stands for "no side image"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.transforms import Pyramid


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
