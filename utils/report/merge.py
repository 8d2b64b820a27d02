"""Several evaluations of the same pairs as one: methods that differ stay apart, points measured twice become one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import ConfigError, DataError
from utils.evaluation.plan import Point
from utils.evaluation.store import Row, Store
from utils.evaluation.summary import FORMAT, Results, read_csv
from utils.report.rd import ANCHOR_LABELS, BARE

_SAME = 1e-3
"""Relative difference up to which figures of the same file are the same: processors differ in the last digits."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation and the folder it lies in."""

    name: str
    folder: Path
    results: Results

    @property
    def environment(self) -> dict[str, Any]:
        """Where and how it was made, as summary.json says it."""
        return {"notes": [], "checkpoints": []} | self.results.summary["environment"]

    def digest(self, checkpoint: str | None) -> str | None:
        """The SHA-256 of a checkpoint by its path as it was given; None for None."""
        return {c["path"]: c["sha256"] for c in self.environment["checkpoints"]}.get(checkpoint, checkpoint)

    def checkpoints(self, codec: str) -> set[str | None]:
        """What makes a codec's curve: the SHA-256 of its checkpoints, or None for an anchor."""
        return {self.digest(point.checkpoint) for point in self.results.points if point.codec == codec}


@dataclass(frozen=True)
class Merged:
    """The points of several evaluations as the results of one; `files[point.key]` tells where a point's files lie."""

    results: Results
    files: Mapping[str, tuple[Store, Point]]

    def reconstruction(self, point: Point, index: int) -> Path:
        """Where the decoded image of a pair at a point lies."""
        store, own = self.files[point.key]
        return store.reconstruction(own, index)


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """Finished evaluations of the same pairs. Raises DataError for others, ConfigError for a mixture of data."""
    names = [folder.resolve().name for folder in folders]
    names = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
    found = [Evaluation(name, folder, _read(folder)) for name, folder in zip(names, folders, strict=True)]
    for other in found[1:]:
        for (what, mine), (_, theirs) in zip(_data(found[0]), _data(other), strict=True):
            if mine != theirs:
                texts = [f" ({v})" if isinstance(v, str) else "" for v in (mine, theirs)]
                raise ConfigError(
                    f"{found[0].folder}{texts[0]} and {other.folder}{texts[1]} are evaluations of different {what}; "
                    "compare evaluations of the same data."
                )
    return found


def merge(evaluations: Sequence[Evaluation]) -> Merged:
    """The points of all, methods in order, then anchors.

    A method is a name with its checkpoints; where evaluations have different methods of one name, the evaluation's name
    is added. Raises DataError if an anchor's files differ between evaluations.
    """
    codecs = dict.fromkeys(point.codec for one in evaluations for point in one.results.points)
    apart = {codec for codec in codecs if _differs(evaluations, codec)}
    entries: dict[str, dict[str, Any]] = {}
    points: dict[str, Point] = {}
    rows: dict[str, list[Row]] = {}
    files: dict[str, tuple[Store, Point]] = {}
    paths: dict[str | None, str | None] = {}
    for evaluation in evaluations:
        results, store = evaluation.results, Store(evaluation.folder, evaluation.results.ids)
        for own, entry in zip(results.points, results.summary["points"], strict=True):
            name = f"{own.codec} ({evaluation.name})" if own.codec in apart else own.codec
            path = paths.setdefault(evaluation.digest(own.checkpoint), own.checkpoint)  # one spelling in all
            point = replace(own, codec=name, checkpoint=path)
            mine = [replace(row, point=point.key) for row in results.rows[own.key]]
            if point.key not in points:
                points[point.key], files[point.key], rows[point.key] = point, (store, own), mine
                entries[point.key] = entry | {"codec": name, "checkpoint": path}
                continue
            # Measured before: what only one of the two evaluations has measured is added.
            rows[point.key] = [_joined(*both) for both in zip(rows[point.key], mine, strict=True)]
            known = {n: e for n, e in entries[point.key]["metrics"].items() if "unavailable" not in e}
            entries[point.key] = entries[point.key] | {"metrics": entry["metrics"] | known}
    for key, point in list(points.items()):
        if bare := _without_container(point, rows[key], entries[key]):
            new, rows[bare[0].key], entries[bare[0].key] = bare
            points[new.key] = new
    order = [None, *ANCHOR_LABELS]
    keys = sorted(points, key=lambda key: order.index(points[key].codec if points[key].model is None else None))
    first = evaluations[0].results
    summary = first.summary | {"points": [entries[key] for key in keys]}
    return Merged(Results(summary, [points[key] for key in keys], rows, first.ids, first.groups), files)


def _read(folder: Path) -> Results:
    try:
        summary = json.loads((folder / "summary.json").read_text())
        if summary["format"] != FORMAT:
            raise ValueError("its format is another")
        return read_csv(folder / "images.csv", summary)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = "there is no summary.json" if isinstance(error, FileNotFoundError | NotADirectoryError) else str(error)
        raise DataError(
            f"{folder} is no finished evaluation ({why}); finish it with evaluate.py --out {folder}, or leave it out."
        ) from None


def _data(evaluation: Evaluation) -> list[tuple[str, Any]]:
    """What evaluations that can be compared have in common; texts are shown."""
    results, data = evaluation.results, evaluation.results.summary["dataset"]
    sizes = [(row.height, row.width) for row in results.rows[results.points[0].key]]
    return [
        ("splits", f"split {data['split']}"),
        ("numbers of pairs", f"{len(results.ids)} pairs"),
        ("sizes", f"size {data['size']}"),
        ("pairs", results.ids),
        ("image sizes", sizes),
    ]


def _differs(evaluations: Sequence[Evaluation], codec: str) -> bool:
    """Whether the evaluations that have a codec mean different methods by it. Raises DataError for an anchor."""
    having = [one for one in evaluations if any(point.codec == codec for point in one.results.points)]
    if any(one.checkpoints(codec) != having[0].checkpoints(codec) for one in having):
        return True
    seen: dict[str, tuple[Evaluation, list[Row]]] = {}
    for one in having:
        for point in one.results.points:
            rows = one.results.rows[point.key]
            first, before = seen.setdefault(point.key, (one, rows))
            if point.codec == codec and not _equal(before, rows):
                if point.model is None:
                    raise DataError(
                        f"{first.folder} and {one.folder} have different files of {ANCHOR_LABELS[codec]} at quality "
                        f"{point.quality}, by another Pillow or from other pixels; evaluate one of them again."
                    )
                return True
    return False


def _equal(before: Sequence[Row], rows: Sequence[Row]) -> bool:
    """Whether two evaluations of a point have files of the same lengths and the same figures."""
    return all(
        a.bytes == b.bytes
        and all(
            isclose(a.metrics[name], b.metrics[name], rel_tol=_SAME, abs_tol=_SAME)
            for name in a.metrics.keys() & b.metrics.keys()
        )
        for a, b in zip(before, rows, strict=True)
    )


def _joined(first: Row, second: Row) -> Row:
    container = first.container_bytes or second.container_bytes
    return replace(first, metrics=second.metrics | first.metrics, container_bytes=container)


def _without_container(
    point: Point, rows: Sequence[Row], entry: Mapping[str, Any]
) -> tuple[Point, list[Row], dict[str, Any]] | None:
    """An anchor's point without the constant bytes of its container; None where they are not known."""
    if point.model is not None or not all(row.container_bytes for row in rows):
        return None
    bare = replace(point, codec=point.codec + BARE)
    fewer = [replace(row, point=bare.key, bytes=row.bytes - row.container_bytes) for row in rows]
    metrics = {
        name: figure | {"bpp": float(np.mean([row.bpp for row in fewer if name in row.metrics]))}
        if "of" in figure
        else figure
        for name, figure in entry["metrics"].items()
    }
    bpp = float(np.mean([row.bpp for row in fewer]))
    return bare, fewer, {**entry, "codec": bare.codec, "bpp": bpp, "metrics": metrics}
