"""Alignment of the side image: for each position of x, where x_side shows the same point, at 1/16, 1/8 and 1/4.

The views are rectified, so that point lies on the same row. All of a row is compared at the coarsest scale; each finer
scale compares a few positions around what the coarser one found, as RAFT-Stereo does (Lipson, Teed and Deng 2021, arXiv
2109.07547), so that time and memory grow with the pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 0.25
"""Share of the width by which a point is displaced at most, to the left or right; two positions are added."""
KNOTS = 33
"""Entries of the learned prior of displacements, from -REACH to REACH of the width."""
RADIUS = 4
"""Positions to either side of the coarser match that a finer scale compares."""
SHARPENED = 4
"""A match is read from the attention's weights to this power."""
MAX_ROWS_OFF = 0.5
"""Positions up or down by which the side image is moved at most, where the cameras are not quite rectified."""
SCORE_BYTES = 2**24
"""Upper bound of the scores of rows held at a time when no gradient is wanted; at least one row's are."""


class Matches(NamedTuple):
    """Where the side image shows what a position shows, by one or several estimates: (B, maps, H, W), float32.

    `offset` in positions of their scale to the right (minus the disparity, for a left x); `confidence` in (0, 1].
    """

    offset: Tensor
    confidence: Tensor

    def finer(self) -> Matches:
        """The same at twice the resolution: between positions linear, and twice as many positions away."""
        offset, confidence = (F.interpolate(m, scale_factor=2, mode="bilinear") for m in self)
        return Matches(2 * offset, confidence)


def warp(features: Tensor, offset: Tensor, rows_off: Tensor | None = None) -> Tensor:
    """features (B, C, H, W) read `offset` (B, 1, H, W) positions to the right, linearly, with the border repeated.

    `rows_off` (B, 1, H, W): and so many positions down.
    """
    height, width = features.shape[2:]
    rows = torch.linspace(-1, 1, height, device=offset.device)[None, :, None].expand(len(offset), -1, width)
    if rows_off is not None:
        rows = rows + rows_off[:, 0].float() * (2 / max(1, height - 1))
    columns = (torch.arange(width, device=offset.device) + offset[:, 0].float()) * (2 / max(1, width - 1)) - 1
    grid = torch.stack([columns, rows if height > 1 else torch.zeros_like(columns)], dim=-1)
    return F.grid_sample(features.float(), grid, padding_mode="border", align_corners=True).to(features.dtype)


def lookup(query: Tensor, key: Tensor, offset: Tensor, radius: int = RADIUS) -> Tensor:
    """Correlations around a match: query, key (B, C, H, W) and offset (B, 1, H, W) -> (B, 2 radius + 1, H, W).

    Entry k is the dot product of the query at column u with the key at column u + offset + k - radius of its row,
    linear between columns; beyond the border the last column counts. Memory: 2 (radius + 1) C values a position.
    """
    batch, channels, height, width = query.shape
    queries, keys = (part.permute(0, 2, 3, 1).reshape(-1, channels) for part in (query, key))
    # A hostile file can make features infinite and offsets NaN: an index must lie in the row even then.
    columns = torch.arange(width, device=offset.device) + offset[:, 0].nan_to_num()
    first = columns.floor()
    row = torch.arange(batch * height, device=offset.device).view(batch, height, 1, 1) * width
    # One column more than entries, for the linear interpolation.
    taps = torch.arange(-radius, radius + 2, device=offset.device)
    places = row + (first.long()[..., None] + taps).clamp(0, width - 1)
    around = keys.index_select(0, places.flatten()).view(-1, len(taps), channels)
    with torch.autocast(query.device.type, enabled=False):
        products = torch.bmm(around, queries[:, :, None]).view(*places.shape).permute(0, 3, 1, 2)
    # A dot product is linear in the key: interpolating the products is interpolating the keys.
    return torch.lerp(products[:, :-1], products[:, 1:], (columns - first)[:, None])


class Descriptor(nn.Module):
    """Features (B, C, H, W) -> unit vectors (B, size, H, W), float32, that are compared by their dot product."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, size, 3, padding=1), nn.SiLU(), nn.Conv2d(size, size, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.normalize(self.layers(x).float(), dim=1)


class RowCorrelation(nn.Module):
    """The coarsest scale: each position of h attends to the positions of its row of the side features within REACH.

    A learned prior depends on the displacement as a share of the width, so that it is the same at every size of the
    image. The match is the mean column under the sharpened weights: a peak in a broad plain counts, the plain does not,
    and gradients reach it (soft-argmax; Kendall et al. 2017, arXiv 1703.04309).
    """

    def __init__(self, channels: int, side_channels: int, size: int = 64) -> None:
        super().__init__()
        self.query, self.key = Descriptor(channels, size), Descriptor(side_channels, size)
        self.value = nn.Conv2d(side_channels, channels, 1)
        self.log_temperature = nn.Parameter(torch.tensor(2.5))
        # Begin with a broad preference for small displacements.
        self.prior = nn.Parameter(-2 * torch.linspace(-1, 1, KNOTS).square())

    def bias(self, width: int) -> Tensor:
        """The prior as scores (column of x, column of x_side), -inf out of reach."""
        columns = torch.arange(width, device=self.prior.device)
        share = (columns[None, :] - columns[:, None]) / (REACH * width + 2)
        place = ((share.clamp(-1, 1) + 1) / 2) * (KNOTS - 1)
        left = place.floor().clamp(max=KNOTS - 2)
        smooth = torch.lerp(self.prior[left.long()], self.prior[left.long() + 1], place - left)
        return smooth.masked_fill(share.abs() > 1, -math.inf)

    def forward(self, h: Tensor, side: Tensor) -> tuple[Tensor, Matches]:
        """h (B, C, H, W), side (B, S, H, W) -> the side features for each position (B, C, H, W), and its match."""
        batch, _, height, width = h.shape
        query, key, value = (
            part.permute(0, 2, 3, 1).flatten(0, 1) for part in (self.query(h), self.key(side), self.value(side))
        )
        query, bias = self.log_temperature.exp() * query, self.bias(width)
        rows = len(query) if torch.is_grad_enabled() else max(1, SCORE_BYTES // (4 * width**2))
        parts = zip(query.split(rows), key.split(rows), value.split(rows), strict=True)
        found = zip(*(self._attend(q, k, v, bias) for q, k, v in parts), strict=True)
        gathered, offset, confidence = (torch.cat(part).unflatten(0, (batch, height)) for part in found)
        return gathered.permute(0, 3, 1, 2), Matches(offset[:, None], confidence[:, None])

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, W, c) each, bias (W, W) -> values (rows, W, C), offset and confidence (rows, W)."""
        with torch.autocast(query.device.type, enabled=False):  # It would round the scores, and with them the match.
            scores = torch.matmul(query, key.transpose(1, 2)) + bias
        attention = scores.softmax(-1)
        columns = torch.arange(query.shape[1], device=query.device, dtype=torch.float32)
        offset = ((SHARPENED * scores).softmax(-1) * columns).sum(-1) - columns
        # 1 where one column has all the weight, 1 / W where all have as much.
        return torch.matmul(attention.to(value.dtype), value), offset, attention.square().sum(-1)


class LocalCorrelation(nn.Module):
    """A finer scale: the coarser match is corrected by what the positions around it look like.

    A small network turns the correlations into weights of the displacements -RADIUS to RADIUS, whose mean is the
    correction; it begins as the softmax of the correlations. It also tells how sure the match is, and by how much the
    side image lies too low there.
    """

    def __init__(self, channels: int, side_channels: int, size: int, hidden: int = 32) -> None:
        super().__init__()
        self.query, self.key = Descriptor(channels, size), Descriptor(side_channels, size)
        self.log_temperature = nn.Parameter(torch.tensor(2.5))
        taps = 2 * RADIUS + 1
        self.layers = nn.Sequential(
            nn.Conv2d(taps + 1 + size, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, taps + 2, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, side: Tensor, coarse: Matches) -> tuple[Matches, Tensor]:
        """h (B, C, H, W), side (B, S, H, W), matches at this scale -> better ones, positions down (B, 1, H, W)."""
        query = self.query(h)
        # Gradients go through the sum below, not through where the correlations are read (as in RAFT-Stereo).
        scores = self.log_temperature.exp() * lookup(query, self.key(side), coarse.offset.detach())
        seen = torch.cat([scores, coarse.confidence, query], dim=1).to(h.dtype)
        weights, confidence, rows_off = self.layers(seen).float().split([scores.shape[1], 1, 1], dim=1)
        displacements = torch.arange(-RADIUS, RADIUS + 1.0, device=h.device)[:, None, None]
        correction = ((scores + weights).softmax(1) * displacements).sum(1, keepdim=True)
        return Matches(coarse.offset + correction, confidence.sigmoid()), MAX_ROWS_OFF * rows_off.tanh()
