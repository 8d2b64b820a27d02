"""Crops of scikit-image's stereo pair: real, offline, disjoint between splits, in the disparity convention of Pair."""

import socket

import numpy as np
import pytest

from data.made import builtin
from data.made.builtin import REGIONS, BuiltinSource
from utils.errors import ConfigError

SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the builtin source must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    builtin._photograph.cache_clear()


@pytest.mark.parametrize("split", SPLITS)
def test_every_pair_has_the_size_and_a_unique_id(split: str) -> None:
    source = BuiltinSource(split)
    assert len(source) == len(source.ids) == len(source.groups) == len(set(source.ids))
    for i in range(len(source)):
        pair = source[i]
        assert pair.x.shape == pair.x_side.shape == (128, 256, 3)
        assert pair.x.flags.c_contiguous
        assert pair.id == source.ids[i]
        assert pair.group == source.groups[i]
        assert pair.disparity is not None
        assert pair.disparity.shape == (128, 256)
        assert pair.disparity.dtype == np.float32
        assert not np.isinf(pair.disparity).any()


def test_counts_scales_and_limit() -> None:
    source = BuiltinSource()
    assert source.split == "test"
    assert len(source) == 18
    assert [sum(f"_x{f}" in name for name in source.ids) for f in ("2.00", "1.50", "1.25", "1.00")] == [2, 4, 6, 6]
    assert BuiltinSource(limit=3).ids == source.ids[:3]
    assert len(BuiltinSource("train")) > 30
    with pytest.raises(IndexError):
        source[len(source)]


def test_crops_at_scale_one_are_the_photographs_own_pixels() -> None:
    import skimage.data

    left, right, truth = skimage.data.stereo_motorcycle()
    source = BuiltinSource("val")
    index = next(i for i, name in enumerate(source.ids) if "_x1.00_" in name)
    row, column = (int(part[1:]) for part in source.ids[index].split("_")[-2:])
    pair = source[index]
    place = np.s_[row : row + 128, column : column + 256]
    assert np.array_equal(pair.x, left[place])
    assert np.array_equal(pair.x_side, right[place])
    known = np.isfinite(truth[place])
    assert np.array_equal(np.isfinite(pair.disparity), known)
    assert np.array_equal(pair.disparity[known], truth[place][known])


@pytest.mark.parametrize("index", [0, 3, -1])
def test_disparity_warps_the_side_view_onto_x(index: int) -> None:
    source = BuiltinSource()
    pair = source[index % len(source)]
    assert pair.disparity is not None
    middle = {}
    for sign in (1, -1):
        place = np.arange(256) - sign * pair.disparity
        inside = np.isfinite(place) & (place >= 0) & (place < 255)
        place = np.where(inside, place, 0)
        left = place.astype(int)
        t = (place - left)[..., None]
        row = np.arange(128)[:, None]
        warped = pair.x_side[row, left] * (1 - t) + pair.x_side[row, np.minimum(left + 1, 255)] * t
        middle[sign] = np.median(np.abs(warped - pair.x).mean(-1)[inside])
    assert middle[1] < 6
    assert middle[-1] > 3 * middle[1]


def test_splits_are_disjoint_also_in_the_side_view() -> None:
    disparity = builtin._photograph()[2]
    largest = float(np.nanmax(disparity))
    for first in SPLITS:
        for second in SPLITS:
            a, b = REGIONS[first], REGIONS[second]
            rows_apart = a.bottom <= b.top or b.bottom <= a.top
            columns_apart = a.right + largest <= b.left or b.right + largest <= a.left
            assert first == second or rows_apart or columns_apart
    for split in SPLITS:
        region = REGIONS[split]
        for name in BuiltinSource(split).ids:
            factor, row, column = (float(part[1:]) for part in name.split("_")[-3:])
            assert region.top <= row
            assert row + 128 * factor <= region.bottom + 0.5
            assert region.left <= column
            assert column + 256 * factor <= region.right + 2


@pytest.mark.parametrize("arguments", [{"split": "dev"}, {"limit": 0}, {"height": 300}, {"width": 8}], ids=str)
def test_bad_arguments_are_named(arguments: dict) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(arguments.values())))):
        BuiltinSource(**arguments)
