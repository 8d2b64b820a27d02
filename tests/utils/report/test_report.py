"""The report is one file that stands alone, is valid, shows every figure, and says what is missing."""

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from image_files import noise
from PIL import Image

from data.pair import Pair, PairSource
from utils.evaluation.plan import Point
from utils.evaluation.store import Row, Store
from utils.evaluation.summary import Results, write_csv
from utils.files import png_bytes
from utils.metrics.info import SIX
from utils.report.figures import embedded, panels, write_figures
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
        **{"command": "python evaluate.py --ckpt 'runs/x & y'", "packages": {"torch": "2.9"}, "seconds": 3.0},
        **{"notes": ["AVIF was not measured: this Pillow lacks it."], "anchors": {"webp": "method 6"}},
    }
    data = {"name": "folder", "split": "val", "pairs": 3, "groups": 2, "size": "protocol"}
    summary = {"format": 1, "dataset": data, "environment": environment, "points": entries}
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
            "lpips_alex": {"unavailable": "alexnet is missing: run fetch_weights.py"},
            "fid": {**{"value": 10 * quality, "n": 3, "halves": {"n": 1, "value": 200.0, "originals": 321.0}}},
        },
    }


class Balance(HTMLParser):
    """Checks that every element is closed where it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, source = tmp_path_factory.mktemp("report"), Source()
    results, store = results_of(source, folder)
    write_csv(folder / "images.csv", results)
    write_report(folder / "report.html", results, source, store)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_stands_alone(page: str) -> None:
    parser = Balance(page)
    assert not parser.open
    assert parser.addresses and all(address.startswith(("data:image/", "#s")) for address in parser.addresses)
    assert not {"script", "link", "iframe", "object"} & parser.seen
    assert not re.search(r"https?://|@import", page)
    assert "prefers-color-scheme:dark" in page and "width=device-width" in page


def test_names_cannot_break_the_page(page: str) -> None:
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "runs/x &amp; y" in page and "Trained on &lt;it&gt;." in page


def test_every_point_is_in_the_table_with_its_interval(page: str) -> None:
    table = page[page.index("<h2>All points") : page.index("<h2>Bjøntegaard differences")]
    assert table.count("<tr") == 1 + len(RATES) + 2 + 5
    assert re.search(r"DISTS (?:(?!</th>).)*†</th>", table) and "† Trained on &lt;it&gt;." in table
    for text in ("[20, 22]", "shuffled", "quality 40", "rate 0.75", "+2.5 %"):
        assert text in table


def test_what_is_missing_is_said_with_its_reason(page: str) -> None:
    missing = page[page.index("<h2>What could not be measured") :]
    assert "<b>LPIPS (AlexNet)</b>: alexnet is missing: run fetch_weights.py" in missing
    assert "AVIF was not measured" in missing


def test_pictures_are_embedded_without_loss(page: str) -> None:
    image = noise(32, 64, 3)
    address = embed(image)
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        assert np.array_equal(np.array(picture.convert("RGB")), image)
    # 3 pairs: the two views, two wrong side images, and 3 rates with the nearest anchor each.
    assert page.count('<img src="data:image/webp') == 3 * (2 + 2 + 3 * 2)
    assert embed(noise(32, 64, 0)) in page and embed(noise(32, 64, 50)) in page


def test_a_mean_over_some_images_has_their_number_wherever_it_is_shown(tmp_path: Path) -> None:
    source = Source()
    results, store = results_of(source, tmp_path)
    sentence = "1 of 3 images has no value, which takes both sides of at least 97 pixels"
    for point, entry in zip(results.points, results.summary["points"], strict=True):
        entry["metrics"]["dists"] |= {"n": 2, "of": 3, "left_out": sentence}
        del results.rows[point.key][1].metrics["dists"]
    write_csv(tmp_path / "images.csv", results)
    write_report(tmp_path / "report.html", results, source, store)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parts = re.split(r"<h2>", page)
    points, bd, side, _, _, missing = parts[1:7]
    assert points.count("(2 of 3)") == len(results.points)
    assert bd.count("dists (2 of 3)</td>") == 1
    assert side.count("(2 of 3)") == 3
    assert f"<b>DISTS</b>: {sentence}" in missing


def test_the_first_thing_shown_is_the_six_panels(page: str) -> None:
    figure = page.index('<figure class="curves">')
    assert page.index("</header>") < figure < page.index('<div class="cards">')
    address = page[page.index("data:image/svg", figure) :].partition('"')[0]
    picture = base64.b64decode(address.removeprefix("data:image/svg+xml;base64,")).decode()
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    caption = page[figure : page.index("</figcaption>", figure)]
    assert "FID is of n = 3 images" in caption and "321.0 apart" in caption and "† Trained on" in caption


def test_the_headline_is_bd_rates_and_perception_at_an_equal_rate(page: str) -> None:
    cards = page[page.index('<div class="cards">') : page.index("<nav>")]
    assert re.search(r"<b>.[0-9.]+ dB</b><span>PSNR at equal rate \(BD-quality\) against WebP", cards)
    assert re.search(r"<b>0.04[0-9]</b><span>DISTS at 0.312 bpp; there WebP 0.0[0-9]+ ", cards)
    assert re.search(r"<b>[0-9.]+</b><span>FID at 0.312 bpp; there WebP [0-9.]+ ", cards)


@pytest.mark.slow
def test_the_panels_are_files_in_three_formats_and_each_metric_has_its_own(tmp_path: Path) -> None:
    results, _ = results_of(Source(), tmp_path / "run")
    write_figures(results.summary["points"], tmp_path, "caption")
    with Image.open(tmp_path / "rd_six_panel.png") as picture:
        assert picture.width > 1400 and np.asarray(picture.convert("L")).std() > 10
    assert (tmp_path / "rd_six_panel.pdf").read_bytes().startswith(b"%PDF")
    ElementTree.parse(tmp_path / "rd_six_panel.svg")
    assert {path.name for path in tmp_path.glob("rd_*.png")} == {
        f"rd_{name}.png" for name in ("six_panel", "psnr", "dists", "fid")
    }
    assert embedded(results.summary["points"], SIX) == embedded(results.summary["points"], SIX)


def test_our_curves_are_coloured_and_anchors_grey_in_every_panel_that_was_measured(tmp_path: Path) -> None:
    results, _ = results_of(Source(), tmp_path)
    cells = panels(results.summary["points"], SIX).axes
    titles = [cell.get_title() for cell in cells]
    assert [title.split()[0] for title in titles] == ["LPIPS", "FID", "DISTS", "PSNR", "MS-SSIM", "SSIM"]
    assert "\u2193" in titles[1] and "n = 3" in titles[1] and "†" in titles[2] and "\u2191" in titles[3]
    assert [cell.texts[0].get_text() for cell in cells if cell.texts] == ["not measured"] * 3
    colours = {line.get_label(): line[0].get_color() for line in cells[3].containers}
    assert list(colours) == ["ours", "ours, side none", "ours, side shuffled", "WebP"]
    assert colours["ours"] == colours["ours, side none"] == "#0072b2" and colours["WebP"] == "#777777"
