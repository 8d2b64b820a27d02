"""--tile-rows: how many rows of an image the networks see at a time, checked and handed on by both scripts."""

import pytest
from image_files import encode, write
from script_files import one_line
from tiny import smooth_pair, untrained_codec
from tiny_paper import tiny_paper

from data.tensors import to_uint8
from modules import tiling
from modules.codec import build_codec
from modules.tiling import Strip
from utils.errors import ConfigError
from utils.training.precision import set_tile_rows


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


def test_the_scripts_take_tile_rows(command, ckpt, tmp_path, monkeypatch):
    used: list[int | None] = []
    monkeypatch.setattr(tiling, "row_strips", lambda height, rows: used.append(rows) or [Strip(0, height)])
    left, right = (encode(to_uint8(image)) for image in smooth_pair(64, 64))
    write(tmp_path / "left.png", left)
    write(tmp_path / "right.png", right)
    there = [tmp_path / "left.png", tmp_path / "left.bin", "--ckpt", ckpt]
    back = [there[1], tmp_path / "out.png", "--side", tmp_path / "right.png", "--ckpt", ckpt]
    assert command("compress", *there, "--rate", 0.5, "--tile-rows", 256)[0] == 0
    assert command("decompress", *back, "--tile-rows", 320)[0] == command("decompress", *back)[0] == 0
    assert used == [256, 320, 1024]
    assert "--tile-rows is 64;" in one_line(command("decompress", *back, "--tile-rows", 64))
