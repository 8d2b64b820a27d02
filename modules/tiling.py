"""Large images in overlapping strips of rows: networks need the memory of one strip, and time grows with the pixels.

Strips span the whole width, because fusion attends along rows; what is cut off above and below is out of sight only for
the rows next to the cut, and those are thrown away or blended. A strip's memory is that of rows x width pixels; beside
it stand a few whole images (input, noise, output), whose bytes no strips can save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

OVERLAP = 128
"""Rows that two neighbouring strips share."""
MARGIN = 48
"""Rows next to a cut that are thrown away; the OVERLAP - 2 x MARGIN rows between are blended linearly.

A strip's error falls steeply with the distance from its cut. With a released model at rate 0.5, on two KITTI pairs of
full resolution, its root mean square (of 255) was 5 to 8 at the cut, 0.4 to 2.3 after 32 rows, 0.2 to 1 after 48 and
0.02 to 0.1 after 64.
"""
UNIT = 64
"""Strips begin and end on multiples of it, as padded images do."""
LEAST_ROWS = OVERLAP + UNIT
"""No strip may be lower."""


@dataclass(frozen=True)
class Strip:
    """Rows `start` to `stop` (exclusive) of an image."""

    start: int
    stop: int


def row_strips(height: int, rows: int | None) -> list[Strip]:
    """Strips of at most `rows` rows, in order, that cover `height` rows; one strip if `rows` is None or enough.

    `height` is a multiple of UNIT. Raises ValueError if `rows` is below LEAST_ROWS.
    """
    if rows is None or rows >= height:
        return [Strip(0, height)]
    if rows < LEAST_ROWS:
        raise ValueError(f"tile_rows is {rows}; strips need at least {LEAST_ROWS} rows, of which they share {OVERLAP}.")
    step = (rows - OVERLAP) // UNIT * UNIT
    starts = range(0, height - OVERLAP, step)
    return [Strip(start, min(start + step + OVERLAP, height)) for start in starts]


def _weights(strip: Strip, height: int, stride: int) -> Tensor:
    """The share of each row of a strip's output, one row for `stride` rows of the image, in the blended whole."""
    rows = torch.arange(strip.start, strip.stop, stride, dtype=torch.float32) + stride / 2
    ramp = OVERLAP - 2 * MARGIN
    weights = torch.ones_like(rows)
    if strip.start > 0:
        weights = weights * ((rows - strip.start - MARGIN) / ramp).clamp(0, 1)
    if strip.stop < height:
        weights = weights * ((strip.stop - MARGIN - rows) / ramp).clamp(0, 1)
    return weights


def by_strips(
    function: Callable[[Strip], Tensor],
    height: int,
    rows: int | None,
    stride: int = 1,
    walk: Callable[[Sequence[Strip]], Iterable[Strip]] = iter,
) -> Tensor:
    """function(strip) -> (B, C, strip rows / stride, W), for every strip, as one (B, C, height / stride, W).

    `walk` goes through several strips; see `Codec.walk`.
    """
    strips = row_strips(height, rows)
    if len(strips) == 1:
        return function(strips[0])
    whole: Tensor | None = None
    for strip in walk(strips):
        part = function(strip)
        if whole is None:
            whole = part.new_zeros(*part.shape[:2], height // stride, part.shape[3])
        weights = _weights(strip, height, stride).to(part.device, part.dtype)
        whole[:, :, strip.start // stride : strip.stop // stride] += weights[:, None] * part
    assert whole is not None
    return whole
