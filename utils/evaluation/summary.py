"""What an evaluation found: summary.json (its schema is an interface) and images.csv, from the logged rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.pair import PairSource
from utils.evaluation.plan import Model, Point
from utils.evaluation.store import ORIGINALS, Row, Store
from utils.files import replacing
from utils.metrics import METRICS, MetricSuite

FORMAT = 1


@dataclass(frozen=True)
class Results:
    """A finished sweep: `rows[point.key]` has one row a pair, in the order of `ids` and `groups`."""

    summary: dict[str, Any]
    points: list[Point]
    rows: dict[str, list[Row]]
    ids: list[str]
    groups: list[str]


def summarise(
    points: Sequence[Point],
    models: Sequence[Model],
    source: PairSource,
    store: Store,
    suite: MetricSuite,
    *,
    size: str,
    environment: dict[str, Any],
) -> dict[str, Any]:
    """The content of summary.json."""
    groups = list(source.groups)
    rows = store.collect(points)
    references = [store.read_features(ORIGINALS, index) for index in range(len(source))]
    entries = []
    for point in points:
        of_point = rows[point.key]
        metrics = suite.summarise(
            [row.metrics for row in of_point],
            groups,
            references,
            [store.read_features(point.key, index) for index in range(len(source))],
            trained_on="" if point.model is None else models[point.model].trained_on,
        )
        for name, entry in metrics.items():
            if "of" in entry:  # the rate of the images that the mean is over, for curves
                entry["bpp"] = float(np.mean([row.bpp for row in of_point if name in row.metrics]))
        estimates = [row.bpp_estimated for row in of_point if row.bpp_estimated is not None]
        entries.append(
            point.columns
            | {
                "bpp": float(np.mean([row.bpp for row in of_point])),
                "bpp_estimated": float(np.mean(estimates)) if estimates else None,
                "container_bytes": float(np.mean([row.container_bytes for row in of_point])),
                "encode_ms": float(np.median([row.encode_ms for row in of_point])),
                "decode_ms": float(np.median([row.decode_ms for row in of_point])),
                "metrics": metrics,
            }
        )
    return {
        "format": FORMAT,
        "dataset": {
            "name": source.name,
            "split": source.split,
            "pairs": len(source),
            "groups": len(set(groups)),
            "size": size,
        },
        "environment": environment,
        "points": entries,
    }


def write_csv(path: Path, results: Results) -> None:
    """Write images.csv: a row for every image and point. Metrics that an image does not have stay empty."""
    scored = {name for rows in results.rows.values() for row in rows for name in row.metrics}
    metrics = [name for name in METRICS if name in scored]
    fields = [*results.points[0].columns, "id", "group", "height", "width", "bytes", "container_bytes"]
    fields += ["bpp", "bpp_estimated", "encode_ms", "decode_ms", *metrics]
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(fields)
        for point in results.points:
            for row in results.rows[point.key]:
                size = [row.id, results.groups[row.index], row.height, row.width]
                times = [row.bytes, row.container_bytes, row.bpp, row.bpp_estimated, row.encode_ms, row.decode_ms]
                writer.writerow([*point.columns.values(), *size, *times, *(row.metrics.get(name) for name in metrics)])
