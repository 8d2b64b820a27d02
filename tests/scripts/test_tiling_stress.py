"""The study of tiling: where strips overlap, what seams and times it sees, one size measured; and --tile-rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation_files import write_untrained
from image_files import encode, write
from script_files import load_script
from tiny import smooth_pair, tiny_config, untrained_codec
from tiny_paper import tiny_paper
from torch import Tensor

from modules import diffusion_codec, tiling
from modules.codec import build_codec
from modules.tiling import Strip, by_strips
from scripts.stress.strips import (
    Case,
    Cost,
    Seam,
    find_seams,
    fitted,
    measure,
    overlaps,
    rows_coded,
    save_pair,
    seam,
)
from scripts.stress.tiling import COLUMNS, GROWTH_COLUMNS, Entry, exponent, growth
from utils import cli
from utils.coding.batch_coding import Compress, Decompress, RateChoice
from utils.coding.limits import set_tile_rows
from utils.errors import ConfigError
from utils.images import to_uint8
from utils.markdown import table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("ckpt"), tiny_config())


def test_overlaps_are_what_neighbouring_strips_share() -> None:
    assert overlaps(500, 256) == [slice(128, 256), slice(256, 384)]
    assert overlaps(330, 320) == [slice(192, 320)] and overlaps(320, 320) == []
    assert overlaps(195, 192) == [slice(64, 192)]
    assert rows_coded(500, 256) == (3, 1.5) and rows_coded(500, None) == (1, 1.0)


def test_a_seam_is_measured_where_it_is() -> None:
    x = np.random.default_rng(0).integers(20, 200, (64, 32, 3), dtype=np.uint8)
    whole = x + np.uint8(4)
    assert seam(x, whole, whole) == (0.0, 0)
    step = whole.copy()
    step[32:] += 3
    decibels, largest = seam(x, whole, step)
    assert largest == 3 and decibels == pytest.approx(10 * np.log10(16 / (0.5 * 16 + 0.5 * 49)))


def entry(height: int, width: int, rows: int | None = None, seconds: float = 1.0, found: Seam | None = None) -> Entry:
    strips, share = rows_coded(height, rows)
    return Entry(height, width, "1 made", rows, strips, share, Cost(9, seconds, seconds, 10**6, None, None), found)


def test_seams_beyond_a_tenth_of_a_decibel_fail() -> None:
    assert entry(512, 512, 256, found=Seam(-0.099, 0.099, 9, 9)).failures() == []
    assert len(entry(512, 512, 256, found=Seam(-0.11, 0.0, 9, 9)).failures()) == 1
    assert len(entry(512, 512, 256, found=Seam(float("nan"), 0.11, 9, 9)).failures()) == 2


def test_time_that_grows_faster_than_the_pixels_fails() -> None:
    assert exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
    linear = [entry(64 * k, 64 * k, seconds=k * k) for k in (1, 2, 4, 8)]
    assert growth(linear, None).failures() == []
    assert growth(linear, None).encode_bytes == 0 and growth(linear, None).decode_bytes is None
    square = [entry(64 * k, 64 * k, seconds=k**4) for k in (1, 2, 4, 8)]
    assert len(growth(square, None).failures()) == 2
    # The smaller sizes are one strip and stand as whole images; shared rows count as pixels that are coded.
    strips = [*linear[:3], entry(512, 512, 256, seconds=64 * 1.5)]
    assert growth(strips, 256).encode_exponent == pytest.approx(1)
    assert growth(linear[:1], None).failures() == [] and growth(linear[:1], None).encode_exponent is None


def test_tables_have_a_cell_for_each_column() -> None:
    entries = [entry(512, 512), entry(512, 512, 256, found=Seam(0.0, 0.0, 0, 0)), entry(64, 64)]
    lines = table(COLUMNS, [e.cells() for e in entries])
    assert {line.count(" | ") for line in lines} == {len(COLUMNS) - 1} and "whole" in lines[2]
    assert len(growth(entries, 256).cells()) == len(GROWTH_COLUMNS)


def test_pairs_keep_their_aspect() -> None:
    image = np.zeros((60, 200, 3), np.uint8)
    image[:, 40:160] = 255
    assert np.array_equal(fitted(image, 60, 200, "a"), image)
    assert fitted(image, 120, 240, "a").shape == (120, 240, 3) and fitted(image, 120, 240, "a").min() == 255


@pytest.fixture
def case(ckpt: Path, tmp_path: Path) -> Callable[[int | None], Case]:
    """Two pairs of 310x64."""
    for number in range(2):
        save_pair(tmp_path, number, *(to_uint8(image) for image in smooth_pair(310, 64, number)))
    return lambda rows: Case(str(ckpt), tmp_path, 2, rows, 0.5, None, None, repeats=1, threads=None)


def test_a_size_is_measured_whole_and_in_strips(case: Callable[[int | None], Case]) -> None:
    for rows in (None, 192):
        cost = measure(case(rows))
        assert cost.file > 8 and cost.encode_s > 0 and cost.decode_s > 0
        assert cost.peak is None or cost.peak > 10**7
    found = find_seams(case(192))
    assert abs(found.same_file_db) < 0.1 and abs(found.own_file_db) < 0.1 and found.same_file_largest < 8


def test_strips_that_do_not_fit_each_other_are_found(
    case: Callable[[int | None], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(case(None))

    def darker(function: Callable[[Strip], Tensor], height: int, rows: int | None, stride: int = 1) -> Tensor:
        return by_strips(lambda strip: function(strip) * (0.8 if strip.start else 1.0), height, rows, stride)

    monkeypatch.setattr(diffusion_codec, "by_strips", darker)
    measure(case(192))
    found = find_seams(case(192))
    assert abs(found.same_file_db) > 0.1 and found.same_file_largest > 8


def test_tile_rows_are_checked() -> None:
    codec = untrained_codec()
    set_tile_rows(codec, None)
    assert codec.tile_rows == 1024
    set_tile_rows(codec, 192)
    assert codec.tile_rows == 192
    with pytest.raises(ConfigError, match=r"--tile-rows is 191; strips need at least 192"):
        set_tile_rows(codec, 191)
    with pytest.raises(ConfigError, match="takes images whole"):
        set_tile_rows(build_codec(tiny_paper("cdc_x")), 192)


def test_the_scripts_take_tile_rows(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used: list[int | None] = []
    monkeypatch.setattr(tiling, "row_strips", lambda height, rows: used.append(rows) or [Strip(0, height)])
    left, right = (encode(to_uint8(image)) for image in smooth_pair(64, 64))
    write(tmp_path / "left.png", left)
    write(tmp_path / "right.png", right)

    def command(name: str, *words: str) -> int:
        module = load_script(name)
        monkeypatch.setattr(sys, "argv", [name, *words, "--ckpt", str(ckpt)])
        with pytest.raises(SystemExit) as stopped:
            cli.run(module.main)
        return int(stopped.value.code or 0)

    there = [str(tmp_path / name) for name in ("left.png", "left.bin")]
    back = [there[1], str(tmp_path / "out.png"), "--side", str(tmp_path / "right.png")]
    assert command("compress", *there, "--rate", "0.5", "--tile-rows", "256") == 0
    assert command("decompress", *back, "--tile-rows", "320") == 0
    assert command("decompress", *back) == 0
    assert used == [256, 320, 1024]
    capsys.readouterr()
    assert command("decompress", *back, "--tile-rows", "64") == 1
    assert capsys.readouterr().err.startswith("error: --tile-rows is 64;")


def test_folders_take_tile_rows(ckpt: Path, tmp_path: Path) -> None:
    for task in (
        Compress(ckpt / "model.safetensors", tmp_path, RateChoice(0.5), tile_rows=192),
        Decompress(ckpt / "model.safetensors", tmp_path, None, None, 10**6, tile_rows=192),
    ):
        task.start()
        assert task.loaded().tile_rows == 192


@pytest.mark.slow
def test_the_script_writes_its_tables(ckpt: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "scripts" / "stress" / "tiling.py"), "--ckpt", str(ckpt), "--sizes", "64x64"),
            *("260x64", "--tile-rows", "192", "--pairs", "1", "--repeats", "1", "--out", str(tmp_path / "out.md")),
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == bool(result["failures"]), done.stderr
    assert [(e["height"], e["rows"]) for e in result["entries"]] == [(64, None), (260, None), (260, 192)]
    assert not any("seam" in sentence for sentence in result["failures"])
    assert "| 260x64 | 1 rendered | 192 | 3 |" in (tmp_path / "out.md").read_text()
