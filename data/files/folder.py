"""Any folder of rectified stereo pairs, as two files or as one MPO file, the format of stereo cameras.

    ROOT/SPLIT/{left,right}/NAME.png    x and x_side, as any kind of image; their endings may differ
    ROOT/SPLIT/NAME.mpo                 both: its first picture is x, its second x_side

A split may hold pairs of both kinds. Without split folders, left, right and MPO files lie in ROOT itself.
"""

from __future__ import annotations

import csv
import io
import logging
import unicodedata
from pathlib import Path

from data.files.archive import Archive, open_archive
from data.files.geometry import Fit
from data.files.listing import ListedSource, PairFiles
from data.files.picture_formats import EXTENSIONS
from utils.errors import DataError

_log = logging.getLogger(__name__)


def open_folder(root: Path | str, split: str, *, limit: int | None = None) -> ListedSource:
    """The pairs of one split of a folder or zip, images as stored, sorted by name.

    The left image (x) and the right one (x_side) have the same NAME, however its accents are encoded (names and ids
    are in Unicode's form NFC), and an ending of EXTENSIONS. Without split folders, ROOT serves for every split. Groups
    come from the columns id and drive (and split) of ROOT/manifest.csv; a pair without an entry there is its own
    group, with a warning. Raises DataError for a missing folder, a missing half of a pair, two images of one name, an
    empty folder and a manifest that cannot be read.
    """
    archive = open_archive(root)
    folder = _split_folder(archive, split)
    left, right = (_images(archive, f"{folder}{side}/") for side in ("left", "right"))
    _check_halves(archive, folder, left, right)
    whole = _images(archive, folder, (".mpo",))
    for name in sorted(whole.keys() & left.keys()):
        raise DataError(
            f"{archive.describe(left[name])} and {archive.describe(whole[name])} are both the pair {name}; remove one."
        )
    if not left and not whole:
        where = archive.describe(folder.rstrip("/"))
        raise DataError(f"{where} has no images in left and right and no MPO files; put pairs of images there.")
    left, right = left | whole, right | whole
    manifest = _read_manifest(archive, split if folder else None)
    files = [
        PairFiles(
            id=name,
            group=manifest.get(name) or name,
            archive=archive,
            x=left[name],
            side_archive=archive,
            x_side=right[name],
        )
        for name in sorted(left)
    ]
    report = _report(archive, split, list(left), manifest)
    return ListedSource("folder", split, files[:limit], Fit(), report)


def _split_folder(archive: Archive, split: str) -> str:
    """ "SPLIT/", or "" if left/ and right/ or MPO files lie directly in the root."""
    top = archive.folders()
    if split in top and (archive.folders(split) or _images(archive, f"{split}/", (".mpo",))):
        return f"{split}/"
    present = [name for name in ("train", "val", "test") if name in top]
    if ("left" in top and "right" in top) or (not present and _images(archive, "", (".mpo",))):
        _log.warning("%s has no split folders: all its pairs serve as %s.", archive.describe(), split)
        return ""
    if present:
        raise DataError(
            f"{archive.describe()} has no split {split!r} with left and right folders, but {', '.join(present)}; "
            f"choose one of these or add {split}/left and {split}/right (or MPO files in {split})."
        )
    raise DataError(
        f"{archive.describe()} holds neither {split}/left and {split}/right nor left and right nor MPO files; "
        "check the root of the data set."
    )


def _images(archive: Archive, folder: str, endings: tuple[str, ...] = EXTENSIONS) -> dict[str, str]:
    """NAME in NFC -> file, of the images in a folder, which is "" or ends in "/"."""
    names: dict[str, str] = {}
    for file in archive.files(folder.rstrip("/")):
        stem, dot, ending = file.rpartition(".")
        if (dot + ending).lower() not in endings:
            continue
        name = unicodedata.normalize("NFC", stem)
        if name in names:
            other = names[name].removeprefix(folder)
            raise DataError(
                f"{archive.describe(folder)} has two images named {name} ({other!a} and {file!a}); remove one."
            )
        names[name] = folder + file
    return names


def _check_halves(archive: Archive, folder: str, left: dict[str, str], right: dict[str, str]) -> None:
    for there, have, lack in (("right", left, right), ("left", right, left)):
        missing = sorted(have.keys() - lack.keys())
        if missing:
            more = f" (and {len(missing) - 1} more lack theirs)" if len(missing) > 1 else ""
            raise DataError(
                f"{archive.describe(have[missing[0]])} has no {there} image of the same name"
                f"{more}; add {folder}{there}/{missing[0]}.png or remove the file."
            )


def _read_manifest(archive: Archive, split: str | None) -> dict[str, str]:
    """id -> drive for the rows of this split (of all splits for None); {} without a manifest."""
    if "manifest.csv" not in archive.files():
        return {}
    where = archive.describe("manifest.csv")
    try:
        text = archive.read("manifest.csv").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8 text; save it as UTF-8.") from None
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in ("split", "id", "drive") if column not in (reader.fieldnames or [])]
    if missing:
        raise DataError(f"{where} lacks the column {missing[0]!r}; its first line must name split, id and drive.")
    drives: dict[str, str] = {}
    splits_of_drive: dict[str, set[str]] = {}
    for row in reader:
        if row["drive"]:
            splits_of_drive.setdefault(row["drive"], set()).add(row["split"])
        if split is None or row["split"] == split:
            drives[unicodedata.normalize("NFC", row["id"])] = row["drive"] or ""
    shared = sorted(drive for drive, splits in splits_of_drive.items() if len(splits) > 1)
    if shared:
        _log.warning(
            "%s: the drive %s has pairs in more than one split (%d such drives).", where, shared[0], len(shared)
        )
    return drives


def _report(archive: Archive, split: str, names: list[str], manifest: dict[str, str]) -> str:
    report = f"{split}: {len(names)} pairs in {archive.describe()}"
    ungrouped = sum(not manifest.get(name) for name in names)
    if ungrouped:
        reason = "manifest.csv does not give their drive" if manifest else "there is no manifest.csv"
        _log.warning("%s: %d of %d pairs are their own group, because %s.", report, ungrouped, len(names), reason)
    absent = len(manifest.keys() - set(names))
    if absent:
        report += f"; {absent} of the {len(manifest)} pairs of manifest.csv are not there"
        _log.warning("%s", report)
    return report + "."
