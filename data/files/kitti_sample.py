"""The KITTI sample, on which the documents' figures are measured, built from the official files of KITTI 2015.

`kitti_sample.csv` beside this file lists split, scene, drive, and the SHA-256 of the RGB bytes of both stored views.
All 36 pairs of `test` and all 11 of `val` are training scenes of KITTI 2015 at frame 10; so are 53 of the 115 of
`train`.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from data.files.archive import open_archive
from data.files.kitti import FITS, file_name, find_views
from data.files.listing import EmptySplitError, ListedSource, PairFiles
from data.pair import Pair
from utils.errors import DataError

LIST = Path(__file__).with_suffix(".csv")
FRAME = 10


@dataclass
class SampleSource(ListedSource):
    """Pairs whose pixels must be those of the sample: `hashes` gives the SHA-256 of x and x_side by pair id."""

    hashes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __getitem__(self, index: int) -> Pair:
        """Raises DataError if a view's pixels are not the sample's."""
        pair = super().__getitem__(index)
        files = self.files[index]
        for view, name, expected in zip(
            (pair.x, pair.x_side), (files.x, files.x_side), self.hashes[pair.id], strict=True
        ):
            if hashlib.sha256(view.tobytes()).hexdigest() != expected:
                raise DataError(
                    f"{files.archive.describe(name)} does not give the pixels of the KITTI sample; take the original "
                    "data_scene_flow_multiview.zip, whose images are lossless PNG files."
                )
        return pair


def open_sample(root: Path | str, split: str, *, partial: bool = False) -> SampleSource:
    """The pairs of one split of the sample that KITTI 2015 has: test 36, val 11, train 53.

    `root` holds data_scene_flow_multiview, as a folder or a zip, or is one of them. `test` and `val` are the evaluated
    crop at 128x256 pixels, `train` is the whole frame at the same scale. Raises DataError for missing scenes, unless
    `partial`, and EmptySplitError where none is there.
    """
    views = find_views(open_archive(root)).get((2015, "training"))
    if views is None:
        raise DataError(
            f"{root} has no training part of KITTI 2015: give data_scene_flow_multiview.zip, or its folder."
        )
    rows = [row for row in csv.DictReader(LIST.read_text().splitlines()) if row["split"] == split]
    present = set(views.archive.files(views.left)) & set(views.archive.files(views.right))
    found = [row for row in rows if file_name(int(row["scene"]), FRAME) in present]
    if len(found) < len(rows) and not partial:
        missing = ", ".join(row["scene"] for row in rows if row not in found)
        raise DataError(
            f"{views.archive.describe()} lacks frame {FRAME} of the training scenes {missing}, which the sample's "
            f"{split} split has; complete the download, or take what is there with --partial."
        )
    if not found:
        raise EmptySplitError(f"{views.archive.describe()} has no scene of the sample's {split} split.")
    files, hashes = [], {}
    for row in found:
        name = file_name(int(row["scene"]), FRAME)
        pair_id = f"kitti2015_train_{name.removesuffix('.png')}"
        x, x_side = f"{views.left}/{name}", f"{views.right}/{name}"
        files.append(PairFiles(pair_id, row["drive"], views.archive, x, views.archive, x_side))
        hashes[pair_id] = row["x"], row["x_side"]
    fit = FITS["train" if split == "train" else "protocol"]
    report = f"{split}: {len(found)} of {len(rows)} pairs of the KITTI sample in {views.archive.describe()}."
    return SampleSource("kitti_sample", split, files, fit, report, hashes=hashes)
