"""Several evaluations on one page: what is merged, what is refused, what the matrix and the tables say."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import pytest
from evaluation_files import write_split
from image_files import noise
from script_files import one_line

from utils.errors import ConfigError, DataError
from utils.evaluation.plan import Point
from utils.evaluation.store import Row, Store
from utils.evaluation.summary import Results, write_csv
from utils.files import png_bytes
from utils.report.bd import Images, differences
from utils.report.comparison import compare
from utils.report.figures import panels
from utils.report.merge import merge, read_evaluations
from utils.report.published import published

GROUPS = list("aabbcd")
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
CONTAINER = {"jpeg": 20, "avif": 40}


def write_evaluation(
    folder: Path,
    codec: str = "ours",
    *,
    gain: float = 0.0,
    anchors: Sequence[tuple[str, int]] = (),
    sides: Sequence[str] = (),
    digest: str | None = None,
    size: tuple[int, int] = (64, 64),
    names: Callable[[int], str] = "pair{}".format,
    data_root: Path | str = "nowhere",
    pictures: bool = False,
    container: bool = False,
    **dataset: Any,
) -> Path:
    """FOLDER as evaluate.py leaves it, with made-up PSNRs: 20 + 8 rate + `gain`, less by another side image."""
    plan = [Point(codec, rate, f"runs/{codec}", None, 1, 0.0, "correct", 0) for rate in RATES]
    plan += [replace(plan[2], side=side) for side in sides]
    plan += [Point(name, quality / 100) for name, quality in anchors]
    ids = [names(index) for index in range(len(GROUPS))]
    store, rows, entries = Store(folder, ids), dict[str, list[Row]](), []
    for point in plan:
        assert point.rate is not None
        mine = []
        for index, name in enumerate(ids):
            psnr = 20 + index / 10 + 8 * point.rate - 2 * (1 + index % 2) * (point.side not in ("correct", None))
            psnr += gain * (1 + index / 10) if point.model == 0 else -3
            length = round((100 + 2 * index) * 6**point.rate)
            of_file = CONTAINER[point.codec] if container and point.model is None else 0
            bpp = 7.9 * length / (size[0] * size[1]) if point.model == 0 else None
            metrics = {"psnr": psnr, "lpips_vgg": 1 / psnr}
            mine.append(
                Row(point.key, index, name, *size, length, bpp, 1.0, 2.0, [*metrics], metrics, container_bytes=of_file)
            )
            if pictures:
                store.write_bytes(store.reconstruction(point, index), png_bytes(noise(*size, index)))
        rows[point.key] = mine
        means = {name: {"mean": float(np.mean([row.metrics[name] for row in mine]))} for name in mine[0].metrics}
        means["fid"] = {"value": 100 - 10 * point.rate, "n": 6, "halves": {"n": 3, "value": 1.0, "originals": 2.0}}
        figures = {"bpp": float(np.mean([row.bpp for row in mine])), "encode_ms": 1.0, "decode_ms": 2.0}
        entries.append(point.columns | figures | {"bpp_estimated": None, "metrics": means})
    environment = {
        "command": f"python evaluate.py --ckpt runs/{codec}",
        "checkpoints": [{"path": f"runs/{codec}", "step": 1, "sha256": digest or codec}],
        "data_root": str(data_root),
    }
    data = {"name": "folder", "split": "val", "pairs": len(ids), "groups": len(set(GROUPS)), "size": "protocol"}
    summary = {"format": 1, "dataset": data | dataset, "environment": environment, "points": entries}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    write_csv(folder / "images.csv", Results(summary, plan, rows, ids, GROUPS))
    return folder


def merged(*folders: Path) -> Results:
    return merge(read_evaluations(folders)).results


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of two methods, with pictures."""
    folder = tmp_path_factory.mktemp("compared")
    root = write_split(folder / "data", "val", GROUPS)
    options: dict[str, Any] = {"data_root": root, "pictures": True}
    anchors = [("jpeg", quality) for quality in (5, 20, 40, 60)]
    one = write_evaluation(folder / "one", gain=1.0, sides=["none", "jpeg:10"], anchors=anchors, **options)
    two = write_evaluation(folder / "two", "rival <b>", sides=["none"], anchors=anchors[:2], **options)
    compare([one, two], folder / "out", "python scripts/compare.py one two --out out")
    return folder / "out"


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return (made / "comparison.html").read_text(encoding="utf-8")


def test_the_page_has_every_part_and_stands_alone(page: str) -> None:
    headings = re.findall(r"<h2>([^<]*)</h2>", page)
    assert headings == [
        *("Other metrics", "Bjøntegaard differences", "What the side image is worth", "Pictures at matched bytes"),
        *("All points", "What each metric means", "How this was made"),
    ]
    assert not re.search(r"https?://|@import|<script|<link", page)
    assert set(re.findall(r'src="(data:image/[a-z+]+)', page)) == {"data:image/svg+xml", "data:image/webp"}
    assert "rival &lt;b&gt;" in page and "rival <b>" not in page
    assert "two-sided sign-flip" in page and "2<sup>−3</sup> = 0.12" in page
    assert "python evaluate.py --ckpt runs/ours" in page and "scripts/compare.py one two" in page


def test_figures_and_tables_are_files(made: Path) -> None:
    figures = {f"rd_{name}.{form}" for name in ("six_panel", "other_metrics") for form in ("svg", "pdf", "png")}
    tables = {"points.csv", "differences.csv", "side.csv"}
    assert {path.name for path in made.iterdir()} == {"comparison.html", "comparison.json", *figures, *tables}
    assert len(records(made / "points.csv")) == 5 + 2 + 5 + 1 + 4


def test_each_pair_shows_every_method_at_matched_bytes_enlarged_and_with_its_error(page: str) -> None:
    scenes = page.split('<section class="scene"')[1:]
    assert len(scenes) == 4
    # Two views and three methods, each with its window; an error for each method.
    assert all(scene.count("<img") == 2 * 2 + 3 * 3 for scene in scenes)
    sizes = [int(size) for size in re.findall(r"· (\d+) B", scenes[0])]
    assert sizes[0] == sizes[1] == round(100 * 6**0.5) and sizes[2] == round(100 * 6**0.4)


def test_the_side_table_has_the_paired_change_of_every_method_and_condition(made: Path, page: str) -> None:
    found = {(r["method"], r["side"]): r for r in records(made / "side.csv") if r["metric"] == "psnr"}
    assert set(found) == {("ours", "none"), ("ours", "jpeg:10"), ("rival <b>", "none")}
    assert float(found["ours", "none"]["change"]) == pytest.approx(-3)
    assert -4 <= float(found["ours", "none"]["low"]) <= -3 <= float(found["ours", "none"]["high"]) <= -2
    table = page[page.index("<h2>What the side image") : page.index("<h2>Pictures")]
    assert '<th scope="col">jpeg:10</th>' in table and table.count("−3.00<small>") == 3


def test_the_matrix_is_what_the_package_gives_in_both_directions(made: Path) -> None:
    points = [p for p in records(made / "points.csv") if p["side"] == "correct"]
    ours, rival = (
        [np.array([float(p[name]) for p in points if p["codec"] == codec]) for name in ("bpp", "psnr")]
        for codec in ("ours", "rival <b>")
    )
    options: dict[str, Any] = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    found = {(d["test"], d["reference"]): d for d in records(made / "differences.csv") if d["metric"] == "psnr"}
    there, back = found["ours", "rival <b>"], found["rival <b>", "ours"]
    assert float(there["rate"]) == pytest.approx(bjontegaard.bd_rate(*rival, *ours, **options))
    assert float(back["rate"]) == pytest.approx(bjontegaard.bd_rate(*ours, *rival, **options))
    assert float(there["quality"]) == pytest.approx(bjontegaard.bd_psnr(*rival, *ours, **options))
    assert float(there["quality_overlap"]) == pytest.approx(0.84, abs=0.02)
    assert float(there["rate_low"]) <= float(there["rate"]) <= float(there["rate_high"]) < 0
    assert float(back["rate_low"]) > 0 and float(back["quality_high"]) < 0
    # All four recordings agree: the smallest p that they allow.
    assert there["p"] == back["p"] == "0.125" and there["recordings"] == "4"


def test_anchors_appear_once_and_points_that_only_one_evaluation_has_are_added(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one", "a", anchors=[("jpeg", 5), ("jpeg", 40)])
    two = write_evaluation(tmp_path / "two", "b", anchors=[("jpeg", 40), ("jpeg", 60), ("avif", 3)])
    found = merged(one, two)
    anchors = [(point.codec, point.quality) for point in found.points if point.model is None]
    assert anchors == [("jpeg", 5), ("jpeg", 40), ("jpeg", 60), ("avif", 3)]
    assert [entry["codec"] for entry in found.summary["points"]] == [point.codec for point in found.points]


def test_anchors_have_a_second_curve_without_their_container(tmp_path: Path) -> None:
    qualities = [("jpeg", quality) for quality in (5, 20, 40, 60)]
    one = write_evaluation(tmp_path / "one", "a", anchors=qualities)
    two = write_evaluation(tmp_path / "two", "b", anchors=qualities, container=True)
    found = merged(one, two)
    whole, bare = ([e["bpp"] for e in found.summary["points"] if e["codec"] == name] for name in ("jpeg", "jpeg_bare"))
    assert np.array(whole) - np.array(bare) == pytest.approx([8 * CONTAINER["jpeg"] / 64**2] * 4)
    labels = [curve.get_label() for curve in panels(found.summary["points"], ["psnr"]).axes[0].containers]
    assert labels == ["a", "b", "JPEG", "JPEG without container"]
    references = {d.reference for d in differences(found.summary["points"], Images.of(found))}
    assert {"JPEG", "JPEG without container"} <= references
    assert not any(entry["codec"] == "jpeg_bare" for entry in merged(one).summary["points"])


def test_anchors_that_differ_are_refused(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one", "a", anchors=[("jpeg", 5)])
    two = write_evaluation(tmp_path / "two", "b", anchors=[("jpeg", 5)])
    rows = records(two / "images.csv")
    rows[-1]["psnr"] = str(float(rows[-1]["psnr"]) + 1)
    with (two / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DataError, match=r"one and .*two have different files of JPEG at quality 5"):
        merged(one, two)


def test_two_methods_of_one_name_get_their_evaluations_names(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one", digest="1")
    two = write_evaluation(tmp_path / "two", digest="2", gain=1.0)
    assert {point.codec for point in merged(one, two).points} == {"ours (one)", "ours (two)"}


def test_one_method_of_two_evaluations_is_one_curve_with_the_side_images_of_both(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one", sides=["none"])
    two = write_evaluation(tmp_path / "two", sides=["shift:1"])
    assert [(p.codec, p.side) for p in merged(one, two).points][5:] == [("ours", "none"), ("ours", "shift:1")]
    assert len(merged(one, two).points) == 7


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"split": "test"}, r"\(split val\) and .*two \(split test\) are evaluations of different splits"),
        ({"size": (32, 64)}, "different image sizes"),
        ({"names": "scene{}".format}, "different pairs"),
    ],
)
def test_evaluations_of_different_data_are_refused(tmp_path: Path, other: dict[str, Any], what: str) -> None:
    one, two = write_evaluation(tmp_path / "one"), write_evaluation(tmp_path / "two", **other)
    with pytest.raises(ConfigError, match=what):
        read_evaluations([one, two])


def test_what_is_no_finished_evaluation_is_refused_in_a_sentence(command, tmp_path: Path) -> None:
    (tmp_path / "begun" / "bitstreams").mkdir(parents=True)
    sentence = one_line(command("compare", tmp_path / "begun", "--out", tmp_path / "out"))
    assert "begun is no finished evaluation (there is no summary.json)" in sentence
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(command, tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "points.csv").write_text("my own")
    assert "is there already" in one_line(command("compare", one, "--out", tmp_path / "mine"))
    assert "is or holds" in one_line(command("compare", one, "--out", one))
    assert (tmp_path / "mine" / "points.csv").read_text() == "my own"


def test_without_the_data_the_page_says_so(command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("utils.report.comparison.write_figure", lambda *_: None)
    monkeypatch.setattr("utils.report.page.embedded", lambda *_: "data:,")
    status, out, err = command("compare", write_evaluation(tmp_path / "one"), "--out", tmp_path / "out")
    assert status == 0, err
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert out == f"comparison: {tmp_path / 'out' / 'comparison.html'}\n"
    assert "There are no pictures: " in page and "<img" not in page[page.index("<h2>Pictures") :]


def test_published_curves_lie_over_kitti_at_the_same_size_only(tmp_path: Path) -> None:
    kitti = "kitti2015_test_{:06d}_10".format
    found = published(merged(write_evaluation(tmp_path / "kitti", names=kitti, size=(128, 256))))
    assert {curve.label for curve in found["psnr"]} == {
        f"{name} (published)" for name in ("NDIC-bls17", "NDIC-bmshj18", "DSIN", "NDSC + prior")
    }
    (cam,) = (curve for curve in found["ms_ssim_db"] if curve.codec.startswith("NDIC-CAM"))
    assert (cam.bpp[0], cam.values[0], len(cam.bpp)) == (0.0228, 11.35, 7)
    drawn = panels([], ["psnr"], published=found).axes[0].lines
    assert [line.get_linestyle() for line in drawn] == ["--"] * 4
    for other in ({"names": kitti}, {"size": (128, 256)}):
        assert published(merged(write_evaluation(tmp_path / "other", **other))) == {}  # type: ignore[arg-type]


def test_a_table_of_the_documents_keeps_to_the_codecs_asked_for(tmp_path, command):
    anchors = [(name, quality) for name in ("jpeg", "avif") for quality in (10, 30, 50, 70)]
    folder = write_evaluation(tmp_path / "one", anchors=anchors)
    asked = ("--only", "bd-rates", "--metrics", "psnr", "--codecs")
    heads = {}
    for name in ("ours", "avif"):
        status, out, _ = command("results_table", folder / "summary.json", *asked, name)
        assert status == 0
        heads[name] = out.splitlines()[2]
    assert heads == {
        "ours": "| BD-rate of | in | against JPEG | against AVIF |",
        "avif": "| BD-rate of | in | against AVIF |",
    }
