"""What an evaluation found: summary.json (its schema is an interface) and images.csv, from the logged rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.pair import PairSource
from utils.errors import DataError
from utils.evaluation.plan import Model, Point
from utils.evaluation.store import ORIGINALS, Row, Store
from utils.files import replacing
from utils.metrics.info import METRICS
from utils.metrics.suite import MetricSuite

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
) -> Results:
    """What the store holds of all `points`, with the content of summary.json."""
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
    data = {"name": source.name, "split": source.split, "pairs": len(source), "groups": len(set(groups)), "size": size}
    summary = {"format": FORMAT, "dataset": data, "environment": environment, "points": entries}
    return Results(summary, list(points), rows, list(source.ids), groups)


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


def read_csv(path: Path, summary: dict[str, Any]) -> Results:
    """The evaluation that `write_csv` wrote beside `summary`. Raises DataError if the two do not belong together."""
    points, pairs = summary["points"], summary["dataset"]["pairs"]
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = list(csv.DictReader(file))
        if [row["codec"] for row in table] != [point["codec"] for point in points for _ in range(pairs)]:
            raise ValueError("its rows are not those of the summary")
        names = [name for name in table[0] if name in METRICS]
        plan = [_point(row) for row in table[::pairs]]
        rows = {
            point.key: [_row(row, point.key, index, names) for index, row in enumerate(table[start : start + pairs])]
            for point, start in zip(plan, range(0, len(table), pairs), strict=True)
        }
        bpp = [np.mean([row.bpp for row in rows[point.key]]) for point in plan]
        if not np.allclose(bpp, [point["bpp"] for point in points], rtol=1e-6):
            raise ValueError("its rates are not those of the summary")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path} cannot be used with its summary ({error}); run evaluate.py again.") from None
    return Results(summary, plan, rows, [row["id"] for row in table[:pairs]], [row["group"] for row in table[:pairs]])


def _point(row: Mapping[str, str]) -> Point:
    lmbda, rate, gamma = (float(row[name]) if row[name] else None for name in ("lambda", "rate", "gamma"))
    steps = int(row["steps"]) if row["steps"] else None
    model = 0 if row["checkpoint"] else None
    return Point(row["codec"], rate, row["checkpoint"] or None, lmbda, steps, gamma, row["side"] or None, model)


def _row(row: Mapping[str, str], key: str, index: int, names: Sequence[str]) -> Row:
    height, width = int(row["height"]), int(row["width"])
    estimate = float(row["bpp_estimated"]) if row["bpp_estimated"] else None
    times = float(row["encode_ms"]), float(row["decode_ms"])
    metrics = {name: float(row[name]) for name in names if row[name]}
    container = int(row.get("container_bytes") or 0)
    return Row(
        key, index, row["id"], height, width, int(row["bytes"]), estimate, *times, list(names), metrics, container
    )  # fmt: skip
