"""Single photographs, which have no second view: ROOT/SPLIT/NAME.png, any kind of image, in folders below it as well.

Without split folders, all of ROOT serves for every split.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

from data.files.archive import Archive, open_archive
from data.files.cache import PictureCache
from data.files.geometry import Fit
from data.files.listing import ListedSource, PairFiles, decoded
from data.files.picture_formats import EXTENSIONS
from data.pair import Pair
from utils.errors import DataError

_SPLITS = ("train", "val", "test")
_log = logging.getLogger(__name__)


class PhotosSource(ListedSource):
    """Every pair is one picture as both views, with `has_side` False."""

    def _read(
        self, files: PairFiles, changes: dict[tuple[str, str], list[str]], cache: PictureCache | None = None
    ) -> Pair:
        picture = decoded(files.archive, files.x, "x", changes, cache)
        return Pair(picture, picture, files.id, files.group, has_side=False)


def open_photos(root: Path | str, split: str, *, limit: int | None = None) -> PhotosSource:
    """The photographs of one split of a folder or zip, images as stored; each is its own group.

    Raises DataError for a missing folder, one without pictures, and one that has other splits only.
    """
    archive = open_archive(root)
    present = [name for name in _SPLITS if name in archive.folders()]
    if present and split not in present:
        raise DataError(f"{archive.describe()} has no folder {split}, but {', '.join(present)}; add photographs in it.")
    if not present:
        _log.warning("%s has no split folders: all its photographs serve as %s.", archive.describe(), split)
    folder = split if present else ""
    names = _pictures(archive, folder)
    if not names:
        raise DataError(f"{archive.describe(folder)} holds no pictures; put photographs there.")
    files = [
        PairFiles(id=name, group=name, archive=archive, x=name, side_archive=archive, x_side=name)
        for name in names[:limit]
    ]
    report = f"{split}: {len(names)} photographs in {archive.describe()}."
    return PhotosSource("photos", split, files, Fit(), report)


def _pictures(archive: Archive, folder: str) -> list[str]:
    """The pictures in a folder and all folders below it, sorted within each."""
    prefix = f"{folder}/" if folder else ""
    files = [prefix + name for name in archive.files(folder) if PurePosixPath(name).suffix.lower() in EXTENSIONS]
    return files + [file for name in archive.folders(folder) for file in _pictures(archive, prefix + name)]
