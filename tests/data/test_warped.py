"""The pair source `warped`: geometry, occlusion, its photographs, and that a pair follows from seed and index alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.made.seeded import ENDLESS, Randomness
from data.made.surfaces import hidden, moved, seen, textured
from data.made.warped import Views, WarpedSource, open_photographs
from data.sources import open_source
from utils.errors import ConfigError, DataError


def warped_back(views: Views) -> tuple[np.ndarray, np.ndarray]:
    """x_side at column c - disparity, bilinear, (H, W, 3); and where x sees that point too, away from outlines."""
    disparity = views.disparity.astype(float)
    place = np.arange(disparity.shape[1]) - disparity
    left = np.clip(np.floor(place).astype(int), 0, disparity.shape[1] - 2)
    t, row = (place - left)[..., None], np.arange(len(disparity))[:, None]
    value = (1 - t) * views.x_side[row, left] + t * views.x_side[row, left + 1]
    apart = np.zeros_like(views.occluded)
    for axis in (0, 1):  # Pixels of an outline show two surfaces.
        apart |= np.abs(np.gradient(disparity, axis=axis)) > 0.4
    usable = ~views.occluded & ~apart
    for shift in (-1, 1):
        usable &= ~np.roll(views.occluded | apart, shift, axis=1)
    return value, usable


def test_disparity_moves_x_to_x_side() -> None:
    source = WarpedSource("val", height=64, width=256)
    for index in range(3):
        views = source.make(index, alike=True)
        value, usable = warped_back(views)
        error = np.abs(value - views.x)[usable]
        assert usable.mean() > 0.5
        assert error.mean() < 2.5 and np.median(error) < 1.1
        for wrong in (-2, 2):  # Two pixels off, and the views no longer agree.
            value, _ = warped_back(views._replace(disparity=np.maximum(views.disparity + wrong, 0)))
            assert np.abs(value - views.x)[usable].mean() > 2 * error.mean()


def close(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and np.allclose(first, second, atol=0.01)


def test_a_foreground_hides_the_columns_to_its_left() -> None:
    """A rectangle at disparity 9 before a wall at 4: the 5 columns left of it, and the 4 that leave the image."""
    rows, columns = 20, 64
    rng = np.random.default_rng(0)
    wall = rng.uniform(0, 255, (rows, columns + 12, 3)).astype(np.float32)
    card = rng.uniform(0, 255, (8, 16, 3)).astype(np.float32)
    surfaces = [
        textured(wall, np.ones((rows, columns + 12), np.float32), np.full((rows, columns + 12), 4.0)),
        textured(card, np.ones((8, 16), np.float32), np.full((8, 16), 9.0), top=6, left=30),
    ]
    x, disparity = seen(surfaces, rows, columns)
    x_side, side = seen([moved(surface, columns) for surface in surfaces], rows, columns)
    expected = np.zeros((rows, columns), bool)
    expected[:, :4] = True
    expected[6:14, 25:30] = True
    assert np.array_equal(hidden(disparity, side), expected)
    assert close(x_side[6:14, 21:37], card)
    assert close(x_side[6:14, 37:42], wall[6:14, 41:46])  # Uncovered, hidden in x.
    assert close(x_side[:6], wall[:6, 4 : 4 + columns])
    assert close(x[6:14, 30:46], card)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(64, 256), (32, 1024)])
def test_largest_disparity_spans_its_range_in_proportion_to_the_width(height: int, width: int) -> None:
    source = WarpedSource(height=height, width=width)
    views = [source.make(index) for index in range(40)]
    largest = np.array([view.disparity.max() for view in views]) * 256 / width
    assert largest.min() >= 2 - 1e-3 and largest.max() <= 60 + 1e-3
    assert largest.min() < 3.5 and largest.max() > 40
    assert np.log(largest).mean() == pytest.approx(np.log(2 * 60) / 2, abs=0.5)
    assert min(view.disparity.min() for view in views) >= 0


def test_a_pair_depends_only_on_seed_split_and_index() -> None:
    forwards, backwards = WarpedSource(seed=3, height=32, width=64), WarpedSource(seed=3, height=32, width=64, limit=9)
    pairs = [forwards[index] for index in range(4)]
    for index in reversed(range(4)):
        again = backwards[index]
        assert np.array_equal(pairs[index].x, again.x) and np.array_equal(pairs[index].x_side, again.x_side)
        assert np.array_equal(pairs[index].disparity, again.disparity)
    others = [WarpedSource(split, seed=seed, height=32, width=64)[0] for split in ("train", "val") for seed in (3, 4)]
    assert len({pair.x.tobytes() for pair in [*pairs, *others[1:]]}) == 7


def test_train_is_endless_and_val_and_test_are_small() -> None:
    train, val = WarpedSource("train"), open_source("warped", split="val", height=32, width=64)
    assert len(train) == ENDLESS and train.ids[ENDLESS - 1] == f"warped_train_0_{ENDLESS - 1}"
    assert len(val) == len(set(val.ids)) == 64
    assert val[5].id == val.ids[5] == val.groups[5]
    with pytest.raises(IndexError):
        val[64]


def test_splits_of_a_root_share_no_photograph(tmp_path: Path) -> None:
    for name, grey, size in (
        *(("train/a.png", 40, (90, 60)), ("train/deeper/b.jpg", 60, (90, 60))),
        ("val/c.webp", 200, (20, 30)),  # Smaller than a pair.
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (grey, grey, grey)).save(tmp_path / name)
    train, val = (
        open_source("warped", split=split, root=tmp_path, height=32, width=64, limit=6) for split in ("train", "val")
    )
    assert {int(train[index].x.mean().round()) // 10 for index in range(6)} <= {3, 4, 5, 6}
    assert {int(val[index].x.mean().round()) for index in range(6)} == {200}
    assert len(open_photographs(tmp_path, "train")) == 2
    with pytest.raises(DataError, match="no folder test"):
        open_source("warped", split="test", root=tmp_path)


def test_a_root_without_pictures_or_with_a_damaged_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures"):
        open_photographs(tmp_path, "train")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.png"):
        open_source("warped", split="train", root=tmp_path)[0]


def test_random_numbers_are_those_of_philox() -> None:
    """NumPy guarantees the raw stream, and every number is made of it in one way."""
    raw = np.random.Philox(key=np.array([0, 0], np.uint64)).random_raw(2)
    assert Randomness(0).uniforms(2).tolist() == [float(int(v) >> 11) / 2**53 for v in raw]
    noise = Randomness(5).gaussian((400, 501))
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 0.01 and float(noise.std()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (130, 430), (65, 257)])
def test_other_sizes(height: int, width: int) -> None:
    pair = WarpedSource("val", height=height, width=width)[1]
    assert pair.x.shape == pair.x_side.shape == (height, width, 3) and pair.x.flags.c_contiguous
    assert pair.disparity is not None and pair.disparity.shape == (height, width)
    assert pair.disparity.dtype == np.float32 and np.isfinite(pair.disparity).all()


@pytest.mark.parametrize(
    "arguments", [{"split": "dev"}, {"seed": -1}, {"limit": 0}, {"height": 8}, {"width": 5000}], ids=str
)
def test_bad_arguments_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(arguments.values())))):
        WarpedSource(**arguments)
