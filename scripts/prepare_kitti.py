"""Verify a download of KITTI Stereo and write it as packed caches, which training reads without decoding.

    python scripts/prepare_kitti.py ROOT                    # to datasets/kitti, where train.py looks
    python scripts/prepare_kitti.py ROOT --protocol ndic    # the published lists of pairs
    python scripts/prepare_kitti.py ROOT --check            # only look
    python scripts/prepare_kitti.py ROOT --sample           # the pairs that this project's figures are measured on

ROOT holds data_stereo_flow_multiview.zip and data_scene_flow_multiview.zip (cvlibs.net/datasets/kitti, "multiview
extension"), or the folders extracted from them. If the development kit's mapping/train_mapping.txt lies there too,
pairs are grouped by drive. A whole KITTI takes about 0.8 GB in the caches. `--sample` needs the second zip alone; it
writes datasets/kitti_sample, a data set for `--dataset folder`, and checks the pixels of each picture by their SHA-256.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run


def main() -> None:
    """Verifies ROOT, then writes a cache for each split and size. Raises DataError for what is missing or damaged."""
    from data.files.prepare import add_arguments

    parser = Parser(__doc__)
    add_arguments(parser, "kitti")
    parser.add_argument("--protocol", default="drive_disjoint", choices=["drive_disjoint", "ndic"])
    parser.add_argument(
        "--sizes",
        nargs="+",
        choices=["train", "protocol", "full"],
        help="protocol: the evaluated crop at 128x256; train: its scale at full width; full: as downloaded "
        "(default: train and protocol for the split train, protocol for val and test)",
    )
    parser.add_argument("--sample", action="store_true", help="write the KITTI sample (docs/protocol.md) as PNG files")
    arguments = parser.parse_args()
    if arguments.sample:
        write_sample(arguments)
        return

    from data.files.archive import open_archive
    from data.files.kitti import missing_files, open_kitti
    from data.files.prepare import prepare
    from data.sources import cache_key

    wanted = [
        cache_key("kitti", split, size, arguments.protocol)
        for split in arguments.splits
        for size in arguments.sizes or (["train", "protocol"] if split == "train" else ["protocol"])
    ]
    prepare(
        arguments,
        missing_files(open_archive(arguments.root), arguments.protocol),
        wanted,
        lambda key: open_kitti(arguments.root, key.split, size=key.size, protocol=key.protocol),
    )


def write_sample(arguments: argparse.Namespace) -> None:
    """Writes the splits of the KITTI sample as a folder data set, or only reads them where --check is given."""
    from tqdm import tqdm

    from data.files.export import write_folder
    from data.files.kitti_sample import open_sample
    from data.files.listing import EmptySplitError
    from data.files.prepare import DATASETS

    found = False
    out = DATASETS / "kitti_sample" if arguments.out == DATASETS / "kitti" else arguments.out
    for number, split in enumerate(arguments.splits, 1):
        try:
            source = open_sample(arguments.root, split, partial=arguments.partial)
        except EmptySplitError as error:
            if not arguments.partial or (number == len(arguments.splits) and not found):
                raise
            print(error)
            continue
        found = True
        print(source.report)
        if arguments.check:
            for index in tqdm(range(len(source)), f"checking {split}", unit="pair"):
                source[index]
        else:
            write_folder(source, out)
    if not arguments.check:
        print(f"Ready: --dataset folder --data-root {out}")


if __name__ == "__main__":
    run(main)
