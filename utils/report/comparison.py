"""The comparison of several evaluations of the same pairs: one page, the figures as files, and the numbers as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from utils.errors import ProjectError
from utils.evaluation.summary import Results
from utils.files import replacing, write_json
from utils.metrics.info import METRICS, SIX
from utils.outputs import refuse_foreign_folder
from utils.report import rd
from utils.report.bd import Images, differences
from utils.report.figures import FORMATS, SIX_PANEL, panels, write_figure
from utils.report.matched import ERROR_TOP, matched_scenes, open_pairs
from utils.report.merge import Evaluation, merge, read_evaluations
from utils.report.page import methods_of, render, shared
from utils.report.pictures import crop_of
from utils.report.published import published
from utils.report.tables import differences_rows, side_changes, side_matrix

MARK = "comparison.json"
"""Tells a folder that an earlier comparison made; names the evaluations."""
OTHERS = "rd_other_metrics"
PAGE = "comparison.html"
TABLES = ("points.csv", "differences.csv", "side.csv")


def compare(folders: Sequence[Path], out: Path, command: str) -> Path:
    """Write OUT/comparison.html, the figures and the tables of finished evaluations. Raises ProjectError."""
    figures = [f"{name}.{form}" for name in (SIX_PANEL, OTHERS) for form in FORMATS]
    refuse_foreign_folder(out, MARK, [MARK, PAGE, *TABLES, *figures], folders)
    evaluations = read_evaluations(folders)
    merged = merge(evaluations)
    results, main = merged.results, _with_main_side(merged.results)
    points = main.summary["points"]
    theirs = published(results)
    found = differences(points, Images.of(main), square=True)
    changes = side_changes(results)
    try:
        source = open_pairs(evaluations)
        scenes, crop, no_pictures = matched_scenes(merged, main, source), crop_of(source), ""
    except ProjectError as error:
        scenes, crop, no_pictures = [], "", str(error)

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARK, {"evaluations": [str(folder) for folder in folders], "command": command})
    data = results.summary["dataset"]
    caption = f"{data['name']} {data['split']}, {data['pairs']} pairs, 95 % intervals over {data['groups']} groups"
    write_figure(panels(points, SIX, caption, theirs), out / SIX_PANEL)
    names = [info.name for info in rd.metrics_of(points)]
    if others := [name for name in names if name not in SIX]:
        write_figure(panels(points, others, caption), out / OTHERS)
    _write_csv(out / "points.csv", [_record(point) for point in results.summary["points"]])
    _write_csv(out / "differences.csv", [asdict(difference) for difference in found])
    _write_csv(out / "side.csv", changes)
    by_metric = {name: [d for d in found if d.metric == name] for name in names}
    render(
        out / PAGE,
        "comparison.html",
        shared(results, main, theirs),
        evaluations=[evaluation.name for evaluation in evaluations],
        reference=methods_of(main)[0],
        differences=[(METRICS[n].label, differences_rows(ds, full=True)) for n, ds in by_metric.items() if ds],
        side=[(METRICS[n].label, side_matrix(changes, n)) for n in dict.fromkeys(c["metric"] for c in changes)],
        scenes=scenes,
        crop=crop,
        no_pictures=no_pictures,
        error_top=ERROR_TOP,
        environment={"command": command, "notes": [n for one in evaluations for n in one.environment["notes"]]},
        facts=[(one.name, _made(one)) for one in evaluations],
    )
    return out / PAGE


def _with_main_side(results: Results) -> Results:
    """The points that make curves: of each method with the correct side image, or the first it has; and anchors."""
    main: dict[str, str | None] = {}
    for point in results.points:
        if point.side == "correct" or point.codec not in main:
            main[point.codec] = point.side
    chosen = [place for place, point in enumerate(results.points) if point.side == main[point.codec]]
    summary = results.summary | {"points": [results.summary["points"][place] for place in chosen]}
    return replace(results, summary=summary, points=[results.points[place] for place in chosen])


def _record(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point with each metric's figure and interval."""
    figures: dict[str, Any] = {}
    for name, entry in point["metrics"].items():
        figures |= {name: rd.value_of(entry), f"{name}_interval": rd.interval_of(entry)}
    return {key: value for key, value in point.items() if key != "metrics"} | figures


def _write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """A row a record; an interval becomes two columns."""
    rows = []
    for record in records:
        row = {}
        for name, value in record.items():
            if name.endswith("_interval"):
                stem = name.removesuffix("interval")
                row[f"{stem}low"], row[f"{stem}high"] = value or (None, None)
            else:
                row[name] = value
        rows.append(row)
    fields = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


def _made(evaluation: Evaluation) -> str:
    facts = evaluation.environment
    commit, device = facts.get("commit") or "unknown", facts.get("device")
    return f"{facts.get('command')}; commit {commit}, on {device}, data {facts.get('data_root') or 'made here'}"
