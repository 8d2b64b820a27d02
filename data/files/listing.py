"""A pair source made from a list of image files, for the data sets that lie in folders or zips."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.files.archive import Archive
from data.files.cache import PictureCache
from data.files.geometry import Fit
from data.images import View, check_image, decode_image, side_view
from data.pair import Pair, PairSource
from utils.errors import DataError

_log = logging.getLogger(__name__)


class EmptySplitError(DataError):
    """The data set is there, but holds no pair of the wanted split."""


@dataclass(frozen=True)
class PairFiles:
    """Where the two images of a pair lie: `x` and `x_side` are names in `archive` and `side_archive`.

    Both may name one MPO file: x is an MPO's first picture, x_side its second.

    `mirror` flips both views left to right on reading, so that a pair whose x is the right camera's view looks again
    like a left view with its right neighbour (positive disparity).
    """

    id: str
    group: str
    archive: Archive
    x: str
    side_archive: Archive
    x_side: str
    mirror: bool = False


@dataclass
class ListedSource(PairSource):
    """The pairs of `files`, in this order, each decoded and fitted when it is asked for.

    `report` is one sentence that says how much of the data set was found. `cache` keeps pictures that are read again.
    """

    name: str
    split: str
    files: Sequence[PairFiles] = field(repr=False)
    fit: Fit
    report: str = ""
    cache: PictureCache | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self.files):
            raise IndexError(f"pair {index} of {len(self.files)}")
        return self._read(self.files[index], {}, self.cache)

    def _read(
        self, files: PairFiles, changes: dict[tuple[str, str], list[str]], cache: PictureCache | None = None
    ) -> Pair:
        """`changes` collects, by file and view, how its pixels are not the stored ones."""
        x_name, side_name = files.archive.describe(files.x), files.side_archive.describe(files.x_side)
        x = decoded(files.archive, files.x, "x", changes, cache)
        x_side = decoded(files.side_archive, files.x_side, side_view(files.x_side), changes, cache)
        _check_same_size(x.shape[:2], x_side.shape[:2], x_name, side_name)
        x, x_side = self.fit(x, x_name), self.fit(x_side, side_name)
        if files.mirror:
            x, x_side = np.ascontiguousarray(x[:, ::-1]), np.ascontiguousarray(x_side[:, ::-1])
        return Pair(x=x, x_side=x_side, id=files.id, group=files.group)

    @property
    def ids(self) -> list[str]:
        return [files.id for files in self.files]

    @property
    def groups(self) -> list[str]:
        return [files.group for files in self.files]

    def problems(self, *, decode: bool = False) -> Iterator[str | None]:
        """For each pair in turn None, or the sentence that says what is wrong with its files.

        Reads headers and file ends only (a few hundred pairs a second from a local disk); with `decode`, all pixels.
        At the end it logs, once a kind, in how many images reading changes more than the encoding: gray, profiles, ...
        """
        sizes: dict[tuple[str, str], tuple[int, int]] = {}
        changes: dict[tuple[str, str], list[str]] = {}
        for files in self.files:
            try:
                if decode:
                    self._read(files, changes)
                else:
                    self._check_headers(files, sizes, changes)
            except DataError as error:
                yield str(error)
            else:
                yield None
        for change, count in sorted(Counter(change for found in changes.values() for change in set(found)).items()):
            _log.warning("%s %s, %d of %d images: %s.", self.name, self.split, count, len(changes), change)

    def _check_headers(
        self,
        files: PairFiles,
        sizes: dict[tuple[str, str], tuple[int, int]],
        changes: dict[tuple[str, str], list[str]],
    ) -> None:
        """`sizes` remembers the images already seen, for pairs come in both directions; `changes` as in `_read`."""
        names = files.archive.describe(files.x), files.side_archive.describe(files.x_side)
        views: tuple[View, View] = ("x", side_view(files.x_side))
        for name, archive, file, view in zip(
            names, (files.archive, files.side_archive), (files.x, files.x_side), views, strict=True
        ):
            if (name, view) not in sizes:
                with archive.open(file) as opened:
                    found = changes.setdefault((name, view), [])
                    sizes[name, view] = check_image(opened, name, view=view, changes=found)
        x_size, side_size = (sizes[key] for key in zip(names, views, strict=True))
        _check_same_size(x_size, side_size, *names)
        self.fit.check(*x_size, names[0])


def decoded(
    archive: Archive,
    file: str,
    view: View,
    changes: dict[tuple[str, str], list[str]],
    cache: PictureCache | None = None,
) -> NDArray[np.uint8]:
    """A picture of an archive, decoded or as `cache` has it; `changes` as in `ListedSource`."""
    name = archive.describe(file)
    found = changes.setdefault((name, view), [])
    cache = cache or PictureCache(0)
    return cache.get((name, view), lambda: decode_image(archive.read(file), name, view=view, changes=found))


def _check_same_size(size: tuple[int, ...], side_size: tuple[int, ...], x_name: str, side_name: str) -> None:
    if size != side_size:
        raise DataError(
            f"{x_name} is {size[1]}x{size[0]} but {side_name} is {side_size[1]}x{side_size[0]}; "
            "the two views of a rectified pair must be equally large."
        )
