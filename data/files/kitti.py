"""KITTI Stereo 2012 and 2015, multiview extension (Geiger et al. 2012; Menze and Geiger 2015), from folders or zips.

    data_stereo_flow_multiview   2012: 194 training and 195 testing scenes
    data_scene_flow_multiview    2015: 200 training and 200 testing scenes

each with {training,testing}/{left,right}/NNNNNN_FF.png, where (left, right) is (image_2, image_3) or
(colored_0, colored_1), NNNNNN the scene and FF the frame; frame 10 is the one the benchmark annotates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data.files.archive import Archive, FolderArchive, open_archive
from data.files.geometry import Fit
from data.files.listing import EmptySplitError, ListedSource, PairFiles
from utils.errors import DataError

FITS = {
    "protocol": Fit(crop=(370, 740), resize=(128, 256)),
    "train": Fit(scale=(128, 370)),
    "full": Fit(),
}
"""Image geometry by size: the evaluated crop, the same scale at full width, the original."""

_FOLDERS = {2012: "data_stereo_flow_multiview", 2015: "data_scene_flow_multiview"}
_CAMERAS = (("image_2", "image_3"), ("colored_0", "colored_1"))
_SCENES = {(2012, "training"): 194, (2012, "testing"): 195, (2015, "training"): 200, (2015, "testing"): 200}
# KITTI 2015 training scenes from here on were recorded on other days than those before.
_FIRST_VAL_SCENE = 155

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A block of pairs of a split: every listed frame of the scenes in every listed direction."""

    year: int
    part: str
    scenes: range
    frames: tuple[int, ...]
    both_directions: bool

    def __len__(self) -> int:
        return len(self.scenes) * len(self.frames) * (2 if self.both_directions else 1)


def _whole(year: int, part: str, frames: tuple[int, ...], both_directions: bool) -> Wanted:
    return Wanted(year, part, range(_SCENES[year, part]), frames, both_directions)


PROTOCOLS: dict[str, dict[str, tuple[Wanted, ...]]] = {
    "drive_disjoint": {
        "train": (
            _whole(2012, "training", (10, 11), True),
            Wanted(2015, "training", range(_FIRST_VAL_SCENE), (10, 11), True),
        ),
        "val": (Wanted(2015, "training", range(_FIRST_VAL_SCENE, 200), (10,), False),),
        "test": (_whole(2012, "testing", (10,), False), _whole(2015, "testing", (10,), False)),
    },
    # The published lists; val and test share every scene, and the two directions of a pair are not independent.
    "ndic": {
        "train": (_whole(2012, "training", (10, 11), True), _whole(2015, "training", (10, 11), True)),
        "val": (_whole(2012, "testing", (11,), True), _whole(2015, "testing", (11,), True)),
        "test": (_whole(2012, "testing", (10,), True), _whole(2015, "testing", (10,), True)),
    },
}
"""The pairs of each split, by protocol: drive_disjoint 1396 / 45 / 395, ndic 1576 / 790 / 790."""


def expected_pairs(protocol: str, split: str) -> int:
    """How many pairs the whole data set has in a split."""
    return sum(len(wanted) for wanted in PROTOCOLS[protocol][split])


@dataclass(frozen=True)
class Views:
    """The two cameras' folders of one part of one year: training/image_2 and training/image_3, say."""

    archive: Archive
    left: str
    right: str


def open_kitti(
    root: Path | str,
    split: str,
    *,
    size: str = "protocol",
    protocol: str = "drive_disjoint",
    limit: int | None = None,
) -> ListedSource:
    """One split of KITTI Stereo.

    `root` is a folder with the two data sets' folders or zips (one of them is enough), one of these folders, or a
    zip. Ids are kitti2015_training_000155_10, with "_rl" appended where x is the right camera's view. Under
    drive_disjoint such a pair is mirrored, so that x again has its neighbour to the right as in evaluation; under
    ndic it is left as published. Groups are the drives that the development kit's mapping/train_mapping.txt names, if
    it lies in the root (2015 training only); otherwise every scene is its own group.

    Raises DataError for a root without KITTI, a right image missing beside its left one or the reverse, and a split
    of which nothing is there. A partial copy is usable; `report` and a warning say how much was found.
    """
    archive = open_archive(root)
    views = find_views(archive)
    drives = _read_mapping(archive)
    files: list[PairFiles] = []
    for wanted in PROTOCOLS[protocol][split]:
        if (wanted.year, wanted.part) in views:
            files.extend(_pairs(wanted, views[wanted.year, wanted.part], drives, mirror=protocol == "drive_disjoint"))
    expected = expected_pairs(protocol, split)
    if not files:
        raise EmptySplitError(
            f"No pair of KITTI's {split} split ({_describe(protocol, split)}) is in {archive.describe()}; "
            "choose another split, or complete the download (scripts/prepare_kitti.py lists what is missing)."
        )
    found = f"all {expected}" if len(files) == expected else f"{len(files)} of {expected}"
    report = f"{split} ({protocol}): {found} pairs in {archive.describe()}."
    if len(files) < expected:
        _log.warning("kitti %s", report)
    return ListedSource("kitti", split, files[:limit], FITS[size], report)


def find_views(archive: Archive) -> dict[tuple[int, str], Views]:
    """(year, "training" or "testing") -> where its images lie. Raises DataError if there is nothing of KITTI."""
    views: dict[tuple[int, str], Views] = {}
    gray = False
    for year, tree in _trees(archive):
        for part in ("training", "testing"):
            present = tree.folders(part)
            gray = gray or "image_0" in present
            for left, right in _CAMERAS:
                if (year, part) not in views and (left in present or right in present):
                    views[year, part] = Views(tree, f"{part}/{left}", f"{part}/{right}")
    if not views:
        reason = "only KITTI's grayscale images (image_0, image_1)" if gray else "no KITTI Stereo images"
        raise DataError(
            f"{archive.describe()} holds {reason}; it should hold data_stereo_flow_multiview and "
            "data_scene_flow_multiview, as folders or zips, with training/image_2 or training/colored_0 in them."
        )
    return views


def missing_files(archive: Archive, protocol: str) -> Iterator[tuple[str, int, list[str]]]:
    """For each folder of images that the protocol reads: (folder, files expected, names of the missing ones)."""
    needed: dict[tuple[int, str], set[str]] = {}
    for wanted in (block for blocks in PROTOCOLS[protocol].values() for block in blocks):
        names = {file_name(scene, frame) for scene in wanted.scenes for frame in wanted.frames}
        needed.setdefault((wanted.year, wanted.part), set()).update(names)
    views = find_views(archive)
    for (year, part), names in sorted(needed.items()):
        found = views.get((year, part))
        for camera, side in enumerate(("left", "right")):
            folder = (found.left, found.right)[camera] if found else f"{part}/ ({side})"
            present = set(found.archive.files(folder)) if found else set()
            yield f"{_FOLDERS[year]}/{folder}", len(names), sorted(names - present)


def file_name(scene: int, frame: int) -> str:
    """Name of the image of a scene at a frame, in either camera's folder."""
    return f"{scene:06d}_{frame:02d}.png"


def _trees(archive: Archive) -> Iterator[tuple[int, Archive]]:
    """(year, tree with training/ and testing/): from folders, else zips, else the archive itself."""
    folders, zips = archive.folders(), archive.files()
    whole = True
    for year, name in _FOLDERS.items():
        if name in folders:
            whole = False
            yield year, archive.sub(name)
        elif isinstance(archive, FolderArchive) and f"{name}.zip" in zips:
            whole = False
            inner = open_archive(archive.path / f"{name}.zip")
            yield year, inner.sub(name) if name in inner.folders() else inner
    if whole and ("training" in folders or "testing" in folders):
        yield _year(archive), archive


def _year(archive: Archive) -> int:
    """Which of the two data sets a bare training/testing tree is: by its folder's or zip's name, else its cameras."""
    name = archive.path.resolve().name
    for year, known in _FOLDERS.items():
        if name.startswith(known.removesuffix("_multiview")):
            return year
    cameras = set(archive.folders("training")) | set(archive.folders("testing"))
    return 2012 if "colored_0" in cameras else 2015


def _pairs(wanted: Wanted, views: Views, drives: dict[int, str], *, mirror: bool) -> Iterator[PairFiles]:
    left, right = set(views.archive.files(views.left)), set(views.archive.files(views.right))
    for scene in wanted.scenes:
        for frame in wanted.frames:
            name = file_name(scene, frame)
            if name not in left and name not in right:
                continue
            for folder, there in ((views.left, left), (views.right, right)):
                if name not in there:
                    other = views.right if folder == views.left else views.left
                    raise DataError(
                        f"{views.archive.describe(f'{folder}/{name}')} is missing, although "
                        f"{other}/{name} is there; extract or download it again."
                    )
            label = f"kitti{wanted.year}_{wanted.part}_{scene:06d}"
            drive = drives.get(scene, "") if (wanted.year, wanted.part) == (2015, "training") else ""
            x, x_side = f"{views.left}/{name}", f"{views.right}/{name}"
            pair = PairFiles(f"{label}_{frame:02d}", drive or label, views.archive, x, views.archive, x_side)
            yield pair
            if wanted.both_directions:
                yield replace(pair, id=f"{pair.id}_rl", x=x_side, x_side=x, mirror=mirror)


def _read_mapping(archive: Archive) -> dict[int, str]:
    """2015 training scene -> drive, from the development kit's file; {} without it.

    Line k belongs to scene k: date, drive with the ending "_sync", frame; or nothing where KITTI does not tell.
    """
    for folder in ("mapping", "devkit/mapping", f"{_FOLDERS[2015]}/mapping", f"{_FOLDERS[2015]}/devkit/mapping"):
        if "train_mapping.txt" in archive.files(folder):
            name = f"{folder}/train_mapping.txt"
            break
    else:
        return {}
    lines = archive.read(name).decode("ascii", errors="replace").splitlines()
    drives = {}
    for scene, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or "_drive_" not in words[1] or scene >= _SCENES[2015, "training"]:
            raise DataError(
                f"Line {scene + 1} of {archive.describe(name)} is not a date, a drive and a frame of one of the 200 "
                "training scenes; take the file from KITTI's scene flow development kit, or remove it."
            )
        drives[scene] = words[1].removesuffix("_sync")
    return drives


def _describe(protocol: str, split: str) -> str:
    blocks = (
        f"{wanted.year} {wanted.part} scenes {wanted.scenes[0]}-{wanted.scenes[-1]} "
        f"at frame{'s' if len(wanted.frames) > 1 else ''} {_join(wanted.frames)}"
        for wanted in PROTOCOLS[protocol][split]
    )
    return ", ".join(blocks)


def _join(numbers: Iterable[int]) -> str:
    return " and ".join(str(number) for number in numbers)
