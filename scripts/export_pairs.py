"""Write pairs of any source as a folder data set: OUT/SPLIT/{left,right}/ID.png and OUT/manifest.csv."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ConfigError


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--dataset", default="builtin", choices=["kitti", "cityscapes", "folder", "synthetic", "builtin"]
    )
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--size", default="protocol", choices=["protocol", "full", "train"])
    parser.add_argument("--limit", type=int, default=None, help="the first so many pairs (needed for endless sources)")
    parser.add_argument("--scale", type=float, default=1.0, help="resize both views by this factor (PIL, bilinear)")
    args = parser.parse_args()
    if not 0 < args.scale <= 4:
        raise ConfigError(f"--scale is {args.scale:g}; it lies above 0 and at most 4.")

    from PIL import Image
    from tqdm import tqdm

    from data.sources import open_source

    source = open_source(args.dataset, split=args.split, root=args.data_root, size=args.size, limit=args.limit)
    folders = {name: args.out / args.split / name for name in ("left", "right")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in tqdm(range(len(source)), unit="pair"):
        pair = source[index]
        name = pair.id.replace("/", "_")
        size = (round(pair.x.shape[1] * args.scale), round(pair.x.shape[0] * args.scale))
        for side, view in (("left", pair.x), ("right", pair.x_side)):
            image = Image.fromarray(view)
            if image.size != size:
                image = image.resize(size, Image.Resampling.BILINEAR)
            image.save(folders[side] / f"{name}.png")
        rows.append((args.split, name, pair.group, *size))
    with (args.out / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("split", "id", "drive", "width", "height"))
        writer.writerows(rows)
    print(f"{len(rows)} pairs in {args.out / args.split}")


if __name__ == "__main__":
    run(main)
