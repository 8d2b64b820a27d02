"""Fusion of y_hat with x_side: the synthesis transform g_s, which takes features of x_side in at every scale.

The views are rectified, so a point of x lies on the same row of x_side, some pixels to the left (for a left x).

A new kind of fusion takes four steps:
1. a module for one scale, called as `CorrelationFuse.forward` is: features of y_hat and of x_side and the matches of
   the next coarser scale in, features of the same shape and matches (None if it has none) out;
2. its name in FusionKind and in `config.ModelConfig.fusion`;
3. its branch in `FusionSynthesis.__init__`, which makes one module a scale;
4. in `utils/configrules.py`, which of the model's settings it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.alignment import SCORE_BYTES, SHARPENED, LocalCorrelation, Matches, RowCorrelation, warp
from modules.transforms import PATCH, Conditioning, Side, Stage, Up

FusionKind = Literal["correlation", "add", "row_attention", "both", "aligned", "pixel_aligned", "none"]
ALIGNED = ("aligned", "pixel_aligned")
MAX_OFFSET = 32
"""Horizontal offsets beyond this many positions share one relative bias."""
FIRST_REACH = 5.0
"""Standard deviation, in positions, of the offsets that attention prefers before it has learnt any."""
CONFIDENCE_SCALE = 30.0
"""How strongly a head's confidence counts beside its learned trust: e to this power for a head that is sure."""
MAX_CORRECTION = 2.0
"""Positions by which the refinement of `pixel_aligned` moves a match at most."""


class RowAttention(nn.Module):
    """Each position of h attends to all positions of the same row of the side features.

    Queries and keys are normalised (cosine attention with a learned temperature); a learned bias depends on the
    horizontal offset, so that the plausible disparities are preferred before content decides. Where a head's weights
    peak is its estimate of the match, and the sum of their squares tells how sharply: 1 for one column, 1 / W for all.
    """

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.log_temperature = nn.Parameter(torch.full((self.heads, 1, 1), 2.0))
        offset = torch.arange(-MAX_OFFSET, MAX_OFFSET + 1.0)
        self.bias = nn.Parameter((-0.5 * (offset / FIRST_REACH) ** 2).repeat(self.heads, 1))

    def _rows(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * H, heads, W, C / heads)."""
        batch, channels, height, width = x.shape
        x = x.view(batch, self.heads, channels // self.heads, height, width)
        return x.permute(0, 3, 1, 4, 2).reshape(batch * height, self.heads, width, channels // self.heads)

    def _operands(self, h: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """h, side (B, C, H, W) -> query, key, value (B * H, heads, W, C / heads), bias (heads, W, W)."""
        query = F.normalize(self._rows(self.query(h)).float(), dim=-1) * self.log_temperature.exp()
        keys, values = self.key_value(side).chunk(2, dim=1)
        key = F.normalize(self._rows(keys).float(), dim=-1)
        columns = torch.arange(h.shape[3], device=h.device)
        bias = self.bias[:, (columns[None, :] - columns[:, None]).clamp(-MAX_OFFSET, MAX_OFFSET) + MAX_OFFSET]
        return query, key, self._rows(values), bias

    @staticmethod
    def _gather(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, heads, W, c) each, bias (heads, W, W) -> values (rows, heads, W, c), column and confidence of the
        match (rows, heads, W).

        The column is a mean by sharpened weights: a peak in a broad plain counts, the plain does not, and gradients
        reach it. The plain mean of a broad head is the middle of the row, wherever its peak is.
        """
        scores = torch.matmul(query, key.transpose(-1, -2)).float() + bias
        attention = scores.softmax(-1)
        columns = torch.arange(query.shape[2], device=query.device, dtype=torch.float32)
        column = ((SHARPENED * scores).softmax(-1) * columns).sum(-1)  # No matmul: autocast would round it.
        return torch.matmul(attention.to(value.dtype), value), column, attention.square().sum(-1)

    def forward(self, h: Tensor, side: Tensor) -> tuple[Tensor, Matches]:
        """h, side (B, C, H, W) -> the side features for each position of h (B, C, H, W), and each head's matches."""
        batch, channels, height, width = h.shape
        query, key, value, bias = self._operands(h, side)
        rows = len(query) if torch.is_grad_enabled() else max(1, SCORE_BYTES // (4 * self.heads * width**2))
        parts = zip(query.split(rows), key.split(rows), value.split(rows), strict=True)
        found = zip(*(self._gather(q, k, v, bias) for q, k, v in parts), strict=True)
        gathered, column, confidence = (torch.cat(part).unflatten(0, (batch, height)) for part in found)
        gathered = gathered.permute(0, 2, 4, 1, 3).reshape(batch, channels, height, width)
        columns = torch.arange(width, device=h.device)
        matches = Matches(column.transpose(1, 2) - columns, confidence.transpose(1, 2))
        return self.out(gathered.contiguous()), matches


class Gate(nn.Module):
    """How far to trust what the side image offers at each position, in (0, 1); open at first.

    It compares h with what x_side offers, so a wrong side image, or a point that only one camera sees, can be shut
    out; with `evidence` it also sees how sure the match is.
    """

    def __init__(self, channels: int, hidden: int = 32, evidence: bool = False) -> None:
        super().__init__()
        self.compare = nn.Conv2d(2 * channels, hidden, 1)
        self.weigh = nn.Conv2d(1, hidden, 1, bias=False) if evidence else None
        self.decide = nn.Conv2d(hidden, 1, 3, padding=1)
        nn.init.zeros_(self.decide.weight)
        nn.init.constant_(self.decide.bias, 3.0)  # type: ignore[arg-type]

    def forward(self, h: Tensor, offered: Tensor, confidence: Tensor | None = None) -> Tensor:
        """h, offered (B, C, H, W), with evidence a confidence (B, 1, H, W) -> (B, 1, H, W)."""
        compared = self.compare(torch.cat([h, offered], dim=1))
        if self.weigh is not None and confidence is not None:  # An odd number of channels would make cat slow.
            compared = compared + self.weigh(confidence.to(h.dtype))
        return self.decide(F.silu(compared)).sigmoid()


class Refine(nn.Module):
    """A correction of an offset, of at most MAX_CORRECTION positions, from the features that it warped; 0 at first."""

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.compare = nn.Conv2d(2 * channels, hidden, 3, padding=1)
        self.decide = nn.Conv2d(hidden, 1, 3, padding=1)
        nn.init.zeros_(self.decide.weight)
        nn.init.zeros_(self.decide.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, warped: Tensor) -> Tensor:
        """h, warped (B, C, H, W) -> (B, 1, H, W) in positions, float32."""
        raw = self.decide(F.silu(self.compare(torch.cat([h, warped], dim=1))))
        return MAX_CORRECTION * raw.float().tanh()


class Fuse(nn.Module):
    """One scale's fusion: h + projected side features (`add`), + row attention, or both.

    `aligned` has both. Where it does not attend, the side features are warped by the matches of the next coarser scale,
    and a gate weighs the sum. `coarse_maps`: how many matches a position has there, one for each head; their mean is
    taken, weighted by confidence and learned trust.

    `pixel_aligned` adds two things at the finest scale, whose features cover 4x4 pixels. A match is corrected to a
    fraction of a position by comparing h with the warped features. The side image itself is warped by it.
    """

    def __init__(
        self,
        kind: FusionKind,
        channels: int,
        side_channels: int,
        attend: bool,
        coarse_maps: int = 0,
        finest: bool = False,
    ) -> None:
        super().__init__()
        self.project = nn.Conv2d(side_channels, channels, 1)
        self.add = kind in ("add", "both", *ALIGNED)
        attend = attend and kind in ("row_attention", "both", *ALIGNED)
        self.attention = RowAttention(channels) if attend else None
        warps = kind in ALIGNED and not attend and coarse_maps > 0
        by_pixels = warps and finest and kind == "pixel_aligned"
        self.project_warped = nn.Conv2d(side_channels, channels, 1) if warps else None
        self.refine = Refine(channels) if by_pixels else None
        self.project_picture = nn.Conv2d(3 * PATCH**2, channels, 3, padding=1) if by_pixels else None
        self.trust = nn.Parameter(torch.zeros(coarse_maps)) if warps else None
        self.maps = self.attention.heads if self.attention is not None else int(warps)
        self.gate = Gate(channels) if kind in ALIGNED else None

    def forward(self, h: Tensor, side: Tensor, coarse: Matches | None, image: Tensor) -> tuple[Tensor, Matches | None]:
        """h (B, C, H, W), side (B, S, H, W), matches at (H/2, W/2), the side image -> (B, C, H, W), own matches.

        Only at the finest scale is the image, (B, 3, 4 H, 4 W) there, looked at.
        """
        projected = self.project(side)
        offered, matches = projected if self.add else torch.zeros_like(h), None
        if self.attention is not None:
            gathered, matches = self.attention(h, projected)
            offered = offered + gathered
        elif self.project_warped is not None and self.trust is not None and coarse is not None:
            trust = (self.trust[:, None, None] + CONFIDENCE_SCALE * coarse.confidence).softmax(1)
            best = [(trust * of_heads).sum(1, keepdim=True) for of_heads in coarse]
            offset, confidence = (F.interpolate(m, scale_factor=2, mode="bilinear") for m in best)
            matches = Matches(2 * offset, confidence)
            warped = self.project_warped(warp(side, matches.offset))
            offered = offered + warped
            if self.refine is not None and self.project_picture is not None:
                matches = Matches(matches.offset + self.refine(h, warped), matches.confidence)
                by_pixel = PATCH * F.interpolate(matches.offset, scale_factor=PATCH, mode="bilinear")
                offered = offered + self.project_picture(F.pixel_unshuffle(warp(image, by_pixel), PATCH))
        return h + (offered if self.gate is None else self.gate(h, offered) * offered), matches


class CorrelationFuse(nn.Module):
    """One scale of fusion `correlation`: find where the side image shows each position, bring that here, weigh it.

    The coarsest scale has the match of a whole row, finer ones correct it (`modules/alignment.py`). At the finest the
    side image itself is moved as well, pixel by pixel: it has detail that no features of 4x4 pixels keep.
    """

    def __init__(self, channels: int, side_channels: int, scale: int, coarsest: bool) -> None:
        super().__init__()
        self.find = RowCorrelation(channels, side_channels) if coarsest else None
        self.correct = None if coarsest else LocalCorrelation(channels, side_channels, size=24 if scale else 16)
        self.project = None if coarsest else nn.Conv2d(side_channels, channels, 1)
        self.project_picture = nn.Conv2d(3 * PATCH**2, channels, 3, padding=1) if scale == 0 else None
        self.gate = Gate(channels, evidence=True)

    def forward(self, h: Tensor, side: Tensor, coarse: Matches | None, image: Tensor) -> tuple[Tensor, Matches]:
        """h (B, C, H, W), side (B, S, H, W), matches at (H/2, W/2), the side image -> (B, C, H, W), own matches."""
        if self.find is not None:
            # 1/16: all positions of the row are candidates; attention blends their features.
            offered, matches = self.find(h, side)
        else:
            # 1/8 and 1/4: the coarser match, corrected by the positions around it; the side features there.
            assert self.correct is not None and self.project is not None and coarse is not None
            matches, rows_off = self.correct(h, side, coarse.finer())
            offered = self.project(warp(side, matches.offset, rows_off))
            if self.project_picture is not None:
                # 1/4: the pixels as well, each by its own match, linear between the matches of the positions.
                places = PATCH * torch.cat([matches.offset, rows_off], dim=1)
                by_pixel = F.interpolate(places, scale_factor=PATCH, mode="bilinear").split(1, dim=1)
                offered = offered + self.project_picture(F.pixel_unshuffle(warp(image, *by_pixel), PATCH))
        # A gate in (0, 1) shuts out what does not belong here: points that one camera sees, wrong side images.
        return h + self.gate(h, offered, matches.confidence) * offered, matches


class FusionSynthesis(nn.Module):
    """g_s with fusion: y_hat (B, M, H/16, W/16), side features, rate (B,) -> context at 1/4, 1/8, 1/16, and offsets.

    At each scale, coarse to fine: fuse, residual blocks, then up; so the side image is aligned coarsely first.
    `attend` says at which scales (fine to coarse) row attention is used where the kind has it. With `shortcut`, y_hat
    also enters at 1/8 directly: at high rates it has more to say than the features at 1/16 have room for.
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
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.conditioning = Conditioning(1, embedding)
        self.shortcut = Up(latent, channels[-2]) if shortcut else None
        self.stem = nn.Conv2d(latent, channels[-1], 3, padding=1)
        fuse: list[nn.Module] = []
        maps = 0
        for scale in reversed(range(len(channels))):
            fuses = kind in ("add", "both", *ALIGNED) or (kind == "row_attention" and attend[scale])
            widths = (channels[scale], side_channels[scale])
            if kind == "correlation":
                here: nn.Module = CorrelationFuse(*widths, scale, coarsest=scale == len(channels) - 1)
            elif fuses:
                here = Fuse(kind, *widths, attend[scale], maps, finest=scale == 0)
            elif kind in ("none", "row_attention"):
                here = nn.Identity()
            else:
                raise ValueError(f"fusion {kind!r} has no branch here; add the module that it makes at each scale.")
            maps = here.maps if isinstance(here, Fuse) else 0
            fuse.insert(0, here)
        self.fuse = nn.ModuleList(fuse)
        self.stages = nn.ModuleList(Stage(c, n, embedding) for c, n in zip(channels, blocks, strict=True))
        self.ups = nn.ModuleList(Up(b, a) for a, b in pairwise(channels))

    def forward(self, y_hat: Tensor, side: Side | None, rate: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Context from fine to coarse, and for fusion `correlation` the offsets (B, 1, ., .) of the same scales.

        `side` is None only for fusion `none`.
        """
        embedding = self.conditioning(rate)
        h = self.stem(y_hat)
        context: list[Tensor] = []
        offsets: list[Tensor] = []
        matches: Matches | None = None
        for scale in reversed(range(len(self.stages))):
            if self.shortcut is not None and scale == len(self.stages) - 2:
                h = h + self.shortcut(y_hat)
            fuse = self.fuse[scale]
            if side is not None and not isinstance(fuse, nn.Identity):
                h, matches = fuse(h, side.features[scale], matches, side.image)
                if isinstance(fuse, CorrelationFuse):
                    offsets.insert(0, matches.offset)
            h = self.stages[scale](h, embedding)
            context.insert(0, h)
            if scale:
                h = self.ups[scale - 1](h)
        return context, offsets
