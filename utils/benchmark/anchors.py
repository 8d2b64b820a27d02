"""JPEG, WebP and AVIF by Pillow, with the settings of the evaluation."""

from __future__ import annotations

from functools import partial

from data.pair import Pair
from utils.benchmark.subjects import EIGHT_BIT, Subject
from utils.evaluation import anchors
from utils.evaluation.coders import AnchorCoder
from utils.evaluation.plan import Point


def subjects(pair: Pair, quality: int) -> tuple[list[Subject], list[str]]:
    """Encoding and decoding by each format that this Pillow has, and a sentence for each that it has not.

    `quality` is the formats' own setting, 1 to 100.
    """
    height, width = pair.x.shape[:2]
    found: list[Subject] = []
    missing: list[str] = []
    for name in anchors.NAMES:
        reason = anchors.unavailable(name)
        if reason is not None:
            missing.append(reason)
            continue
        coder, point = AnchorCoder(name), Point(name, quality / 100)
        data, _, _ = coder.encode(pair.x, point)
        note = f"quality {quality}; {anchors.SETTINGS[name]}; as many threads as the format takes"
        for operation, run in (
            ("encode", partial(coder.encode, pair.x, point)),
            ("decode", partial(coder.decode, data, None, point)),
        ):
            found.append(Subject(name, operation, EIGHT_BIT, run, height, width, file_bytes=len(data), note=note))
    return found, missing
