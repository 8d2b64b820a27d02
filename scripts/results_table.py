"""An evaluation's points and BD-rates as Markdown tables: python scripts/results_table.py results/x/summary.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run
from utils.errors import DataError

if TYPE_CHECKING:
    from utils.evaluation.rd import Difference

METRICS = ("psnr", "ms_ssim_db", "lpips_alex", "dists", "fid")


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("summary", type=Path, help="summary.json of an evaluation")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--codecs", nargs="+", default=None, help="only these rows, for example ours avif")
    parser.add_argument("--no-intervals", action="store_true", help="points without their 95 %% intervals")
    parser.add_argument("--only", choices=("points", "bd-rates"), help="one of the two tables")
    args = parser.parse_args()
    try:
        summary = json.loads(args.summary.read_text())
        points = [p for p in summary["points"] if not args.codecs or p["codec"] in args.codecs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{args.summary} is no summary of an evaluation ({error}); run evaluate.py first.") from None
    data = summary["dataset"]
    print(
        f"{data['name']}, split {data['split']}, size {data['size']}, {data['pairs']} pairs, {data['groups']} groups."
    )
    if args.only != "bd-rates":
        _print_points(points, args.metrics, intervals=not args.no_intervals)
    if args.only != "points":
        _print_differences(summary, args.summary.with_name("images.csv"), args.metrics)


def _print_points(points: list[dict[str, Any]], metrics: list[str], *, intervals: bool) -> None:
    """A row a point. Steps and gamma have columns if the models' points differ in them."""
    settings = [name for name in ("steps", "gamma") if len({p[name] for p in points if p.get(name) is not None}) > 1]
    titles = ["method", "rate", *settings, "side image", "bpp", *metrics]
    print("\n| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    for point in points:
        cells = [
            point["codec"],
            *("" if point[name] is None else f"{point[name]:g}" for name in ("rate", *settings)),
            point["side"] or "",
            f"{point['bpp']:.4f}",
            *(_entry(point["metrics"].get(name), intervals=intervals) for name in metrics),
        ]
        print("| " + " | ".join(cells) + " |")


def _print_differences(summary: dict[str, Any], images: Path, metrics: list[str]) -> None:
    """BD-rates in percent, negative for fewer bits at equal quality, with 95 % intervals over groups of images."""
    from utils.evaluation.bd_intervals import Images, with_intervals

    points = [
        point | {"metrics": {name: point["metrics"][name] for name in metrics if name in point["metrics"]}}
        for point in summary["points"]
    ]
    found = with_intervals(points, Images.of_csv(images, summary))
    references = list(dict.fromkeys(d.reference for d in found))
    if not found:
        return
    print("\n| BD-rate of | in | " + " | ".join(f"against {name}" for name in references) + " |")
    print("|" + "---|" * (2 + len(references)))
    for test, metric in dict.fromkeys((d.test, d.metric) for d in found):
        row = {d.reference: _rate(d) for d in found if (d.test, d.metric) == (test, metric)}
        count = next(d.count for d in found if (d.test, d.metric) == (test, metric))
        print("| " + " | ".join([test, metric + count, *(row.get(name, "-") for name in references)]) + " |")


def _rate(difference: Difference) -> str:
    if difference.rate is None:
        return "-"
    interval = difference.rate_interval
    return f"{difference.rate:+.1f} %" + (f" [{interval[0]:+.1f}, {interval[1]:+.1f}]" if interval else "")


def _entry(entry: dict[str, Any] | None, *, intervals: bool) -> str:
    """A value with the number of images it is over, if not all, and its 95 % interval, where it has one."""
    from utils.evaluation.rd import count_of, interval_of, value_of

    value, interval = value_of(entry), interval_of(entry) if intervals else None
    if value is None:
        return "-"
    return f"{value:.4g}{count_of(entry)}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


if __name__ == "__main__":
    run(main)
