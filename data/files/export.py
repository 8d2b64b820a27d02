"""Writing a pair source as a data set of the source `folder`: PNG files and a manifest."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data.files.listing import ListedSource
from data.files.packed import PackedSource
from data.pair import PairSource
from utils.errors import ConfigError
from utils.files import png_bytes, read_whole, write_whole, writing
from utils.outputs import refuse_lost_pictures, refuse_overwriting

COLUMNS = ["split", "id", "drive", "width", "height"]


def write_folder(source: PairSource, out: Path, scale: float = 1.0) -> None:
    """Write every pair to OUT/SPLIT/{left,right}/ID.png, and its row to OUT/manifest.csv; rows of other splits stay.

    `scale` resizes both views (PIL, bilinear). Raises ConfigError, before anything is written, where a file that the
    source reads or a picture that this program did not make would be overwritten.
    """
    manifest = out / "manifest.csv"
    names = [pair_id.replace("/", "_") for pair_id in source.ids]
    targets = {view: [out / source.split / view / f"{name}.png" for name in names] for view in ("left", "right")}
    refuse_overwriting([*targets["left"], *targets["right"], manifest], files_of(source))
    refuse_lost_pictures([*targets["left"], *targets["right"]])
    rows = _rows_of_others(manifest, source.split)
    for files in targets.values():
        with writing(files[0].parent):
            files[0].parent.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(len(source)), f"writing {source.split}", unit="pair"):
        pair = source[index]
        size = (round(pair.x.shape[1] * scale), round(pair.x.shape[0] * scale))
        for files, view in zip(targets.values(), (pair.x, pair.x_side), strict=True):
            image = Image.fromarray(view)
            if image.size != size:
                image = image.resize(size, Image.Resampling.BILINEAR)
            write_whole(files[index], png_bytes(np.asarray(image)))
        rows.append([source.split, names[index], pair.group, *map(str, size)])
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    write_whole(manifest, text.getvalue().encode("utf-8", "surrogateescape"))
    print(f"{len(source)} pairs in {out / source.split}")


def files_of(source: PairSource) -> set[Path]:
    """What the pairs of a source are read from: images and their manifest, zips, or a cache."""
    if isinstance(source, PackedSource):
        return set(source.folder.iterdir())
    if not isinstance(source, ListedSource):
        return set()
    read = [(pair.archive.path, pair.x) for pair in source.files]
    read += [(pair.side_archive.path, pair.x_side) for pair in source.files]
    return {place if place.is_file() else place / name for place, name in [*read, (read[0][0], "manifest.csv")]}


def _rows_of_others(manifest: Path, split: str) -> list[list[str]]:
    """The rows that a manifest has for other splits; [] without one. Raises ConfigError for a file that is none."""
    if not manifest.exists():
        return []
    header, *rows = [*csv.reader(io.StringIO(read_whole(manifest).decode("utf-8", "surrogateescape")))] or [[]]
    if header != COLUMNS:
        raise ConfigError(f"{manifest} is not one that this command made; choose another output folder.")
    return [row for row in rows if row and row[0] != split]
