"""Rate-distortion curves that others published, where their protocol is that of an evaluation (docs/published/)."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from utils.evaluation.summary import Results
from utils.report.rd import Curve

KITTI = Path(__file__).resolve().parents[2] / "docs" / "published" / "kitti_128x256.csv"
"""KITTI Stereo at 128x256; each row has its source."""
DIFFERS = (
    "Dashed: curves that others published for KITTI at 128x256 (sources in docs/published/kitti_128x256.csv). They "
    "decide nothing: other pairs (790 of KITTI 2012 and 2015), estimated bits instead of files, and 1,576 training "
    "pairs, 14 times the KITTI sample's. Whether their PSNR is a mean over images is not known."
)
"""What a reader of these curves beside ours must know."""
_PAIR = re.compile(r"kitti(2012|2015)_")


def published(results: Results) -> dict[str, list[Curve]]:
    """Metric -> published curves; {} unless all images are of KITTI Stereo, 128 rows of 256 pixels."""
    rows = results.rows[results.points[0].key]
    if not all(_PAIR.match(row.id) and (row.height, row.width) == (128, 256) for row in rows):
        return {}
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with KITTI.open(newline="") as file:
        for row in csv.DictReader(file):
            points.setdefault((row["metric"], row["method"]), []).append((float(row["bpp"]), float(row["value"])))
    found: dict[str, list[Curve]] = {}
    for (metric, method), curve in points.items():
        bpp, values = zip(*curve, strict=True)
        found.setdefault(metric, []).append(Curve(f"{method} (published)", None, "", bpp, values, (None,) * len(bpp)))
    return found
