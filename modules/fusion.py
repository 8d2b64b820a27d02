"""Fusion of the decoded latent with the side image: the synthesis transform g_s, conditioned at every scale.

The views are rectified, so a point of x lies on the same row of x_side, some pixels to the left (for a left x).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.layers import Conditioning, Stage, Up

FusionKind = Literal["add", "row_attention", "both", "none"]
MAX_OFFSET = 32
"""Horizontal offsets beyond this many positions share one relative bias."""
SCORE_BYTES = 2**26
"""Upper bound of the attention scores held at a time when no gradient is wanted; at least one row's are."""


class RowAttention(nn.Module):
    """Each position of h attends to all positions of the same row of the side features.

    Queries and keys are normalised (cosine attention with a learned temperature); a learned bias depends on the
    horizontal offset, so that the plausible disparities are preferred before content decides.
    """

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.log_temperature = nn.Parameter(torch.full((self.heads, 1, 1), 2.0))
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * MAX_OFFSET + 1))

    def _rows(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * H, heads, W, C / heads)."""
        batch, channels, height, width = x.shape
        x = x.view(batch, self.heads, channels // self.heads, height, width)
        return x.permute(0, 3, 1, 4, 2).reshape(batch * height, self.heads, width, channels // self.heads)

    @staticmethod
    def _gather(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """(rows, heads, W, c) each, bias (heads, W, W) -> values weighted by attention (rows, heads, W, c)."""
        scores = torch.matmul(query, key.transpose(-1, -2)).float() + bias
        return torch.matmul(scores.softmax(-1).to(value.dtype), value)

    def forward(self, h: Tensor, side: Tensor) -> Tensor:
        """h, side (B, C, H, W) -> the side features gathered for each position of h (B, C, H, W)."""
        batch, channels, height, width = h.shape
        query = F.normalize(self._rows(self.query(h)).float(), dim=-1) * self.log_temperature.exp()
        keys, values = self.key_value(side).chunk(2, dim=1)
        key = F.normalize(self._rows(keys).float(), dim=-1)
        value = self._rows(values)
        columns = torch.arange(width, device=h.device)
        bias = self.bias[:, (columns[None, :] - columns[:, None]).clamp(-MAX_OFFSET, MAX_OFFSET) + MAX_OFFSET]
        rows = len(query) if torch.is_grad_enabled() else max(1, SCORE_BYTES // (4 * self.heads * width**2))
        parts = zip(query.split(rows), key.split(rows), value.split(rows), strict=True)
        gathered = torch.cat([self._gather(q, k, v, bias) for q, k, v in parts])
        gathered = gathered.view(batch, height, self.heads, width, channels // self.heads).permute(0, 2, 4, 1, 3)
        return self.out(gathered.reshape(batch, channels, height, width).contiguous())


class Fuse(nn.Module):
    """One scale's fusion: h + projected side features (`add`), + row attention, or both."""

    def __init__(self, kind: FusionKind, channels: int, side_channels: int, attend: bool) -> None:
        super().__init__()
        self.project = nn.Conv2d(side_channels, channels, 1)
        self.add = kind in ("add", "both")
        self.attention = RowAttention(channels) if attend and kind in ("row_attention", "both") else None

    def forward(self, h: Tensor, side: Tensor) -> Tensor:
        """h (B, C, H, W), side (B, S, H, W) -> (B, C, H, W)."""
        side = self.project(side)
        fused = h + side if self.add else h
        return fused if self.attention is None else fused + self.attention(h, side)


class FusionSynthesis(nn.Module):
    """g_s with fusion: y_hat (B, M, H/16, W/16), side features, rate (B,) -> context at 1/4, 1/8, 1/16.

    At each scale, coarse to fine: fuse, residual blocks, then up; so the side image is aligned coarsely first.
    `attend` says at which scales (fine to coarse) row attention is used where the kind has it.
    """

    def __init__(
        self,
        kind: FusionKind,
        latent: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        side_channels: Sequence[int],
        attend: Sequence[bool],
        embedding: int,
    ) -> None:
        super().__init__()
        self.conditioning = Conditioning(1, embedding)
        self.stem = nn.Conv2d(latent, channels[-1], 3, padding=1)
        self.fuse = nn.ModuleList(
            Fuse(kind, c, s, a) if kind in ("add", "both") or (kind == "row_attention" and a) else nn.Identity()
            for c, s, a in zip(channels, side_channels, attend, strict=True)
        )
        self.stages = nn.ModuleList(Stage(c, n, embedding) for c, n in zip(channels, blocks, strict=True))
        self.ups = nn.ModuleList(Up(b, a) for a, b in pairwise(channels))

    def forward(self, y_hat: Tensor, side: list[Tensor] | None, rate: Tensor) -> list[Tensor]:
        """Context from fine to coarse; `side` is None only for fusion `none`."""
        embedding = self.conditioning(rate)
        h = self.stem(y_hat)
        context: list[Tensor] = []
        for scale in reversed(range(len(self.stages))):
            fuse = self.fuse[scale]
            if side is not None and isinstance(fuse, Fuse):
                h = fuse(h, side[scale])
            h = self.stages[scale](h, embedding)
            context.insert(0, h)
            if scale:
                h = self.ups[scale - 1](h)
        return context
