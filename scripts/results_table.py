"""An evaluation's points and BD-rates as Markdown tables: python scripts/results_table.py results/x/summary.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run
from utils.errors import DataError


def main() -> None:
    """See the module."""
    from utils.evaluation.summary import read_csv
    from utils.metrics.info import SIX
    from utils.report.bd import Images, differences
    from utils.report.rd import ANCHOR_LABELS
    from utils.report.tables import differences_rows, footnotes, markdown, points_rows

    parser = Parser(__doc__)
    parser.add_argument("summary", type=Path, help="summary.json of an evaluation")
    parser.add_argument("--metrics", nargs="+", default=list(SIX), help=f"default: {' '.join(SIX)}")
    parser.add_argument("--codecs", nargs="+", default=None, help="only what concerns these, for example ours avif")
    parser.add_argument("--no-intervals", action="store_true", help="points without their 95 %% intervals")
    parser.add_argument("--only", choices=("points", "bd-rates"), help="one of the two tables")
    args = parser.parse_args()
    try:
        summary = json.loads(args.summary.read_text())
        data, points = summary["dataset"], summary["points"]
        shown = [p for p in points if not args.codecs or p["codec"] in args.codecs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{args.summary} is no summary of an evaluation ({error}); run evaluate.py first.") from None
    names = ("name", "split", "size", "pairs", "groups")
    lines = ["{}, split {}, size {}, {} pairs, {} groups.".format(*(data[name] for name in names))]
    if args.only != "bd-rates":
        lines += ["", *markdown(points_rows(shown, args.metrics, intervals=not args.no_intervals))]
        lines += [line for note in footnotes(shown, args.metrics) for line in ("", note)]
    if args.only != "points":
        chosen = [p | {"metrics": {n: p["metrics"][n] for n in args.metrics if n in p["metrics"]}} for p in points]
        results = read_csv(args.summary.with_name("images.csv"), summary)
        found = differences(chosen, Images.of(results))
        if args.codecs:
            asked = {ANCHOR_LABELS.get(name, name) for name in args.codecs}
            found = [d for d in found if {name.split(",")[0] for name in (d.test, d.reference)} & asked]
        lines += ["", *markdown(differences_rows(found))]
    print("\n".join(lines).rstrip())


if __name__ == "__main__":
    run(main)
