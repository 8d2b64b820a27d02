"""The points of an evaluation as a Markdown table: python scripts/results_table.py results/x/summary.json"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import DataError

METRICS = ("psnr", "ms_ssim_db", "cvvdp", "effnet_dist", "kd_effnet")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path, help="summary.json of an evaluation")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
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


def _entry(entry: dict[str, Any]) -> str:
    """A value with its 95 % interval, where it has one."""
    value = entry.get("mean", entry.get("value"))
    if value is None:
        return "-"
    interval = entry.get("ci95")
    return f"{value:.4g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


if __name__ == "__main__":
    run(main)
