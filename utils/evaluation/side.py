"""The side images that a decoder is given: the correct one, none, another scene's, or the correct one distorted.

correct, none, shuffled
jpeg:Q               after JPEG at quality Q
shift:PIXELS         moved down by so many rows (negative: up), as in a pair that is badly rectified; the edge row
                     is repeated where rows are vacated
light:PERCENT        lighter by so many percent (negative: darker): the 8-bit code values times 1 + PERCENT / 100,
                     rounded and clipped. Code values and not linear light, whose transfer function a data set
                     rarely tells; at +-30 % this is about a doubled or halved exposure of an sRGB picture.
occluded:PERCENT     that share of the columns, from the right edge, replaced by mid-gray (128)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.pair import Pair, PairSource
from utils.errors import ConfigError
from utils.evaluation import anchors

Image = NDArray[np.uint8]
CORRECT, NONE, SHUFFLED = PLAIN = ("correct", "none", "shuffled")
RANGES = {"jpeg": (1, 100), "shift": (-64, 64), "light": (-100, 100), "occluded": (0, 100)}
"""The distortions, with the whole numbers that may stand behind the colon."""
USAGE = "correct|none|shuffled|jpeg:Q|shift:PIXELS|light:PERCENT|occluded:PERCENT"


def parse_sides(texts: Sequence[str]) -> list[str]:
    """The conditions that `--side` names, each once, in one spelling and in the order of the module's list.

    Raises ConfigError for anything else.
    """
    order = [*PLAIN, *RANGES]
    sides = sorted(set(map(_parse, texts)), key=lambda side: (order.index(side[0]), side[1]))
    return [f"{name}:{amount}" if name in RANGES else name for name, amount in sides]


def _parse(text: str) -> tuple[str, int]:
    name, colon, number = text.partition(":")
    if text in PLAIN:
        return text, 0
    low, high = RANGES.get(name, (0, -1))
    if colon and re.fullmatch(r"[+-]?[0-9]{1,3}", number) and low <= int(number) <= high:
        return name, int(number)
    asked = f"; {name} takes a whole number from {low} to {high}" if name in RANGES else f"; choose from {USAGE}"
    raise ConfigError(f"--side has {text!r}{asked}.")


def distort(image: Image, side: str) -> Image:
    """A side image (H, W, 3) uint8 after a distortion of RANGES in its one spelling; see the module."""
    name, amount = _parse(side)
    if name == "jpeg":
        return anchors.decode(anchors.encode("jpeg", image, amount))
    if name == "shift":
        rows = np.arange(len(image)) - amount
        return np.ascontiguousarray(image[rows.clip(0, len(image) - 1)])
    if name == "light":
        return np.rint(image * (1 + amount / 100)).clip(0, 255).astype(np.uint8)
    occluded = image.copy()
    occluded[:, image.shape[1] - round(image.shape[1] * amount / 100) :] = 128
    return occluded


def shuffle(groups: Sequence[str], seed: int = 0) -> list[int]:
    """A permutation: pair i takes the side image of pair shuffle(groups)[i], which is always of another group.

    The same for the same groups on every machine. The pairs are lined up group by group, groups and members in an
    order drawn by hash, and rotated by the size of the largest group. Raises ConfigError if no such permutation exists:
    one group, or a group with more than half of the pairs.
    """
    sizes = {group: groups.count(group) for group in groups}
    largest = max(sizes.values())
    if len(sizes) < 2:
        raise ConfigError(
            f"Shuffled side images come from another group, but all {len(groups)} pairs are of one group "
            f"({groups[0]}); evaluate pairs of several groups (a larger --limit)."
        )
    if 2 * largest > len(groups):
        raise ConfigError(
            f"Shuffled side images come from another group, but {largest} of the {len(groups)} pairs are of one group "
            f"({max(sizes, key=lambda group: sizes[group])}); evaluate more pairs (a larger --limit)."
        )
    line = sorted(range(len(groups)), key=lambda i: (_hash(seed, groups[i]), _hash(seed, str(i))))
    partner = [0] * len(groups)
    for place, index in enumerate(line):
        partner[index] = line[(place + largest) % len(line)]
    return partner


def can_shuffle(groups: Sequence[str]) -> str | None:
    """None, or the sentence that says why these pairs cannot be shuffled."""
    try:
        shuffle(groups)
    except ConfigError as error:
        return str(error)
    return None


class SideImages:
    """Side images by variant, for pairs of one source."""

    def __init__(self, source: PairSource) -> None:
        self._source = source

    @cached_property
    def _partner(self) -> list[int]:
        return shuffle(list(self._source.groups))

    def get(self, variant: str, index: int, pair: Pair) -> Image | None:
        """The side image (H, W, 3) uint8 that goes with pair number `index`; None for the variant `none`."""
        if variant == NONE:
            return None
        if variant == CORRECT:
            return pair.x_side
        if variant == SHUFFLED:
            return fit(self._source[self._partner[index]].x_side, *pair.x.shape[:2])
        return distort(pair.x_side, variant)


def fit(image: Image, height: int, width: int) -> Image:
    """`image` brought to another size without scaling: centre crop, and edges repeated where it is too small.

    Original KITTI frames differ by a few pixels between recordings; a codec needs equal sizes.
    """
    for axis, size in ((0, height), (1, width)):
        extra = image.shape[axis] - size
        if extra > 0:
            image = np.take(image, range(extra // 2, extra // 2 + size), axis=axis)
        elif extra < 0:
            before = -extra // 2
            pads = [(0, 0)] * image.ndim
            pads[axis] = (before, -extra - before)
            image = np.pad(image, pads, mode="edge")
    return np.ascontiguousarray(image)


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=8).digest()
