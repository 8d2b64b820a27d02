"""Compare finished evaluations of the same pairs: one page, figures, tables.

    python scripts/compare.py results/a results/b --out results/comparison

OUT/comparison.html holds everything in one file: curves, BD-rates with intervals and a paired test, what side images
are worth, pictures at matched bytes, and published curves where their protocol is the same. Beside it: rd_six_panel
and rd_other_metrics as SVG, PDF and PNG; points.csv, differences.csv, side.csv. The same command again replaces them.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("evaluations", nargs="+", type=Path, metavar="EVALUATION", help="output folders of evaluate.py")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new folder, or an earlier comparison's"
    )
    options = parser.parse_args()
    from utils.report.comparison import compare

    page = compare(options.evaluations, options.out, f"python scripts/compare.py {shlex.join(sys.argv[1:])}")
    print(f"comparison: {page}")


if __name__ == "__main__":
    run(main)
