"""The measurements of scripts/figure_disparity.py: pairs decoded from their files, and what stands in its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.pair import Pair, PairSource
from modules.codec import Codec
from utils import disparity
from utils.disparity import Errors, Map, Source
from utils.images import to_float, to_uint8

ZERO, CONSTANT = "0, x_side as it is", "best constant of each pair"


@dataclass(frozen=True)
class Reading:
    """A pair, its file, and what decoding that file gave."""

    pair: Pair
    data: bytes
    x_hat: NDArray[np.uint8]
    maps: dict[Source, Map]

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """The pixels that count, where the pair has a ground truth."""
        assert self.pair.disparity is not None
        return disparity.visible(self.pair.disparity)

    @cached_property
    def constant(self) -> float:
        """The constant with the smallest mean error; where no ground truth is known, with the most similar x_side."""
        if self.pair.disparity is None:
            return float(disparity.best_shift(self.pair.x, self.pair.x_side))
        return float(np.median(self.pair.disparity[self.valid]))

    def errors(self, estimate: Map | float) -> Errors:
        """Of a map or a constant against the ground truth, which the pair must have."""
        assert self.pair.disparity is not None
        return disparity.judge(estimate, self.pair.disparity, self.valid)

    def warped_psnr(self, estimate: Map | float) -> float:
        """PSNR in dB of x_side, warped by a map or a constant, against x."""
        return disparity.psnr(self.pair.x, disparity.warped(self.pair.x_side, estimate))

    def estimates(self, sources: Sequence[Source]) -> dict[str, Map | float]:
        """The rows of the table: constants, then the maps."""
        return {ZERO: 0.0, CONSTANT: self.constant, **{name_of(source): self.maps[source] for source in sources}}


def read_pair(codec: Codec, pair: Pair, rate: float | None) -> Reading:
    """Code x at this rate and decode the file."""
    data = codec.compress(to_float(pair.x), rate)
    x_hat, maps = disparity.read_maps(codec, data, to_float(pair.x_side))
    return Reading(pair, data, to_uint8(x_hat), maps)


def read_all(codec: Codec, sources: Sequence[PairSource], rate: float | None) -> list[Reading]:
    """Every pair of some sources."""
    return [read_pair(codec, source[index], rate) for source in sources for index in range(len(source))]


def best_heads(readings: Sequence[Reading]) -> dict[int, int]:
    """The head of each stride whose match has the smallest mean error over these pairs, which have a ground truth."""
    error = {source: np.mean([r.errors(r.maps[source]).mean for r in readings]) for source in readings[0].maps}
    chosen: dict[int, int] = {}
    for source in sorted(error, key=error.__getitem__):
        if source.head is not None:
            chosen.setdefault(source.stride, source.head)
    return chosen


def sources_shown(maps: Sequence[Source], heads: dict[int, int]) -> list[Source]:
    """Of all maps: the matches of these heads, by their stride, and the warps; coarse to fine."""
    return [source for source in maps if source.head is None or source.head == heads[source.stride]]


def name_of(source: Source) -> str:
    """Of a row of the table; heads count from 1."""
    return f"1/{source.stride}, {'warp' if source.head is None else f'match of head {source.head + 1}'}"


def loss_without(codec: Codec, readings: Sequence[Reading], source: Source) -> float:
    """How many dB of PSNR the decoded images lose, on average, without what is aligned by this head or warp."""
    with disparity.silenced(codec, source):
        without = [to_uint8(codec.decompress(r.data, to_float(r.pair.x_side))) for r in readings]
    lost = [
        disparity.psnr(r.pair.x, r.x_hat) - disparity.psnr(r.pair.x, other)
        for r, other in zip(readings, without, strict=True)
    ]
    return float(np.mean(lost))
