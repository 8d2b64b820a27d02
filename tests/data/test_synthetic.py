"""The synthetic street: repeatable, endless, geometrically exact."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from data.made.scene.raycast import Camera
from data.made.street import Rendering, Scene, build, render
from data.made.synthetic import ENDLESS, SyntheticSource
from data.made.textures import Randomness
from data.pair import Pair
from utils.errors import ConfigError

SCENES = 6


@lru_cache(maxsize=1)
def scenes() -> list[Scene]:
    """Scenes whose cameras have equal exposure, so that both views show a matt surface alike."""
    made = [build(Randomness(77, i), 128, 256) for i in range(SCENES)]
    return [replace(scene, sensor=replace(scene.sensor, spread=0.0)) for scene in made]


@lru_cache(maxsize=1)
def renderings() -> list[Rendering]:
    """The scenes without noise, in double size: interpolation then costs little."""
    return [render(replace(scene, camera=double(scene.camera))) for scene in scenes()]


def double(camera: Camera) -> Camera:
    """The same cameras with twice the pixels."""
    return replace(
        camera,
        height=2 * camera.height,
        width=2 * camera.width,
        focal=2 * camera.focal,
        centre_u=2 * camera.centre_u,
        centre_v=2 * camera.centre_v,
    )


def warp(rows: np.ndarray, disparity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of `rows` (H, W, ...) at column u - disparity by cubic interpolation; and where that lies inside."""
    height, width = disparity.shape
    place = np.arange(width) - disparity
    left = np.floor(place).astype(int)
    t = (place - left).reshape(height, width, *[1] * (rows.ndim - 2))
    inside = (left >= 1) & (left + 2 < width)
    row = np.arange(height)[:, None]
    p = [rows[row, np.clip(left + k, 0, width - 1)] for k in (-1, 0, 1, 2)]
    slope = 0.5 * (p[2] - p[0]), 0.5 * (p[3] - p[1])
    value = (2 * t**3 - 3 * t**2 + 1) * p[1] + (t**3 - 2 * t**2 + t) * slope[0]
    return value + (3 * t**2 - 2 * t**3) * p[2] + (t**3 - t**2) * slope[1], inside


def seen_twice(rendering: Rendering) -> np.ndarray:
    """Pixels of the left view whose point the right view shows too, away from outlines."""
    left, right = rendering.disparity
    back, inside = warp(right[..., None], left)
    same = inside & (np.abs(back[..., 0] - left) < 0.02 + 0.005 * left)
    edge = np.abs(np.diff(left, axis=1, prepend=left[:, :1])) > 0.5
    for shift in (-2, -1, 0, 1, 2):
        same &= ~np.roll(edge, shift, axis=1)
    return same


def errors(scenes_: list[Rendering], offset: float = 0.0, rows: int = 0) -> np.ndarray:
    """Absolute differences where both views see a point: the left one, and the right one warped by disparity + offset.

    The right view is first moved down by `rows`.
    """
    found = []
    for rendering in scenes_:
        left, right = (view.transpose(1, 2, 0) for view in rendering.image)
        mask = seen_twice(rendering) & (rendering.disparity[0] > 0)
        warped, inside = warp(np.roll(right, rows, axis=0), rendering.disparity[0] + offset)
        found.append(np.abs(warped - left).mean(-1)[2:-2][(mask & inside)[2:-2]])
    return np.concatenate(found)


def same(first: Pair, second: Pair) -> bool:
    return (
        np.array_equal(first.x, second.x)
        and np.array_equal(first.x_side, second.x_side)
        and np.array_equal(first.disparity, second.disparity)
    )


def test_pair_depends_only_on_seed_split_and_index() -> None:
    forwards = SyntheticSource(seed=3)
    pairs = [forwards[i] for i in range(3)]
    backwards = SyntheticSource(seed=3, limit=10)
    for i in reversed(range(3)):
        assert same(pairs[i], backwards[i])


def test_scenes_of_splits_seeds_and_indices_differ() -> None:
    pairs = [
        SyntheticSource(split, seed=seed)[i] for split in ("train", "val", "test") for seed in (0, 1) for i in (0, 1)
    ]
    assert len({pair.x.tobytes() for pair in pairs}) == len(pairs)
    assert len({pair.id for pair in pairs}) == len(pairs)
    keys = {SyntheticSource(split, seed=seed).key for split in ("train", "val", "test") for seed in range(50)}
    assert len(keys) == 150


def test_random_numbers_are_the_published_generator() -> None:
    # Known answer of Philox-4x64-10 with zero key at counter 1, and the numbers made of it.
    raw = np.random.Philox(key=np.array([0, 0], np.uint64)).random_raw(2)
    assert Randomness(0).uniforms(2).tolist() == [float(int(v) >> 11) / 2**53 for v in raw]
    noise = Randomness(5).gaussian((400, 501))
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(1.0, abs=0.01)


def test_lengths_ids_and_groups() -> None:
    train, val = SyntheticSource("train"), SyntheticSource("val", seed=4)
    assert len(train) == ENDLESS
    assert train.ids[12] == "synthetic_train_0_000012"
    assert train.ids[ENDLESS - 1] == f"synthetic_train_0_{ENDLESS - 1}"
    assert len(val) == len(val.ids) == len(set(val.ids)) == 64
    assert val.groups == val.ids
    limited = SyntheticSource("train", limit=5)
    assert len(limited) == 5
    assert limited[4].id == limited.ids[4]
    assert limited[4].group == limited.groups[4]
    with pytest.raises(IndexError):
        limited[5]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 16), (375, 1242), (130, 430), (65, 257)])
def test_other_sizes(height: int, width: int) -> None:
    pair = SyntheticSource("val", height=height, width=width)[1]
    assert pair.x.shape == pair.x_side.shape == (height, width, 3)
    assert pair.x.flags.c_contiguous
    assert pair.disparity is not None
    assert pair.disparity.shape == (height, width)
    assert pair.disparity.dtype == np.float32
    assert np.isfinite(pair.disparity).all()
    assert pair.x.std() > 20


NOISE = 1.2 * 2**0.5
"""Deviation of the difference of two noisy pixels of a pair."""


def test_disparity_is_exact_in_whole_scenes() -> None:
    """Apart from ragged leaves, which show what is behind them, and from what reflects."""
    exact = errors(renderings())
    assert np.median(exact) < 0.25 * NOISE
    assert (exact < 2 * NOISE).mean() > 0.85
    # A fortieth of a pixel of the pair (a twentieth here) to either side is already worse.
    for offset in (-0.05, 0.05):
        assert np.median(errors(renderings(), offset)) > 1.2 * np.median(exact)


def test_views_are_rectified() -> None:
    exact = errors(renderings())
    for rows in (-1, 1):
        assert errors(renderings(), rows=rows).mean() > 3 * exact.mean()


def test_statistics_stay_what_they_were() -> None:
    """Golden values of 16 small pairs: a change of the scenes for one seed shows here, last-bit rounding does not."""
    source = SyntheticSource("val", height=64, width=128)
    pairs = [source[i] for i in range(16)]
    x = np.stack([pair.x for pair in pairs]).astype(np.float64)
    x_side = np.stack([pair.x_side for pair in pairs]).astype(np.float64)
    disparity = np.stack([pair.disparity for pair in pairs])  # type: ignore[misc]
    assert x.mean((0, 1, 2)) == pytest.approx(GOLDEN["rgb"], abs=0.1)
    assert x.std() == pytest.approx(GOLDEN["deviation"], abs=0.1)
    assert x_side.mean() == pytest.approx(GOLDEN["side"], abs=0.1)
    assert disparity.mean() == pytest.approx(GOLDEN["disparity"], abs=0.02)
    # The range that KITTI's crops of this kind have.
    assert 80 < x.mean() < 130
    assert 55 < x.std() < 95


GOLDEN = {"rgb": [111.363, 114.970, 103.368], "deviation": 70.806, "side": 108.187, "disparity": 4.4298}


@pytest.mark.parametrize(
    "arguments", [{"split": "dev"}, {"seed": -1}, {"limit": 0}, {"height": 8}, {"width": 5000}], ids=str
)
def test_bad_arguments_are_named(arguments: dict) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(arguments.values())))):
        SyntheticSource(**arguments)
