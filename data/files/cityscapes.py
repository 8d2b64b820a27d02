"""Cityscapes (Cordts et al. 2016): left and right 8-bit images of the annotated frames, from folders or zips.

leftImg8bit/SPLIT/CITY/CITY_SEQ_FRAME_leftImg8bit.png and its counterpart under rightImg8bit; the zips
leftImg8bit_trainvaltest.zip and rightImg8bit_trainvaltest.zip hold just these trees.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from data.files.archive import Archive, open_archive
from data.files.geometry import Fit
from data.files.listing import EmptySplitError, ListedSource, PairFiles
from utils.errors import DataError

EXPECTED = {"train": 2975, "val": 500, "test": 1525}
"""Pairs of each split."""

FITS = {"protocol": Fit(resize=(128, 256)), "train": Fit(resize=(128, 256)), "full": Fit()}
"""Image geometry by size: the whole frame scaled, or the original 1024x2048."""

_SIDES = ("leftImg8bit", "rightImg8bit")

_log = logging.getLogger(__name__)


def open_cityscapes(root: Path | str, split: str, *, size: str = "protocol", limit: int | None = None) -> ListedSource:
    """One split of Cityscapes, left view x and right view x_side, sorted by city and name; a city is a group.

    `root` holds the folders leftImg8bit and rightImg8bit or the two zips; either zip itself will do too. Raises
    DataError for a root without them, one half of a pair missing, and an empty split. A partial copy is usable;
    `report` and a warning say how much was found.
    """
    left, right = find_trees(Path(root))
    files = [_pair(left, right, split, city, name) for city, name in _names(left, right, split)]
    if not files:
        raise EmptySplitError(
            f"{left.describe(split)} holds no *_leftImg8bit.png in city folders; "
            "choose another split, or complete the download (scripts/prepare_cityscapes.py checks it)."
        )
    found = f"all {len(files)}" if len(files) == EXPECTED[split] else f"{len(files)} of {EXPECTED[split]}"
    report = f"{split}: {found} pairs in {root}."
    if len(files) != EXPECTED[split]:
        _log.warning("cityscapes %s", report)
    return ListedSource("cityscapes", split, files[:limit], FITS[size], report)


def find_trees(root: Path) -> tuple[Archive, Archive]:
    """The trees below leftImg8bit and rightImg8bit. Raises DataError naming the one that is not there."""
    folder = root.parent if root.is_file() else root
    if root.is_file() and not any(root.name.startswith(side) for side in _SIDES):
        raise DataError(
            f"{root} is neither leftImg8bit_trainvaltest.zip nor rightImg8bit_trainvaltest.zip; name one of them."
        )
    top = open_archive(folder)
    trees: list[Archive] = []
    for side in _SIDES:
        zips = [name for name in top.files() if name.startswith(side) and name.endswith(".zip")]
        if side in top.folders():
            trees.append(top.sub(side))
        elif f"{side}_trainvaltest.zip" in zips:
            trees.append(open_archive(folder / f"{side}_trainvaltest.zip").sub(side))
        else:
            raise DataError(
                f"{folder} holds neither the folder {side} nor {side}_trainvaltest.zip; "
                "download it from cityscapes-dataset.com, or check the root."
            )
    return trees[0], trees[1]


def missing_files(root: Path) -> Iterator[tuple[str, int, list[str]]]:
    """For each camera and split: (folder, images expected, names of the missing ones).

    Names come from the other camera; where neither camera has an image, it is listed as "unknown".
    """
    left, right = find_trees(root)
    for split, expected in EXPECTED.items():
        names = [names_in(tree, split, side) for tree, side in zip((left, right), _SIDES, strict=True)]
        for here, there in ((0, 1), (1, 0)):
            missing = [f"{city}/{name}_{_SIDES[here]}.png" for city, name in sorted(names[there] - names[here])]
            missing += ["unknown"] * (expected - len(names[here]) - len(missing))
            yield f"{_SIDES[here]}/{split}", expected, missing


def names_in(tree: Archive, split: str, side: str) -> set[tuple[str, str]]:
    """(city, name without the ending _leftImg8bit.png) of every image of a split in one of the two trees."""
    ending = f"_{side}.png"
    return {
        (city, file.removesuffix(ending))
        for city in tree.folders(split)
        for file in tree.files(f"{split}/{city}")
        if file.endswith(ending)
    }


def _names(left: Archive, right: Archive, split: str) -> list[tuple[str, str]]:
    """Sorted (city, name) of the pairs of a split, each of them with both images."""
    names = [names_in(tree, split, side) for tree, side in zip((left, right), _SIDES, strict=True)]
    for here, there, tree in ((0, 1, right), (1, 0, left)):
        lacking = sorted(names[here] - names[there])
        if lacking:
            city, name = lacking[0]
            more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
            raise DataError(
                f"{tree.describe(f'{split}/{city}/{name}_{_SIDES[there]}.png')}{more} is missing, although the "
                "other camera's image is there; extract or download it again."
            )
    return sorted(names[0])


def _pair(left: Archive, right: Archive, split: str, city: str, name: str) -> PairFiles:
    x, x_side = (f"{split}/{city}/{name}_{side}.png" for side in _SIDES)
    return PairFiles(id=name, group=city, archive=left, x=x, side_archive=right, x_side=x_side)
