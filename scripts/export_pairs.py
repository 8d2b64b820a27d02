"""Write pairs of any source as a folder data set: OUT/SPLIT/{left,right}/ID.png and OUT/manifest.csv.

Rows of other splits in the manifest stay.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run
from utils.errors import ConfigError

if TYPE_CHECKING:
    from data.pair import PairSource

COLUMNS = ["split", "id", "drive", "width", "height"]


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--dataset", default="builtin", choices=["kitti", "cityscapes", "folder", "synthetic", "warped", "builtin"]
    )
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--size", default="protocol", choices=["protocol", "full", "train"])
    parser.add_argument("--limit", type=int, default=None, help="the first so many pairs (needed for endless sources)")
    parser.add_argument("--scale", type=float, default=1.0, help="resize both views by this factor (PIL, bilinear)")
    args = parser.parse_args()
    if not 0 < args.scale <= 4:
        raise ConfigError(f"--scale is {args.scale:g}; it lies above 0 and at most 4.")

    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from data.sources import open_source
    from utils.files import png_bytes, write_whole, writing
    from utils.outputs import refuse_lost_pictures, refuse_overwriting

    source = open_source(args.dataset, split=args.split, root=args.data_root, size=args.size, limit=args.limit)
    manifest = args.out / "manifest.csv"
    names = [pair_id.replace("/", "_") for pair_id in source.ids]
    targets = {view: [args.out / args.split / view / f"{name}.png" for name in names] for view in ("left", "right")}
    refuse_overwriting([*targets["left"], *targets["right"], manifest], files_of(source))
    refuse_lost_pictures([*targets["left"], *targets["right"]])
    rows = rows_of_others(manifest, args.split)
    for files in targets.values():
        with writing(files[0].parent):
            files[0].parent.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(len(source)), unit="pair"):
        pair = source[index]
        size = (round(pair.x.shape[1] * args.scale), round(pair.x.shape[0] * args.scale))
        for files, view in zip(targets.values(), (pair.x, pair.x_side), strict=True):
            image = Image.fromarray(view)
            if image.size != size:
                image = image.resize(size, Image.Resampling.BILINEAR)
            write_whole(files[index], png_bytes(np.asarray(image)))
        rows.append([args.split, names[index], pair.group, *map(str, size)])
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    write_whole(manifest, text.getvalue().encode("utf-8", "surrogateescape"))
    print(f"{len(source)} pairs in {args.out / args.split}")


def files_of(source: PairSource) -> set[Path]:
    """What the pairs of a source are read from: images and their manifest, zips, or a cache."""
    from data.files.listing import ListedSource
    from data.files.packed import PackedSource

    if isinstance(source, PackedSource):
        return set(source.folder.iterdir())
    if not isinstance(source, ListedSource):
        return set()
    read = [(pair.archive.path, pair.x) for pair in source.files]
    read += [(pair.side_archive.path, pair.x_side) for pair in source.files]
    return {place if place.is_file() else place / name for place, name in [*read, (read[0][0], "manifest.csv")]}


def rows_of_others(manifest: Path, split: str) -> list[list[str]]:
    """The rows that a manifest has for other splits; [] without one. Raises ConfigError for a file that is none."""
    from utils.files import read_whole

    if not manifest.exists():
        return []
    header, *rows = [*csv.reader(io.StringIO(read_whole(manifest).decode("utf-8", "surrogateescape")))] or [[]]
    if header != COLUMNS:
        raise ConfigError(f"{manifest} is not one that this command made; choose another output folder.")
    return [row for row in rows if row and row[0] != split]


if __name__ == "__main__":
    run(main)
