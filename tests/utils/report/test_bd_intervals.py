"""Intervals of BD-rates: both curves of the same resampled recordings, from a sweep or from what it wrote."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from utils.errors import DataError
from utils.evaluation.plan import Point
from utils.evaluation.store import Row
from utils.evaluation.summary import Results, read_csv, write_csv
from utils.report.bd import Difference, Images, _Cubics, differences
from utils.report.tables import differences_rows

GROUPS = list("aabbbccddd")
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
SIDE = 4096
"""Pixels; so many that rounding a file to bytes changes no figure here."""


def results(factors: dict[str, float], groups: list[str] = GROUPS, without: int | None = None) -> Results:
    """Ours needs `factors[group]` times the bits of WebP for the same PSNR; image `without` has no SSIM."""
    plan = [Point("ours", rate, "ckpt", None, 1, 0.0, "correct", 0) for rate in RATES]
    plan += [Point("webp", rate) for rate in RATES]
    rows: dict[str, list[Row]] = {}
    entries: list[dict[str, Any]] = []
    for point in plan:
        assert point.rate is not None
        for index, group in enumerate(groups):
            bpp = 0.1 * (1 + 0.2 * index) * 4**point.rate * (factors[group] if point.codec == "ours" else 1)
            metrics = {"psnr": 25 + index + 8 * point.rate, "ssim": 0.5 + 0.3 * point.rate}
            if index == without:
                del metrics["ssim"]
            size = round(bpp * SIDE**2 / 8)
            row = Row(point.key, index, str(index), SIDE, SIDE, size, bpp, 5.0, 6.0, ["psnr", "ssim"], metrics)
            rows.setdefault(point.key, []).append(row)
        mine = rows[point.key]
        entries.append(
            {"codec": point.codec, "side": point.side, "steps": point.steps, "gamma": point.gamma}
            | {"bpp": float(np.mean([row.bpp for row in mine])), "rate": point.rate, "bpp_estimated": None}
            | {
                "metrics": {
                    "psnr": {"mean": float(np.mean([row.metrics["psnr"] for row in mine]))},
                    "ssim": {"mean": 0.5 + 0.3 * point.rate},
                    "kid": {"value": 1 - 0.5 * point.rate},
                }
            }
        )
    data = {"name": "folder", "split": "val", "size": "protocol", "pairs": len(groups), "groups": len(set(groups))}
    summary = {"dataset": data, "points": entries}
    return Results(summary, plan, rows, [str(i) for i in range(len(groups))], groups)


def images_of(of: Results) -> Images:
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "images.csv", of)
        return Images.of(read_csv(Path(folder) / "images.csv", of.summary))


def found_in(of: Results) -> dict[str, Difference]:
    return {d.metric: d for d in differences(of.summary["points"], images_of(of))}


def test_a_gain_that_all_recordings_share_is_certain() -> None:
    found = found_in(results(dict.fromkeys("abcd", 0.8)))["psnr"]
    assert found.rate == pytest.approx(-20, abs=0.01) and found.rate_interval == pytest.approx((-20, -20), abs=0.01)


def test_a_gain_that_differs_between_recordings_is_as_uncertain_as_they_differ() -> None:
    found = found_in(results({"a": 0.5, "b": 0.7, "c": 0.8, "d": 0.9}))["psnr"]
    assert found.rate is not None and found.rate_interval is not None
    low, high = found.rate_interval
    assert -50.01 < low < found.rate - 2 < found.rate + 2 < high < -9.99
    _, small = differences_rows([found], full=True)[1][2]
    assert small.startswith(f"[{low:+.1f}, {high:+.1f}] over 100%\n")
    closer = found_in(results({"a": 0.7, "b": 0.75, "c": 0.8, "d": 0.75}))["psnr"].rate_interval
    assert closer is not None and closer[1] - closer[0] < (high - low) / 2


def test_what_has_no_interval() -> None:
    """Metrics of sets, and a single recording."""
    factors = dict.fromkeys("abcd", 0.8)
    of = found_in(results(factors))
    assert of["psnr"].rate_interval
    assert of["kid"].rate is not None and of["kid"].rate_interval is None
    assert found_in(results(factors, groups=["a"] * 10))["psnr"].rate_interval is None


def test_curves_of_two_points_have_a_reason_instead_of_intervals() -> None:
    of = results(dict.fromkeys("abcd", 0.8))
    few = of.summary["points"][:2] + of.summary["points"][5:7]
    images = images_of(of)
    places = [0, 1, 5, 6]
    values = {name: figures[places] for name, figures in images.metrics.items()}
    (found, *_) = differences(few, Images(images.groups, images.bpp[places], values))
    assert found.rate is None and found.rate_interval is None and found.p is None and "2 points" in found.reason_rate


def test_an_interval_is_over_the_images_that_have_the_metric() -> None:
    factors = {"a": 0.5, "b": 0.7, "c": 0.8, "d": 0.9}
    of = results(factors, groups=list("aabbbccccd"), without=9)
    mine = images_of(of)
    others = Images(mine.groups[:9], mine.bpp[:, :9], {name: values[:, :9] for name, values in mine.metrics.items()})
    points = of.summary["points"]
    some, without_it = ({d.metric: d for d in differences(points, images)} for images in (mine, others))
    assert some["ssim"].rate_interval == pytest.approx(without_it["ssim"].rate_interval)
    assert some["psnr"].rate_interval != pytest.approx(without_it["psnr"].rate_interval)


def test_the_written_figures_give_the_same_intervals(tmp_path: Path) -> None:
    of = results({"a": 0.5, "b": 0.7, "c": 0.8, "d": 0.9}, without=2)
    write_csv(tmp_path / "images.csv", of)
    read = Images.of(read_csv(tmp_path / "images.csv", of.summary))
    assert differences(of.summary["points"], read) == list(found_in(of).values())
    shorter = of.summary | {"points": of.summary["points"][1:]}
    other = results(dict.fromkeys("abcd", 0.8), without=2).summary
    for file, summary in (("images.csv", shorter), ("images.csv", other), ("nothing.csv", of.summary)):
        with pytest.raises(DataError, match=f"{file} cannot be used with its summary"):
            read_csv(tmp_path / file, summary)


def test_the_cubics_are_those_of_scipy() -> None:
    """Rising and falling rows, turns inside and at the ends; a row whose x does not rise has no value."""
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.random((200, 5)), axis=1), rng.random((200, 5)).round(1)
    to = x[:, 0] + (x[:, -1] - x[:, 0]) * rng.random(200)
    expected = [PchipInterpolator(a, b).integrate(a[0], end) for a, b, end in zip(x, y, to, strict=True)]
    assert _Cubics(x, y).integral(to) == pytest.approx(np.array(expected), abs=1e-12)
    x[0, 2] = x[0, 1]
    assert np.isnan(_Cubics(x, y).integral(to)).tolist() == [True] + [False] * 199


def table(command, of: Results, folder: Path, *metrics: str) -> list[str]:
    """The lines that results_table prints."""
    write_csv(folder / "images.csv", of)
    (folder / "summary.json").write_text(json.dumps(of.summary))
    status, out, err = command("results_table", folder / "summary.json", "--metrics", *metrics)
    assert status == 0, err
    return out.splitlines()


def test_the_table_shows_them(command, tmp_path):
    of = results({"a": 0.5, "b": 0.7, "c": 0.8, "d": 0.9})
    lines = table(command, of, tmp_path, "psnr", "kid")
    psnr = found_in(of)["psnr"]
    low, high = psnr.rate_interval
    assert f"| ours | psnr | {psnr.rate:+.1f} % [{low:+.1f}, {high:+.1f}] |" in lines
    assert any(line.startswith("| ours | kid | ") and "[" not in line for line in lines)
    assert not any("ssim" in line for line in lines)


def test_the_table_says_how_many_images_a_mean_is_over(command, tmp_path):
    of = results(dict.fromkeys("abcd", 0.8), without=0)
    for entry in of.summary["points"]:
        entry["metrics"]["ssim"] |= {"n": 9, "of": 10}
    lines = table(command, of, tmp_path, "psnr", "ssim")
    assert sum("| 0.5 (9 of 10) |" in line for line in lines) == 2  # the lowest rate of both
    assert any(line.startswith("| ours | ssim (9 of 10) | -20.0 %") for line in lines)
    assert any(line.startswith("| ours | psnr | -20.0 %") for line in lines)
