"""The report is one file that stands alone, is valid, shows every figure, and says what is missing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import noise
from PIL import Image

from data.pair import Pair, PairSource
from utils.evaluation.plan import Point
from utils.evaluation.store import Row, Store
from utils.evaluation.summary import Results
from utils.files import png_bytes
from utils.report.charts import ticks
from utils.report.format import number, percent, signed
from utils.report.page import write_report
from utils.report.pictures import embed

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
VOID = {"meta", "img", "br", "line", "circle", "rect", "polygon", "polyline"}


class Source(PairSource):
    """Noise; the second id tries to break out of the page."""

    name, split = "folder", "val"

    def __init__(self, height: int = 32, width: int = 64) -> None:
        self.size = (height, width)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Pair:
        return Pair(noise(*self.size, index), noise(*self.size, 9 + index), self.ids[index], self.groups[index])

    @property
    def ids(self) -> list[str]:
        return ["first", "<script>alert(1)</script>", "third"]

    @property
    def groups(self) -> list[str]:
        return ["a", "a", "b"]


def results_of(source: Source, folder: Path, rates: Sequence[float] = RATES) -> tuple[Results, Store]:
    """Made-up rows with reconstructions of noise: what matters here is how they are shown."""
    store = Store(folder, source.ids)
    points = [Point("ours", r, "runs/x & y", None, 1, 0.0, "correct", 0) for r in rates]
    points += [Point("ours", 0.5, "runs/x & y", None, 1, 0.0, side, 0) for side in ("none", "shuffled")]
    points += [Point("webp", q / 100) for q in (1, 10, 20, 40, 60)[: len(rates)]]
    rows, entries = {}, []
    for k, point in enumerate(points):
        quality = (20.0 + 5 * (point.rate or 0)) - (4.0 if point.side in ("none", "shuffled") else 0.0)
        if point.model is None:
            quality = 22.0 + k / 2
        size = round(30 + 100 * (point.rate or 0))
        of_point = []
        for i in range(len(source)):
            metrics = {"psnr": quality + i, "dists": 1 / (quality + i)}
            of_point.append(Row(point.key, i, source.ids[i], *source.size, size, None, 1.0, 2.0, [], metrics))  # type: ignore[arg-type]
            store.write_bytes(store.reconstruction(point, i), png_bytes(noise(*source.size, 50 + i)))
        rows[point.key] = of_point
        entries.append(entry_of(point, of_point, quality))
    environment = {
        "command": "python evaluate.py --ckpt 'runs/x & y'",
        "packages": {"torch": "2.9"},
        "notes": ["AVIF was not measured: this Pillow lacks it."],
        "anchors": {"webp": "method 6"},
        "seconds": 3.0,
    }
    summary = {
        "format": 1,
        "dataset": {"name": "folder", "split": "val", "pairs": 3, "groups": 2, "size": "protocol"},
        "environment": environment,
        "points": entries,
    }
    return Results(summary, points, rows, source.ids, source.groups), store


def entry_of(point: Point, rows: Sequence[Row], quality: float) -> dict[str, Any]:
    bpp = float(np.mean([row.bpp for row in rows]))
    return {
        **{"codec": point.codec, "checkpoint": point.checkpoint, "lambda": None, "rate": point.rate},
        **{"steps": point.steps, "gamma": point.gamma, "side": point.side, "bpp": bpp},
        **{"bpp_estimated": None if point.model is None else bpp / 1.025, "encode_ms": 1.0, "decode_ms": 2.0},
        "metrics": {
            "psnr": {"mean": quality + 1, "ci95": [quality, quality + 2], "n": 3, "groups": 2},
            "dists": {"mean": 1 / (quality + 1), "ci95": None, "n": 3, "groups": 2, "note": "Trained on <it>."},
            "fid": {"unavailable": "weights-inception is missing: run fetch_weights.py"},
        },
    }


class Balance(HTMLParser):
    """Checks that every element is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, source = tmp_path_factory.mktemp("report"), Source()
    results, store = results_of(source, folder)
    write_report(folder / "report.html", results, source, store)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_stands_alone(page: str) -> None:
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    assert parser.addresses and all(address.startswith(("data:image/", "#s")) for address in parser.addresses)
    assert not {"script", "link", "iframe", "object"} & set(parser.seen)
    assert not re.search(r"https?://|@import", page)
    assert "prefers-color-scheme:dark" in page and "width=device-width" in page


def test_names_cannot_break_the_page(page: str) -> None:
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "runs/x &amp; y" in page and "Trained on &lt;it&gt;." in page


def test_every_point_is_in_the_table_with_its_interval(page: str) -> None:
    table = page[page.index("<h2>All points") : page.index("<h2>Bjøntegaard differences")]
    assert table.count("<tr") == 1 + len(RATES) + 2 + 5
    for text in ("20.00–22.00", "shuffled", "quality 40", "rate 0.75", "+2.5 %"):
        assert text in table


def test_curves_differences_and_side_information_are_shown(page: str) -> None:
    assert page.count('<figure class="chart">') == 2
    assert "BD-rate" in page and "over" in page
    side = page[page.index("<h2>What the side image is worth") : page.index("<h2>Pictures")]
    assert "\u22124.00" in side and "correct" in side and "none" in side
    assert "+4.00 dB" in page  # the card: what the side image is worth against none


def test_what_is_missing_is_said_with_its_reason(page: str) -> None:
    missing = page[page.index("<h2>What could not be measured") :]
    assert "<b>FID</b>: weights-inception is missing: run fetch_weights.py" in missing
    assert "AVIF was not measured" in missing


def test_every_number_has_a_meaning_and_the_command_is_there(page: str) -> None:
    for term in ("bpp", "PSNR", "FID", "95 % intervals", "Encode, decode", "Side image"):
        assert f"<dt>{term}</dt>" in page
    assert "python evaluate.py --ckpt &#x27;runs/x &amp; y&#x27;" in page


def test_pictures_are_embedded_without_loss(page: str) -> None:
    image = noise(32, 64, 3)
    address = embed(image)
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        assert np.array_equal(np.array(picture.convert("RGB")), image)
    # 3 pairs: the two views, two wrong side images, and 3 rates with the nearest anchor each.
    assert page.count("<img") == 3 * (2 + 2 + 3 * 2)
    assert embed(noise(32, 64, 0)) in page and embed(noise(32, 64, 50)) in page


def test_a_mean_over_some_images_has_their_number_wherever_it_is_shown(tmp_path: Path) -> None:
    source = Source()
    results, store = results_of(source, tmp_path)
    sentence = "1 of 3 images has no value, which takes both sides of at least 97 pixels"
    for point, entry in zip(results.points, results.summary["points"], strict=True):
        entry["metrics"]["dists"] |= {"n": 2, "of": 3, "left_out": sentence}
        del results.rows[point.key][1].metrics["dists"]
    write_report(tmp_path / "report.html", results, source, store)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parts = re.split(r"<h2>", page)
    curves, points, bd, side, _, _, missing = parts[1:8]
    assert curves.count("</span> (2 of 3)</h3>") == 1  # of the two charts
    assert curves.count("(2 of 3) at ") == points.count("(2 of 3)") == len(results.points)
    assert bd.count("(2 of 3)</th>") == 1
    assert side.count("(2 of 3)") == 3
    assert f"<b>DISTS</b>: {sentence}" in missing


def test_large_images_are_cropped_and_this_is_said(tmp_path: Path) -> None:
    source = Source(400, 600)
    results, store = results_of(source, tmp_path, rates=(0.5,))
    write_report(tmp_path / "report.html", results, source, store)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "centre crops of 256×512" in page
    assert embed(source[0].x) in page
    with Image.open(io.BytesIO(base64.b64decode(embed(source[0].x).partition(",")[2]))) as picture:
        assert np.array_equal(np.array(picture.convert("RGB")), source[0].x[72:328, 44:556])


def test_round_ticks() -> None:
    assert ticks(0, 0.62) == pytest.approx([0, 0.2, 0.4, 0.6])
    assert ticks(19.3, 24.1) == pytest.approx([20, 21, 22, 23, 24])
    assert ticks(-0.0004, 0.0011) == pytest.approx([0, 0.0005, 0.001], abs=1e-12)


def test_numbers_have_a_real_minus_sign_and_the_decimals_that_matter() -> None:
    assert number("psnr", 24.567) == "24.57" and number("kid", -0.00123) == "\u22120.0012"
    assert signed("ssim", 0.01) == "+0.010" and percent(-3.14159) == "\u22123.1 %"
