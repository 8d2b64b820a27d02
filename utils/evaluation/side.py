"""The side images that a decoder is given: the right one, none, another scene's, or a lossy one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.pair import Pair, PairSource
from utils.errors import ConfigError
from utils.evaluation import anchors

Image = NDArray[np.uint8]
CORRECT, NONE, SHUFFLED, JPEG = "correct", "none", "shuffled", "jpeg"


def parse_side(text: str) -> str:
    """The side variant that `--side` names, in its one spelling. Raises ConfigError for anything else."""
    if text in (CORRECT, NONE, SHUFFLED):
        return text
    name, colon, quality = text.partition(":")
    if name == JPEG and colon and quality.isdecimal() and 1 <= int(quality) <= 100:
        return f"{JPEG}:{int(quality)}"
    raise ConfigError(f"--side is {text!r}; choose correct, none, shuffled or jpeg:Q with a quality Q from 1 to 100.")


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
        self._partner: list[int] | None = None

    def get(self, variant: str, index: int, pair: Pair) -> Image | None:
        """The side image (H, W, 3) uint8 that goes with pair number `index`; None for the variant `none`."""
        if variant == NONE:
            return None
        if variant == CORRECT:
            return pair.x_side
        if variant == SHUFFLED:
            if self._partner is None:
                self._partner = shuffle(list(self._source.groups))
            return fit(self._source[self._partner[index]].x_side, *pair.x.shape[:2])
        quality = int(variant.removeprefix(JPEG + ":"))
        return anchors.decode(anchors.encode("jpeg", pair.x_side, quality))


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
