"""Write pairs of any source as a folder data set: OUT/SPLIT/{left,right}/ID.png and OUT/manifest.csv.

Rows of other splits in the manifest stay.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import Dataset
from utils.cli import Parser, run
from utils.errors import ConfigError


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--dataset", default="builtin", choices=get_args(Dataset))
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--size", default="protocol", choices=["protocol", "full", "train"])
    parser.add_argument("--limit", type=int, default=None, help="the first so many pairs (needed for endless sources)")
    parser.add_argument("--scale", type=float, default=1.0, help="resize both views by this factor (PIL, bilinear)")
    args = parser.parse_args()
    if not 0 < args.scale <= 4:
        raise ConfigError(f"--scale is {args.scale:g}; it lies above 0 and at most 4.")

    from data.files.export import write_folder
    from data.sources import open_source

    source = open_source(args.dataset, split=args.split, root=args.data_root, size=args.size, limit=args.limit)
    write_folder(source, args.out, args.scale)


if __name__ == "__main__":
    run(main)
