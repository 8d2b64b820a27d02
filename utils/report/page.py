"""The page: what was found first, then curves, tables, pictures, and everything a reader needs to trust the numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data.pair import PairSource
from utils.evaluation.store import Store
from utils.evaluation.summary import Results
from utils.files import write_whole
from utils.metrics.info import METRICS, SIX
from utils.report import rd
from utils.report.figures import embedded
from utils.report.pictures import CROP, main_points, pictures
from utils.report.tables import (
    differences_rows,
    footnotes,
    html,
    number,
    paired_difference,
    percent,
    points_rows,
    reasons,
    side_rows,
    signed,
)


def write_report(path: Path, results: Results, source: PairSource, store: Store) -> None:
    """Write report.html: self-contained, images embedded losslessly."""
    points = results.summary["points"]
    names = [info.name for info in rd.metrics_of(points)]
    found = rd.with_intervals(points, rd.Images.of_csv(path.with_name("images.csv"), results.summary))
    foot = "".join(f'<p class="foot">{escape(note)}</p>' for note in rd.notes_of(points, names))
    side = side_rows(results)
    meanings = [(METRICS[name].label, METRICS[name].meaning) for name in points[0]["metrics"]]
    sections = [
        ("Other metrics", "", _others(points)),
        ("All points", _POINTS, f'<div class="points">{html(points_rows(points, names, full=True))}</div>{foot}'),
        ("Bjøntegaard differences", _BD, html(differences_rows(found, full=True)) if found else ""),
        ("What the side image is worth", _SIDE, f'<div class="side">{html(side)}</div>' if side[1:] else ""),
        ("Pictures", _pictures_lead(source), pictures(results, source, store)),
        ("What each metric means", "docs/protocol.md says more.", _listing(meanings)),
        ("What could not be measured", "", _missing(results)),
        ("How this was made", "", _environment(results.summary["environment"])),
    ]
    sections = [section for section in sections if section[2]]
    contents = "".join(f'<a href="#s{i}">{name}</a>' for i, (name, _, _) in enumerate(sections))
    body = _header(results) + _six(points) + _cards(results, found) + f"<nav>{contents}</nav>"
    for i, (name, lead, content) in enumerate(sections):
        text = f'<p class="lead">{lead}</p>' if lead else ""
        body += f'<section id="s{i}"><h2>{name}</h2>{text}{content}</section>'
    title = f"Evaluation: {escape(_methods_text(results))}"
    css = Path(__file__).with_name("style.css").read_text()
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{css}</style></head><body>{body}</body></html>\n"
    )
    write_whole(path, page.encode("utf-8", "backslashreplace"))


_POINTS = (
    "bpp is 8 × the bytes of a file, header and checksum included, by its pixels. Small figures are 95 % intervals by "
    "a bootstrap over groups, since images of one recording are no independent samples; under <i>estimated</i>, how "
    "much the files exceed the entropy model's estimate. Milliseconds are the median over images, without file access."
)
_BD = (
    "Rate at equal quality (negative means fewer bits). Below: its 95 % interval, and quality at equal rate. Each is "
    "averaged over the part that both curves cover, given as a share of the shorter curve."
)
_SIDE = (
    "The same files, decoded with different side images, of which the sender knows none: correct, none (the learned "
    "null input), shuffled (another group's), jpeg:Q. Below: the change from the correct one, and for metrics of "
    "single images its paired 95 % interval."
)


def _six(points: Sequence[Mapping[str, Any]]) -> str:
    """The six panels, and what a reader must know of them."""
    text = "Every point is measured from files that were written, read back and decoded. Bars are 95 % intervals. "
    text += " ".join(footnotes(points, SIX))
    image = f'<img src="{embedded(points, SIX)}" alt="LPIPS, FID, DISTS, PSNR, MS-SSIM and SSIM against bpp">'
    return f'<figure class="curves">{image}<figcaption>{escape(text)}</figcaption></figure>'


def _others(points: Sequence[Mapping[str, Any]]) -> str:
    """The curves of the metrics that are measured and are none of the six."""
    names = [info.name for info in rd.metrics_of(points) if info.name not in SIX]
    labels = ", ".join(METRICS[name].label for name in names)
    return f'<figure class="curves"><img src="{embedded(points, names)}" alt="{labels}"></figure>' if names else ""


def _methods(results: Results) -> list[str]:
    return list(dict.fromkeys(point.codec for point in results.points if point.model is not None))


def _methods_text(results: Results) -> str:
    return ", ".join(_methods(results))


def _header(results: Results) -> str:
    data = results.summary["dataset"]
    rows = next(iter(results.rows.values()))
    sizes = sorted({(row.height, row.width) for row in rows})
    size = (
        f"{sizes[0][0]}×{sizes[0][1]}" if len(sizes) == 1 else f"{len(sizes)} sizes up to {sizes[-1][0]}×{sizes[-1][1]}"
    )
    checkpoints = list(dict.fromkeys(str(point.checkpoint) for point in results.points if point.checkpoint))
    groups = f"{data['groups']} group{'s' if data['groups'] != 1 else ''}"
    return (
        f"<header><h1>Evaluation: {escape(_methods_text(results))}</h1>"
        f'<p class="sub">Data set <b>{escape(data["name"])}</b>, split <b>{escape(data["split"])}</b>, '
        f"n = <b>{data['pairs']}</b> pairs of {groups}, {size} pixels ({escape(data['size'])}). "
        f"Checkpoint {escape(', '.join(checkpoints))}. {time.strftime('%Y-%m-%d %H:%M')}.</p></header>"
    )


def _cards(results: Results, differences: Sequence[rd.Difference]) -> str:
    """The first of our curves in the figures that papers give: BD-rates, and perception at the rate of an anchor."""
    points = results.summary["points"]
    main = main_points(results, _methods(results)[0])
    middle = results.points.index(main[(len(main) - 1) // 2])
    point = points[middle]
    rows = results.rows[results.points[middle].key]
    mean_bytes = sum(row.bytes for row in rows) / len(rows)
    over = point["bpp"] / point["bpp_estimated"] - 1 if point["bpp_estimated"] else 0.0
    steps = f"{point['steps']} step{'s' if point['steps'] != 1 else ''}"
    cards = [
        *(card for metric in ("psnr", "ms_ssim_db") for card in _bd_card(differences, metric)),
        *(card for metric in ("lpips_alex", "dists", "fid") for card in _matched_card(points, metric)),
        *_side_card(results, middle),
        (
            f"{point['bpp']:.3f} bpp",
            f"the middle point: {mean_bytes:,.0f} bytes a file, {percent(100 * over)} to the estimate; "
            f"{point['encode_ms']:.0f} ms to encode an image, {point['decode_ms']:.0f} ms to decode it ({steps})",
        ),
    ]
    return f'<div class="cards">{"".join(f"<div class=card><b>{a}</b><span>{b}</span></div>" for a, b in cards)}</div>'


_REFERENCES = ("avif", "webp", "jpeg")
"""Anchors in the order in which headlines compare with them, the first two that were measured."""


def _bd_card(differences: Sequence[rd.Difference], metric: str) -> list[tuple[str, str]]:
    """BD-rates in a metric against the anchors."""
    names = [rd.ANCHOR_LABELS[name] for name in _REFERENCES]
    found = [d for d in differences if d.metric == metric and d.reference in names and d.test == differences[0].test]
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
    for other, candidate in enumerate(results.points):
        if point.side == "correct" and candidate.side == "none" and candidate.stream == point.stream:
            paired = paired_difference(results, "psnr", base, other)
            if paired is None:
                return []
            value, interval = paired
            text = f" (95 %: {signed('psnr', interval[0])} to {signed('psnr', interval[1])})" if interval else ""
            return [(f"{signed('psnr', value)} dB", f"PSNR by the side image against none{text}")]
    return []


def _pictures_lead(source: PairSource) -> str:
    image = source[0].x
    crop = f" Images are larger than shown: these are centre crops of {CROP[0]}×{CROP[1]} at their own pixels."
    large = image.shape[0] * image.shape[1] > 128 * 512
    return (
        "Pairs spread evenly over the split, not chosen by eye. First the two views, and our middle file decoded "
        "without and with a wrong side image; then our smallest, middle and largest files, and each anchor's file of "
        "the nearest size for the same image (red where even the nearest is more than a quarter larger). Pictures are "
        "embedded without loss. Hold the pointer on a reconstruction, or tap it, to see the "
        "original in its place." + (crop if large else "")
    )


def _missing(results: Results) -> str:
    found = reasons(results.summary["points"])
    items = "".join(f"<li><b>{escape(', '.join(labels))}</b>: {escape(text)}</li>" for text, labels in found.items())
    items += "".join(f"<li>{escape(note)}</li>" for note in results.summary["environment"].get("notes", []))
    return f'<ul class="missing">{items}</ul>' if items else ""


def _environment(facts: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items() if version)
    protocol = facts.get("protocol")
    precision = "bfloat16" if facts.get("decoding_precision") == "bf16" else "float32"
    gpus = ", ".join(facts.get("gpus", [])) or "none"
    checkpoints = [f"{c['path']}, step {c['step']}, SHA-256 {c['sha256'][:16]}" for c in facts.get("checkpoints", [])]
    lines = [
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
    return f"<pre>{escape(facts.get('command', ''))}</pre>{_listing(lines)}"


def _listing(lines: Sequence[tuple[str, Any]]) -> str:
    """Terms and their descriptions."""
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(str(text))}</dd>" for term, text in lines)
    return f"<dl>{items}</dl>"
