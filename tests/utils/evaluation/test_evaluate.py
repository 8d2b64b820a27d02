"""Evaluation: measured from files, resumable, documented outputs, side variants, anchors, one sentence for errors."""

import csv
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import PartialState
from evaluation_files import GROUPS, QUICK, options, summary_of, write_split
from processes import torchrun

from data.images import read_image
from data.sources import open_source
from evaluate import parse
from utils.checkpoint import load_checkpoint
from utils.errors import CheckpointError, ConfigError, DataError
from utils.evaluation import anchors, pipeline
from utils.evaluation.coders import ModelCoder
from utils.evaluation.pipeline import evaluate
from utils.evaluation.store import Row, Store
from utils.metrics.info import METRICS
from utils.report.rd import curves
from utils.training.validation import psnr, to_float, to_uint8

pytestmark = pytest.mark.usefixtures("offline")
POINT_KEYS = {
    *("codec", "checkpoint", "lambda", "rate", "steps", "gamma", "side"),
    *("bpp", "bpp_estimated", "container_bytes", "encode_ms", "decode_ms", "metrics"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ckpt: Path) -> Path:
    """The output of the plain command, with quick metrics and some that cannot be had."""
    out = tmp_path_factory.mktemp("out") / "plain"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", os.devnull)
        PartialState._reset_state()
        assert evaluate(options(ckpt, out, metrics=QUICK), "python evaluate.py --ckpt x") == out
    return out


def images_of(out: Path) -> list[dict[str, str]]:
    with (out / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_summary_has_the_documented_schema(finished: Path, ckpt: Path) -> None:
    summary = summary_of(finished)
    assert set(summary) == {"format", "dataset", "environment", "points"}
    assert summary["format"] == 1
    assert summary["dataset"] == {"name": "folder", "split": "val", "pairs": 5, "groups": 3, "size": "protocol"}
    assert summary["environment"]["command"].startswith("python evaluate.py --ckpt")
    for point in summary["points"]:
        assert set(point) == POINT_KEYS
        assert set(point["metrics"]) == set(QUICK)
        for name, entry in point["metrics"].items():
            if "unavailable" not in entry and METRICS[name].scope == "image":
                assert entry["ci95"][0] <= entry["mean"] <= entry["ci95"][1]
    ours = [p for p in summary["points"] if p["codec"] == "ours"]
    assert {p["checkpoint"] for p in ours} == {str(ckpt)}
    assert [(p["rate"], p["side"]) for p in ours] == [
        *((rate, "correct") for rate in (0.0, 0.25, 0.5, 0.75, 1.0)),
        (0.5, "none"),
        (0.5, "shuffled"),
    ]
    bpp = [p["bpp"] for p in ours[:5]]
    assert bpp == sorted(bpp) and bpp[0] < bpp[-1]
    for name in anchors.DEFAULT:
        points = [p for p in summary["points"] if p["codec"] == name]
        assert len(points) >= 4 and all(p["bpp_estimated"] is None and p["checkpoint"] is None for p in points)


def test_what_cannot_be_had_is_said_and_not_dropped(finished: Path) -> None:
    for point in summary_of(finished)["points"]:
        assert "fetch_weights.py" in point["metrics"]["lpips_alex"]["unavailable"]
        assert "97 pixels" in point["metrics"]["ms_ssim_db"]["unavailable"]
    assert "fetch_weights.py" in (finished / "report.html").read_text()
    for name in ("report.html", "images.csv", "rd_psnr.png", "rd_ssim.png"):
        assert (finished / name).stat().st_size > 1000
    assert not (finished / "rd_lpips_alex.png").exists() and not list(finished.rglob("*.tmp"))


def test_every_figure_comes_from_the_files(finished: Path, evaluation_data: Path) -> None:
    rows = images_of(finished)
    points = summary_of(finished)["points"]
    assert len(rows) == len(GROUPS) * len(points)
    for number, row in enumerate(rows):
        point = points[number // len(GROUPS)]
        assert row["codec"] == point["codec"] and row["group"] == GROUPS[number % len(GROUPS)]
    originals = {path.stem: read_image(path) for path in (evaluation_data / "val" / "left").iterdir()}
    streams = {p.relative_to(finished / "bitstreams").parent.name for p in finished.glob("bitstreams/*/*")}
    folders = {p.name for p in (finished / "reconstructions").iterdir()}
    assert len(folders) == len(points)
    assert len(streams) == len(points) - 2  # the side variants decode the files of the middle rate
    for name in ("ours_rate0.5", "webp_q000" if "webp_q000" in streams else sorted(streams)[-1]):
        (folder,) = [f for f in folders if f == name or f == f"{name}_steps1_gamma0_correct"]
        of_point = [r for r in rows if _stream(r) == name and r["side"] in ("correct", "")]
        for row in of_point:
            (file,) = (finished / "bitstreams" / name).glob(f"{row['id']}.*")
            assert int(row["bytes"]) == file.stat().st_size
            assert (int(row["container_bytes"]) > 0) == (row["codec"] != "ours")
            assert float(row["bpp"]) == 8 * file.stat().st_size / (64 * 64)
            decoded = read_image(finished / "reconstructions" / folder / f"{row['id']}.png")
            assert float(row["psnr"]) == pytest.approx(psnr(originals[row["id"]], decoded), abs=1e-9)
    for number, point in enumerate(points):
        mine = rows[number * len(GROUPS) : (number + 1) * len(GROUPS)]
        for name in ("bpp", "container_bytes"):
            assert point[name] == pytest.approx(np.mean([float(r[name]) for r in mine]))
        assert point["metrics"]["psnr"]["mean"] == pytest.approx(np.mean([float(r["psnr"]) for r in mine]))


def _stream(row: dict[str, str]) -> str:
    rate = float(row["rate"])
    return f"ours_rate{rate:.4g}" if row["codec"] == "ours" else f"{row['codec']}_q{round(100 * rate):03d}"


def test_evaluation_equals_the_model_in_memory(finished: Path, ckpt: Path, evaluation_data: Path) -> None:
    codec = load_checkpoint(ckpt).codec
    source = open_source("folder", split="val", root=evaluation_data)
    rows = {(r["id"], r["rate"], r["side"]): r for r in images_of(finished) if r["codec"] == "ours"}
    for index in range(2):
        pair = source[index]
        x = to_float(pair.x)
        data_in_memory = codec.compress(x, 0.5)
        folder = finished / "bitstreams" / "ours_rate0.5"
        assert (folder / f"{pair.id}.bin").read_bytes() == data_in_memory
        row = rows[pair.id, "0.5", "correct"]
        assert float(row["bpp_estimated"]) * 64 * 64 == pytest.approx(codec.estimate_bits(x, 0.5))
        for side, image in (("correct", to_float(pair.x_side)), ("none", None)):
            x_hat = to_uint8(codec.decompress(data_in_memory, image))
            decoded = finished / "reconstructions" / f"ours_rate0.5_steps1_gamma0_{side}" / f"{pair.id}.png"
            assert np.array_equal(read_image(decoded), x_hat)


@pytest.mark.parametrize(
    "measuring",
    [pytest.param(False, id="while coding", marks=pytest.mark.slow), pytest.param(True, id="while measuring")],
)
def test_an_interrupted_sweep_goes_on_and_ends_with_the_same_figures(ckpt, tmp_path, quick, monkeypatch, measuring):
    fields: dict[str, Any] = {"rates": (0.0, 1.0), "anchors": ("jpeg",), "limit": 4}
    evaluate(options(ckpt, tmp_path / "whole", **fields))

    append, before = Store.append, list[Row]()

    def stop(self: Store, *rows: Row) -> None:
        if bool(rows[0].metrics) == measuring and sum(bool(row.metrics) == measuring for row in before) > 2:
            with self._log.open("ab") as file:
                file.write(b'{"point": "ours_ra')  # a process killed in the middle of a line
            raise KeyboardInterrupt
        before.extend(rows)
        append(self, *rows)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(options(ckpt, tmp_path / "cut", **fields))
    after: list[Row] = []
    monkeypatch.setattr(Store, "append", lambda self, *rows: (after.extend(rows), append(self, *rows))[1])
    evaluate(options(ckpt, tmp_path / "cut", **fields))

    whole, cut = (summary_of(tmp_path / name)["points"] for name in ("whole", "cut"))
    timeless = [[{k: v for k, v in p.items() if not k.endswith("_ms")} for p in points] for points in (whole, cut)]
    assert timeless[0] == timeless[1]
    total = 2 * 4 * len(whole)  # each image is coded, then measured
    assert len(before) + len(after) == total

    monkeypatch.setattr(ModelCoder, "encode", lambda *_: pytest.fail("a finished sweep encodes nothing"))
    evaluate(options(ckpt, tmp_path / "cut", **fields))
    assert len(before) + len(after) == total

    decoded = sorted((tmp_path / "cut" / "reconstructions").rglob("*.png"))[0]
    pixels = decoded.read_bytes()
    decoded.unlink()
    evaluate(options(ckpt, tmp_path / "cut", **fields))
    assert decoded.read_bytes() == pixels  # What is missing is made again, from its file.


def test_metrics_that_become_available_are_added_without_decoding_again(ckpt, tmp_path, no_figures, monkeypatch):
    fields: dict[str, Any] = {"rates": (0.5,), "side": ("correct",), "anchors": ("none",), "limit": 2}
    evaluate(options(ckpt, tmp_path / "out", metrics=("psnr", "lpips_alex"), **fields))
    monkeypatch.setattr(ModelCoder, "decode", lambda *_: pytest.fail("the decoded images are there"))
    monkeypatch.setattr(ModelCoder, "warm_up", lambda *_: None)
    evaluate(options(ckpt, tmp_path / "out", metrics=("ssim", "lpips_alex"), **fields))
    (point,) = summary_of(tmp_path / "out")["points"]
    assert set(point["metrics"]) == {"ssim", "lpips_alex"} and 0 < point["metrics"]["ssim"]["mean"] < 1
    evaluate(options(ckpt, tmp_path / "out", metrics=("psnr", "ssim"), **fields))
    (point,) = summary_of(tmp_path / "out")["points"]
    assert set(point["metrics"]) == {"psnr", "ssim"}  # what was measured before is kept


@pytest.mark.parametrize(
    ("field", "value"),
    [("rates", (0.25,)), ("gamma", (0.5,)), ("side", ("correct", "light:10")), ("anchors", ("jpeg",)), ("limit", 1)],
)
def test_other_settings_or_code_in_the_same_folder_are_refused(
    ckpt, tmp_path_factory, quick, monkeypatch, field, value
):
    fields: dict[str, Any] = {"rates": (0.5,), "side": ("correct",), "anchors": ("none",), "limit": 2}
    out = tmp_path_factory.getbasetemp() / "shared_settings"
    if not out.exists():
        evaluate(options(ckpt, out, **fields))
    with pytest.raises(ConfigError, match=r"another output folder"):
        evaluate(options(ckpt, out, **fields | {field: value}))
    monkeypatch.setattr(pipeline, "code_digest", lambda: "another")
    with pytest.raises(ConfigError, match="code that measures"):
        evaluate(options(ckpt, out, **fields))


@pytest.mark.slow
def test_two_processes_agree_with_one(ckpt: Path, tmp_path: Path) -> None:
    arguments = ["evaluate.py", "--ckpt", str(ckpt), "--rates", "0.5", "--anchors", "jpeg"]
    done = torchrun(*arguments, "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-3000:]
    logs = sorted((tmp_path / "two" / "work").glob("rows-*.jsonl"))
    lines = [len(log.read_text().splitlines()) for log in logs]
    assert len(lines) == 2 and sum(lines) == 2 * len(images_of(tmp_path / "two"))  # coded, then measured
    evaluate(options(ckpt, tmp_path / "one", rates=(0.5,), anchors=("jpeg",)))
    one, two = summary_of(tmp_path / "one"), summary_of(tmp_path / "two")
    assert two["environment"]["processes"] == 2
    assert "torchrun --standalone --nproc_per_node 2" in two["environment"]["command"]
    assert len(one["points"]) == len(two["points"])
    for a, b in zip(one["points"], two["points"], strict=True):
        assert a["bpp"] == b["bpp"]
        for name, entry in a["metrics"].items():
            for key in ("mean", "value"):
                if key in entry:
                    assert b["metrics"][name][key] == pytest.approx(entry[key], rel=1e-4, abs=1e-7), name


def test_each_steps_with_each_gamma_is_a_curve_of_the_same_files(ckpt: Path, tmp_path: Path, quick: None) -> None:
    words = "--ckpt x --steps 4 1 --gamma 0.5 0 --rates 0 1 --side correct --anchors none --limit 2"
    asked = Namespace(**vars(parse(words.split())) | {"ckpt": [str(ckpt)], "out": str(tmp_path), "device": "cpu"})
    evaluate(asked)
    points = summary_of(tmp_path)["points"]
    decodings = [(1, 0.0), (1, 0.5), (4, 0.0), (4, 0.5)]
    assert [(p["steps"], p["gamma"], p["rate"]) for p in points] == [(*d, rate) for d in decodings for rate in (0, 1)]
    named = ("1 step, gamma 0", "1 step, gamma 0.5", "4 steps, gamma 0", "4 steps, gamma 0.5")
    found = {curve.label: curve for curve in curves(points, "psnr")}
    assert list(found) == [f"ours, {words}" for words in named]
    assert len({curve.bpp for curve in found.values()}) == 1, "the files are the same"
    assert len({curve.values for curve in found.values()}) >= 3, "at gamma 0 all numbers of steps may agree"
    rows = images_of(tmp_path)
    assert [(int(r["steps"]), float(r["gamma"])) for r in rows] == [d for d in decodings for _ in range(2 * 2)]


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"ckpt": ["nowhere"]}, CheckpointError, "no checkpoint at nowhere"),
        ({"data_root": "nowhere"}, DataError, "nowhere"),
        ({"split": "test"}, DataError, "test"),
        ({"dataset": "kitti"}, DataError, "kitti"),
        ({"dataset": "warped", "split": "train"}, ConfigError, "--limit"),
        ({"dataset": "builtin", "data_root": "here"}, ConfigError, "--data-root"),
        ({"limit": 0}, ConfigError, "limit"),
        ({"rates": (float("nan"),)}, ConfigError, "--rates"),
        ({"rates": (1.5,)}, ConfigError, "--rates"),
        ({"steps": [0]}, ConfigError, "--steps"),
        ({"gamma": [2.0]}, ConfigError, "--gamma"),
        ({"anchors": ("none", "jpeg")}, ConfigError, "--anchors none"),
        ({"metrics": ("psnr", "niqe")}, ConfigError, "no metric niqe; choose from psnr, ssim"),
        ({"device": "abacus"}, ConfigError, "--device"),
        ({"weights_dir": "nowhere"}, ConfigError, "--weights-dir"),
    ],
)
def test_wrong_arguments_are_sentences(ckpt, tmp_path, fields, error, match):
    with pytest.raises(error, match=match) as caught:
        evaluate(options(ckpt, tmp_path / "out", **fields))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_damaged_image_is_found_before_anything_is_measured(ckpt, tmp_path, quick, monkeypatch):
    root = write_split(tmp_path / "pairs", "val", ["a", "b"])
    torn = root / "val" / "right" / "pair1.png"
    torn.write_bytes(torn.read_bytes()[:-40])
    monkeypatch.setattr(ModelCoder, "encode", lambda *_: pytest.fail("the second pair cannot be read"))
    with pytest.raises(DataError, match=r"pair1\.png"):
        evaluate(options(ckpt, tmp_path / "out", data_root=str(root)))


def test_a_small_picture_takes_no_metric_from_the_others(ckpt, tmp_path, quick, capsys):
    root = write_split(tmp_path / "pairs", "val", ["a", "b", "b"], 112, 112)
    write_split(tmp_path / "small", "val", ["a"], 64, 64)
    for side in ("left", "right"):
        shutil.copy(tmp_path / "small" / "val" / side / "pair0.png", root / "val" / side / "pair0.png")
    out = tmp_path / "out"
    evaluate(options(ckpt, out, data_root=str(root), rates=(0.0, 1.0), side=("correct",), anchors=("jpeg",)))
    assert capsys.readouterr().out.count("(2 of 3)") == len(summary_of(out)["points"])
    rows = images_of(out)
    for number, point in enumerate(summary_of(out)["points"]):
        entry, mine = point["metrics"]["ms_ssim_db"], rows[3 * number : 3 * number + 3]
        assert [bool(row["ms_ssim_db"]) for row in mine] == [False, True, True]
        assert (entry["n"], entry["of"], entry["groups"]) == (2, 3, 1)
        assert entry["mean"] == pytest.approx(np.mean([float(row["ms_ssim_db"]) for row in mine[1:]]))
        assert entry["bpp"] == pytest.approx(np.mean([float(row["bpp"]) for row in mine[1:]]))
        assert entry["bpp"] != pytest.approx(point["bpp"])
        assert point["metrics"]["psnr"]["n"] == 3 and "of" not in point["metrics"]["psnr"]
    assert "1 of 3 images has no value" in (out / "report.html").read_text()
