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
    from utils.rd import Difference

METRICS = ("psnr", "ms_ssim_db", "cvvdp", "effnet_dist", "kd_effnet")


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("summary", type=Path, help="summary.json of an evaluation")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--codecs", nargs="+", default=None, help="only these rows, for example ours avif")
    args = parser.parse_args()
    try:
        summary = json.loads(args.summary.read_text())
        points = summary["points"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{args.summary} is no summary of an evaluation ({error}); run evaluate.py first.") from None
    data = summary["dataset"]
    print(
        f"{data['name']}, split {data['split']}, size {data['size']}, {data['pairs']} pairs, {data['groups']} groups.\n"
    )
    print("| method | rate | side image | bpp | file / estimate | " + " | ".join(args.metrics) + " |")
    print("|" + "---|" * (5 + len(args.metrics)))
    for point in points:
        if args.codecs and point["codec"] not in args.codecs:
            continue
        estimate = point["bpp_estimated"]
        cells = [
            point["codec"],
            "" if point["rate"] is None else f"{point['rate']:g}",
            point["side"] or "",
            f"{point['bpp']:.4f}",
            "" if estimate is None else f"{point['bpp'] / estimate:.3f}",
            *(_entry(point["metrics"].get(name, {})) for name in args.metrics),
        ]
        print("| " + " | ".join(cells) + " |")
    _print_differences(summary, args.summary.with_name("images.csv"), args.metrics)


def _print_differences(summary: dict[str, Any], images: Path, metrics: list[str]) -> None:
    """BD-rates in percent, negative for fewer bits at equal quality, with 95 % intervals over groups of images."""
    from utils.bd_intervals import Images, with_intervals

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
        print("| " + " | ".join([test, metric, *(row.get(name, "-") for name in references)]) + " |")


def _rate(difference: Difference) -> str:
    if difference.rate is None:
        return "-"
    interval = difference.rate_interval
    return f"{difference.rate:+.1f} %" + (f" [{interval[0]:+.1f}, {interval[1]:+.1f}]" if interval else "")


def _entry(entry: dict[str, Any]) -> str:
    """A value with its 95 % interval, where it has one."""
    value = entry.get("mean", entry.get("value"))
    if value is None:
        return "-"
    interval = entry.get("ci95")
    return f"{value:.4g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


if __name__ == "__main__":
    run(main)
