"""Strips of rows: they cover the image, blend to one, and a tiled image equals the whole one but for a trace."""

import copy
from itertools import pairwise

import pytest
import torch
from tiny import smooth_pair
from torch import nn

from modules.codec import Codec
from modules.tiling import MARGIN, OVERLAP, UNIT, Strip, by_strips, row_strips
from utils.training.precision import set_tile_rows


@pytest.mark.parametrize("height", [64, 192, 448, 1024, 4096])
@pytest.mark.parametrize("rows", [None, 192, 256, 300, 1024])
def test_strips_cover_the_image_and_keep_to_their_size(height: int, rows: int | None) -> None:
    strips = row_strips(height, rows)
    assert strips[0].start == 0 and strips[-1].stop == height
    for strip in strips:
        assert strip.start % UNIT == 0 and strip.stop % UNIT == 0 and strip.start < strip.stop
        assert rows is None or strip.stop - strip.start <= max(rows, UNIT)
    for before, after in pairwise(strips):
        assert before.stop - after.start == OVERLAP


def test_strips_that_are_too_low_are_refused() -> None:
    with pytest.raises(ValueError, match="tile_rows"):
        row_strips(1024, OVERLAP)


@pytest.mark.parametrize("stride", [1, 16])
@pytest.mark.parametrize("rows", [192, 320])
def test_shares_add_up_to_one_and_ignore_what_is_next_to_a_cut(rows: int, stride: int) -> None:
    height = 832
    image = torch.rand(1, 2, height // stride, 5)

    def spoilt(strip: Strip) -> torch.Tensor:
        part = image[:, :, strip.start // stride : strip.stop // stride].clone()
        if strip.start:
            part[:, :, : MARGIN // stride] = 1e3
        if strip.stop < height:
            part[:, :, -MARGIN // stride :] = 1e3
        return part

    torch.testing.assert_close(by_strips(spoilt, height, rows, stride), image)


@pytest.mark.parametrize(("steps", "gamma"), [(1, 0.0), (2, 1.0)])
def test_a_tiled_image_is_the_whole_one_without_a_seam(tiny_codec: Codec, steps: int, gamma: float) -> None:
    x, x_side = smooth_pair(448, 128, seed=5)
    tiled = copy.deepcopy(tiny_codec)
    tiled.tile_rows = 192
    data = tiny_codec.compress(x, 0.5)
    whole = tiny_codec.decompress(data, x_side, steps=steps, gamma=gamma)
    strips = tiled.decompress(data, x_side, steps=steps, gamma=gamma)
    assert 0 < (whole - strips).abs().max() < 2 / 255
    rows = len(tiled.compress(x, 0.5)) / len(data)
    assert 0.98 < rows < 1.02


def test_an_image_of_one_strip_does_not_change(tiny_codec: Codec) -> None:
    x, x_side = smooth_pair(192, 128)
    tiled = copy.deepcopy(tiny_codec)
    tiled.tile_rows = 192
    data = tiled.compress(x, 0.5)
    assert data == tiny_codec.compress(x, 0.5)
    assert torch.equal(tiled.decompress(data, x_side), tiny_codec.decompress(data, x_side))


@pytest.mark.parametrize(("tile_rows", "most"), [(None, 768), (192, 192)])
def test_networks_see_at_most_a_strip(own_codec: Codec, tile_rows: int | None, most: int) -> None:
    x = torch.rand(3, 768, 64, generator=torch.Generator().manual_seed(0))
    seen: dict[str, int] = {}

    def note(name: str, stride: int) -> None:
        def hook(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            seen[name] = max(seen.get(name, 0), stride * given[0].shape[2])

        own_codec.get_submodule(name).register_forward_pre_hook(hook)

    for name, stride in (("g_a", 1), ("e_side", 1), ("g_s", 16), ("unet", 1)):
        note(name, stride)
    set_tile_rows(own_codec, tile_rows)
    own_codec.decompress(own_codec.compress(x, 0.5), x, gamma=1.0)
    assert seen == dict.fromkeys(("g_a", "e_side", "g_s", "unet"), most)
