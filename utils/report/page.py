"""The report: what was found, in the order of the template `report.html`, which says the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.pair import PairSource
from utils.evaluation.store import Store
from utils.evaluation.summary import Results
from utils.files import write_whole
from utils.metrics.info import METRICS, SIX
from utils.report import rd
from utils.report.bd import Difference, Images, differences
from utils.report.figures import ANCHOR_STYLES, Published, embedded
from utils.report.pictures import crop_of, main_points, scenes
from utils.report.published import DIFFERS
from utils.report.tables import (
    differences_rows,
    footnotes,
    number,
    paired_difference,
    percent,
    points_rows,
    reasons,
    side_rows,
    signed,
)


def write_report(path: Path, results: Results, source: PairSource, store: Store) -> None:
    """Write report.html, with images embedded losslessly; images.csv is beside it."""
    points = results.summary["points"]
    environment = {"notes": [], "command": ""} | results.summary["environment"]
    found = differences(points, Images.of(results))
    render(
        path,
        "report.html",
        shared(results, results),
        checkpoints=list(dict.fromkeys(str(point.checkpoint) for point in results.points if point.checkpoint)),
        cards=_cards(results, found),
        differences=differences_rows(found, full=True),
        side=side_rows(results),
        scenes=scenes(results, source, store),
        crop=crop_of(source),
        environment=environment,
        facts=_facts(environment),
    )


def shared(results: Results, drawn: Results, theirs: Published | None = None) -> dict[str, Any]:
    """What every page has: the figures of the points `drawn`, the table of all points, what metrics mean or lack.

    `theirs`: published curves.
    """
    points, shown = results.summary["points"], drawn.summary["points"]
    names = [info.name for info in rd.metrics_of(points)]
    others = [name for name in names if name not in SIX]
    sizes = sorted({(row.height, row.width) for row in next(iter(results.rows.values()))})
    most = "×".join(map(str, sizes[-1]))
    return {
        "methods": ", ".join(methods_of(results)),
        "data": results.summary["dataset"],
        "size": most if len(sizes) == 1 else f"{len(sizes)} sizes up to {most}",
        "six": (embedded(shown, SIX, theirs), "LPIPS, FID, DISTS, PSNR, MS-SSIM and SSIM against bpp"),
        "six_notes": [*footnotes(shown, SIX), *([DIFFERS] if theirs else [])],
        "bars": any(rd.interval_of(point["metrics"].get(name)) for point in shown for name in SIX),
        "others": (embedded(shown, others), ", ".join(METRICS[name].label for name in others)) if others else None,
        "points": points_rows(points, names, full=True),
        "notes": [f"† {note}" for note in rd.notes_of(points, names)],
        "meanings": [
            (info.label, info.meaning) for n, info in METRICS.items() if any(n in p["metrics"] for p in points)
        ],
        "reasons": reasons(points),
    }


def render(path: Path, template: str, parts: Mapping[str, Any], **more: Any) -> None:
    """Write a page from its template in this folder."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    page = (
        Environment(
            loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
        )
        .get_template(template)
        .render(parts, css=(folder / "style.css").read_text(), time=time.strftime("%Y-%m-%d %H:%M"), **more)
    )
    write_whole(path, page.encode("utf-8", "backslashreplace"))


def methods_of(results: Results) -> list[str]:
    """The names of the methods, without anchors, in order."""
    return list(dict.fromkeys(point.codec for point in results.points if point.model is not None))


def _cards(results: Results, found: Sequence[Difference]) -> list[tuple[str, str]]:
    """The first of our curves in the figures that papers give: BD-rates, and perception at the rate of an anchor."""
    points = results.summary["points"]
    main = main_points(results, methods_of(results)[0])
    middle = results.points.index(main[(len(main) - 1) // 2])
    point = points[middle]
    rows = results.rows[results.points[middle].key]
    mean_bytes = sum(row.bytes for row in rows) / len(rows)
    over = point["bpp"] / point["bpp_estimated"] - 1 if point["bpp_estimated"] else 0.0
    steps = f"{point['steps']} step{'s' if point['steps'] != 1 else ''}"
    text = (
        f"the middle point: {mean_bytes:,.0f} bytes a file, {percent(100 * over)} to the estimate; "
        f"{point['encode_ms']:.0f} ms to encode an image, {point['decode_ms']:.0f} ms to decode it ({steps})"
    )
    return [
        *(card for metric in ("psnr", "ms_ssim_db") for card in _bd_card(found, metric)),
        *(card for metric in ("lpips_alex", "dists", "fid") for card in _matched_card(points, metric)),
        *_side_card(results, middle),
        (f"{point['bpp']:.3f} bpp", text),
    ]


_REFERENCES = tuple(ANCHOR_STYLES)
"""Anchors in the order in which headlines compare with them, the first two that were measured."""


def _bd_card(all_found: Sequence[Difference], metric: str) -> list[tuple[str, str]]:
    """BD-rates in a metric against the anchors."""
    names = [rd.ANCHOR_LABELS[name] for name in _REFERENCES]
    found = [d for d in all_found if d.metric == metric and d.reference in names and d.test == all_found[0].test]
    found.sort(key=lambda d: names.index(d.reference))
    label = METRICS[metric].label
    rates = [(percent(d.rate), d.reference, d.rate_interval) for d in found[:2] if d.rate is not None]
    if rates:
        texts = [
            f"against {name}" + (f" (95 %: {percent(sure[0])} to {percent(sure[1])})" if sure else "")
            for _, name, sure in rates
        ]
        more = "".join(f"; {rate} {text}" for (rate, *_), text in zip(rates[1:], texts[1:], strict=True))
        return [(rates[0][0], f"bits at equal {label} (BD-rate) {texts[0]}{more}")]
    # Curves that share no quality may share a range of rates.
    gains = [(signed(metric, d.quality), d.reference) for d in found[:2] if d.quality is not None]
    if not gains:
        return []
    more = "".join(f"; {gain} dB against {name}" for gain, name in gains[1:])
    return [(f"{gains[0][0]} dB", f"{label} at equal rate (BD-quality) against {gains[0][1]}{more}")]


def _matched_card(points: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[str, str]]:
    """A metric of ours and of the anchors at one rate: that of our point nearest the middle which an anchor reaches."""
    found = rd.curves(points, metric)
    ours = next((curve for curve in found if not curve.is_anchor), None)
    anchors = [curve for name in _REFERENCES for curve in found if curve.codec == name][:2]
    if ours is None or not anchors:
        return []
    middle = (len(ours.bpp) - 1) / 2
    for bpp, value in sorted(zip(ours.bpp, ours.values, strict=True), key=lambda p: abs(ours.bpp.index(p[0]) - middle)):
        theirs = [(curve.label, at) for curve in anchors if (at := rd.value_at(curve, bpp)) is not None]
        if theirs:
            there = ", ".join(f"{name} {number(metric, at)}" for name, at in theirs)
            return [(number(metric, value), f"{METRICS[metric].label} at {bpp:.3f} bpp; there {there} (interpolated)")]
    return []


def _side_card(results: Results, base: int) -> list[tuple[str, str]]:
    point = results.points[base]
    without = replace(point, side="none")
    if point.side != "correct" or without not in results.points:
        return []
    found = paired_difference(results, "psnr", base, results.points.index(without))
    if found is None:
        return []
    value, interval = found
    text = f" (95 %: {signed('psnr', interval[0])} to {signed('psnr', interval[1])})" if interval else ""
    return [(f"{signed('psnr', value)} dB", f"PSNR by the side image against none{text}")]


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """On what the figures were made."""
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items() if version)
    protocol = facts.get("protocol")
    precision = "bfloat16" if facts.get("decoding_precision") == "bf16" else "float32"
    gpus = ", ".join(facts.get("gpus", [])) or "none"
    checkpoints = [f"{c['path']}, step {c['step']}, SHA-256 {c['sha256'][:16]}" for c in facts.get("checkpoints", [])]
    return [
        *(("Checkpoint", text) for text in checkpoints),
        ("Data", f"{facts.get('data_root') or 'made here'}" + (f", {protocol}" if protocol else "")),
        ("Commit", facts.get("commit") or "unknown"),
        ("Processor", f"{facts.get('processor')}, {facts.get('cores')} cores, {facts.get('threads')} threads in use"),
        ("GPUs", f"{gpus}; computed on {facts.get('device')}, decoded in {precision}"),
        ("Processes", str(facts.get("processes"))),
        ("This run", f"{facts.get('seconds'):g} s, at most {facts.get('peak_memory_mib')} MiB in the main process"),
        ("System", f"Python {facts.get('python')}, {facts.get('platform')}"),
        ("Packages", packages),
        *((rd.ANCHOR_LABELS[name], text) for name, text in facts.get("anchors", {}).items()),
    ]
