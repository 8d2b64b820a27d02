"""Disparity maps of a codec's attention: sign and unit, which pixels count, how errors are had, and the figure."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from script_files import load_script
from tiny import smooth_pair, untrained_codec

from data.sources import open_source
from modules.codec import Codec
from modules.fusion import MAX_OFFSET
from utils.disparity import (
    Errors,
    Source,
    average,
    best_shift,
    follows_column,
    judge,
    psnr,
    read_maps,
    silenced,
    visible,
    warped,
)
from utils.disparity_figure import Panel, Row, colour_limit, draw
from utils.disparity_study import best_heads, loss_without, name_of, read_all, sources_shown
from utils.errors import ConfigError
from utils.images import to_uint8


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("figure_disparity")


ATTEND = (False, True, True)


def looking_left(positions: int, fusion: str = "aligned") -> Codec:
    """A codec whose attention at 1/8 looks so many positions to the left, whatever it sees."""
    codec = untrained_codec(model={"fusion": fusion, "attend": ATTEND})
    attention = codec.g_s.fuse[1].attention  # type: ignore[union-attr, index]
    with torch.no_grad():
        attention.query.weight.zero_()  # type: ignore[union-attr]
        attention.query.bias.zero_()  # type: ignore[union-attr]
        attention.bias[:, MAX_OFFSET - positions] = 50.0  # type: ignore[index, union-attr]
    return codec


@pytest.mark.parametrize("fusion", ["aligned", "pixel_aligned"])
def test_maps_are_in_pixels_of_the_image_and_positive_to_the_left(fusion: str) -> None:
    codec = looking_left(2, fusion)
    x, side = smooth_pair(70, 100)
    x_hat, maps = read_maps(codec, codec.compress(x, 0.5), side)
    assert list(maps) == [Source(16, 0), Source(8, 0), Source(4)]
    for source in (Source(8, 0), Source(4)):
        assert maps[source].shape == (70, 100)
        np.testing.assert_allclose(maps[source][:, 24:], 16.0, atol=1e-3)
    assert torch.equal(x_hat, codec.decompress(codec.compress(x, 0.5), side))


def test_points_that_x_side_does_not_show_do_not_count() -> None:
    """A surface of disparity 5 at columns 12 to 15, before one of 1, hides the four columns to its left."""
    truth = np.full((3, 20), 1.0, np.float32)
    truth[0, 12:16] = 5.0
    truth[1, 4], truth[1, 7] = np.nan, 0.0
    expected = np.ones((3, 20), bool)
    expected[:, 0] = False
    expected[0, 8:12] = False
    expected[1, [4, 7]] = False
    assert np.array_equal(visible(truth), expected)


@pytest.mark.parametrize("name", ["synthetic", "builtin"])
def test_ground_truth_has_the_sign_that_warping_takes(name: str) -> None:
    """x_side warped by the ground truth resembles x where it counts, and by its negative it does not."""
    pair = open_source(name, split="test", limit=1)[0]
    assert pair.disparity is not None
    valid, truth = visible(pair.disparity), np.nan_to_num(pair.disparity)
    right, none, wrong = (psnr(pair.x[valid], warped(pair.x_side, d)[valid]) for d in (truth, 0.0, -truth))
    assert right > 23 and right > none + 5 and right > wrong + 5


def test_errors_are_taken_over_the_valid_pixels() -> None:
    truth = np.array([[1.0, 2.0, 3.0, np.nan]], np.float32)
    estimate = np.array([[1.0, 5.0, 13.0, 99.0]], np.float32)
    errors = judge(estimate, truth, np.isfinite(truth))
    assert errors == Errors(pytest.approx(13 / 3), 3.0, pytest.approx(2 / 3))  # type: ignore[arg-type]
    assert judge(2.0, truth, np.isfinite(truth)).mean == pytest.approx(2 / 3)
    assert average([Errors(1, 2, 0.5), Errors(3, 4, 1.0)]) == Errors(2, 3, 0.75)


def test_the_best_shift_is_found_and_even_attention_is_recognised() -> None:
    right, left = (to_uint8(image) for image in smooth_pair(shift=6))
    assert best_shift(left, right) == 6 and best_shift(left, left) == 0
    columns = np.arange(32.0) - 15.5
    even = np.broadcast_to(columns, (8, 32)).astype(np.float32)
    assert follows_column(even) == pytest.approx(1) and follows_column(-even) == pytest.approx(-1)


@pytest.mark.parametrize("fusion", ["aligned", "pixel_aligned"])
def test_silencing_lasts_as_long_as_asked_and_changes_the_image(fusion: str) -> None:
    codec = looking_left(2, fusion)
    x, side = smooth_pair()
    data = codec.compress(x, 1.0)
    before = codec.decompress(data, side)
    for source in (Source(8, 0), Source(4)):
        with pytest.raises(RuntimeError), silenced(codec, source):
            assert not torch.equal(codec.decompress(data, side), before)
            raise RuntimeError
        assert torch.equal(codec.decompress(data, side), before)
    for source, missing in ((Source(8), "no warp"), (Source(4, 0), "no attention")):
        with pytest.raises(ValueError, match=f"{missing} to silence"), silenced(codec, source):
            pass


def test_the_best_head_of_each_scale_is_chosen_by_its_match() -> None:
    codec = untrained_codec(model={"fusion": "aligned", "attend": ATTEND, "synthesis_channels": (16, 64, 64)})
    readings = read_all(codec, [open_source("synthetic", split="val", limit=2, height=64, width=64)], 0.5)
    heads = best_heads(readings)
    assert set(heads) == {16, 8}
    for stride, head in heads.items():
        chosen, other = (
            np.mean([r.errors(r.maps[Source(stride, h)]).mean for r in readings]) for h in (head, 1 - head)
        )
        assert chosen < other
    shown = sources_shown(list(readings[0].maps), heads)
    assert [name_of(s) for s in shown] == [
        f"1/16, match of head {heads[16] + 1}",
        f"1/8, match of head {heads[8] + 1}",
        "1/4, warp",
    ]
    with patch("utils.disparity.psnr", side_effect=[30.0, 28.0, 31.0, 30.5]):
        assert loss_without(codec, readings, shown[-1]) == pytest.approx(1.25)


def test_codecs_without_attention_and_images_in_strips_are_refused() -> None:
    x, side = smooth_pair()
    plain = untrained_codec(model={"fusion": "add"})
    with pytest.raises(ConfigError, match="has no row attention"):
        read_maps(plain, plain.compress(x, 0.5), side)
    codec, (x, side) = untrained_codec(model={"fusion": "both"}), smooth_pair(256, 64)
    codec.tile_rows = 192
    with pytest.raises(ConfigError, match="decoded in strips of 192"):
        read_maps(codec, codec.compress(x, 0.5), side)


def test_a_figure_has_one_colour_scale_and_says_whose_images_it_shows(tmp_path: Path) -> None:
    image, map_ = np.zeros((32, 64, 3), np.uint8), np.full((32, 64), 20.0, np.float32)
    shown = []
    for value in (0.0, 20.0):
        rows = [Row("a", [Panel(image), Panel(map_)]), Row("b", [Panel(image, "text"), Panel(map_ - 20 + value)])]
        draw(tmp_path / "new" / "figure.png", ("x", "map"), rows, 20.0, "note", "whose")
        with Image.open(tmp_path / "new" / "figure.png") as figure:
            assert figure.width == 1500 and figure.info["Copyright"] == "whose"
            shown.append(np.asarray(figure))
    yellow, purple = ((shown[0] == colour).all(-1).sum() for colour in ((253, 231, 36), (68, 1, 84)))
    both = (shown[1] == (253, 231, 36)).all(-1).sum()
    assert yellow > 10_000 and purple > 10_000 and both > 1.9 * yellow
    assert colour_limit([np.array([[np.nan, 21.0]])]) == 25 and colour_limit([np.array([[0.1]])]) == 5


def test_the_script_writes_figure_and_table(
    script: ModuleType,
    ckpt: Path,
    evaluation_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, report = tmp_path / "figure.png", tmp_path / "report.md"
    given = ["--ckpt", str(ckpt), "--data-root", str(evaluation_data), "--pairs", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["figure_disparity.py", *given, "--report", str(report)])
    crops = patch("data.builtin.FACTORS", (2.0,))
    with crops:
        script.main()
    printed = capsys.readouterr().out
    assert printed == report.read_text() and out.stat().st_size < 700_000
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert [line.split(" | ")[0] for line in table[2:4]] == ["| 0, x_side as it is", "| best constant of each pair"]
    for arguments, message in ((["--pairs", "0"], "--pairs is 0"), (["--rate", "2"], "--rate is 2")):
        monkeypatch.setattr("sys.argv", ["figure_disparity.py", *given, *arguments])
        with pytest.raises(ConfigError, match=message):
            script.main()
