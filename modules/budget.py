"""A budget of bytes: the rate level whose file is the largest that fits."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable

from torch import Tensor

from modules.codec import LEVELS, Codec
from utils.errors import ConfigError

NEIGHBOURS = 3
"""Levels beyond the found one that are tried too: sizes rise with the level, but for a few bytes here and there."""
TRIES = LEVELS.bit_length() - 1 + NEIGHBOURS
"""Encodings that the search for a level takes, give or take a few."""


def budget_bytes(bpp: float, height: int, width: int) -> int:
    """Bits per pixel -> whole bytes of a file, rounded down."""
    return int(bpp * height * width / 8)


def largest_level(size_of: Callable[[int], int], budget: int, levels: int = LEVELS) -> int | None:
    """The largest level in 0 .. levels - 1 with size_of(level) <= budget, as far as sizes rise with the level.

    Bisection, then the NEIGHBOURS levels above what it found, repeated while one of them fits. For any sizes: the
    answer fits, none of the NEIGHBOURS levels above it does, and None is returned only if the levels 0 to
    NEIGHBOURS - 1 are all too large. A larger level can fit only where sizes fall again further up. Calls size_of at
    most once a level, about a dozen times in all.
    """
    size = functools.cache(size_of)
    low = bisect.bisect_right(range(levels), budget, key=size) - 1
    while True:
        above = range(min(low + NEIGHBOURS + 1, levels - 1), low, -1)
        found = next((level for level in above if size(level) <= budget), None)
        if found is None:
            return low if low >= 0 else None
        low = found


def compress_within(
    codec: Codec, x: Tensor, budget: int, tried: Callable[[], object] = lambda: None
) -> tuple[bytes, int]:
    """x (3, H, W) in [0, 1] -> the largest file of at most `budget` bytes, and its level; see `largest_level`.

    Encodes the latent once for each level tried, calls `tried` after it, and decodes nothing. Raises ConfigError if
    even the smallest file is larger, and for fixed-rate codecs, whose file has one size.
    """
    if not codec.variable_rate:
        raise ConfigError("A budget of bytes does not apply: this is a fixed-rate model, whose file has one size.")
    files: dict[int, bytes] = {}

    def size_of(level: int) -> int:
        files[level] = codec.compress(x, level / (LEVELS - 1))
        tried()
        return len(files[level])

    level = largest_level(size_of, budget)
    if level is None:
        smallest = min(map(len, files.values()))
        raise ConfigError(
            f"No file of this {x.shape[2]}x{x.shape[1]} image fits {budget} bytes: the smallest has {smallest}; "
            "allow at least that."
        )
    return files[level], level
