"""Verify a download of Cityscapes and write it as packed caches, which training reads without decoding.

    python scripts/prepare_cityscapes.py ROOT            # to datasets/cityscapes, where train.py looks
    python scripts/prepare_cityscapes.py ROOT --check    # only look

ROOT holds leftImg8bit_trainvaltest.zip and rightImg8bit_trainvaltest.zip (cityscapes-dataset.com), or the folders
leftImg8bit and rightImg8bit extracted from them. The caches at 128x256 take about 1 GB.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run


def main() -> None:
    """Verifies ROOT, then writes a cache for each split. Raises DataError for what is missing or damaged."""
    from data.files.prepare import add_arguments

    parser = Parser(__doc__)
    add_arguments(parser, "cityscapes")
    parser.add_argument(
        "--sizes",
        nargs="+",
        choices=["protocol", "full"],
        default=["protocol"],
        help="protocol: the whole frame at 128x256 (default); full: 1024x2048, 6 MiB an image",
    )
    arguments = parser.parse_args()

    from data.files.cityscapes import missing_files, open_cityscapes
    from data.files.prepare import prepare
    from data.sources import cache_key

    wanted = [
        cache_key("cityscapes", split, size, "standard") for split in arguments.splits for size in arguments.sizes
    ]
    prepare(
        arguments,
        missing_files(arguments.root),
        wanted,
        lambda key: open_cityscapes(arguments.root, key.split, size=key.size),
    )


if __name__ == "__main__":
    run(main)
