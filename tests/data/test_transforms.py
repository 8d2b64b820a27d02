from dataclasses import replace

import numpy as np
from image_files import noise

from config import AugmentConfig
from data.pair import Pair
from data.transforms import Augment, crop, flip_and_swap

EVERYTHING = AugmentConfig(
    **{"height": 16, "width": 32, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "exposure": 0.1},
    **{"hue": 0.5, "gray": 0.2, "neon": 0.5, "permute": 0.5, "flat": 0.5, "text": 0.5, "white_balance": 0.1},
    **{"defects": 0.5, "noise": 4.0, "blur": 1.0, "jpeg": 50, "vertical": 1.0},
)


def street(height: int = 40, width: int = 96, shift: int = 5) -> Pair:
    """A fronto-parallel noise wall: the point at column u of x lies at column u - shift of x_side."""
    scene = noise(height, width + shift)
    disparity = np.full((height, width), shift, dtype=np.float32)
    return Pair(scene[:, :width], scene[:, shift:], "a", "g", disparity)


def assert_matches(pair: Pair) -> None:
    """Every known disparity leads from x to the same colour in x_side."""
    assert pair.disparity is not None
    v, u = np.nonzero(np.isfinite(pair.disparity))
    target = np.rint(u - pair.disparity[v, u]).astype(int)
    inside = (target >= 0) & (target < pair.x.shape[1])
    assert inside.sum() > 100
    np.testing.assert_array_equal(pair.x[v[inside], u[inside]], pair.x_side[v[inside], target[inside]])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_flip_keeps_the_sign_of_disparity() -> None:
    flipped = flip_and_swap(street())
    assert_matches(flipped)
    assert np.nanmin(flipped.disparity) == np.nanmax(flipped.disparity) == 5
    np.testing.assert_array_equal(flipped.x, street().x_side[:, ::-1])
    np.testing.assert_array_equal(flipped.x_side, street().x[:, ::-1])
    assert flipped.x.flags.c_contiguous


def test_flip_lets_near_points_hide_far_ones() -> None:
    pair = street(16, 32, 2)
    disparity = np.full((16, 32), 2, dtype=np.float32)
    disparity[:, 12] = 4  # lands on column 8, as does column 10
    flipped = flip_and_swap(replace(pair, disparity=disparity))
    assert (flipped.disparity[:, 31 - 8] == 4).all()
    assert np.isnan(flipped.disparity[:, 31 - 10]).all()  # only column 12 would have landed there


def test_default_crops_the_same_place_of_both_views() -> None:
    augment = Augment(AugmentConfig(height=16, width=32))
    pairs = [augment(street(), rng(seed)) for seed in range(40)]
    for pair in pairs:
        assert pair.x.shape == (16, 32, 3)
        assert_matches(pair)
    sums = {int(pair.x.astype(int).sum()) for pair in pairs}
    assert len(sums) > 30


def test_crop_reaches_every_border() -> None:
    ramp = np.zeros((18, 20, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(18)[:, None], np.arange(20)
    augment = Augment(AugmentConfig(height=16, width=16, flip=0))
    corners = {tuple(augment(Pair(ramp, ramp, "a", "a"), rng(seed)).x[0, 0, :2]) for seed in range(400)}
    assert corners == {(top, left) for top in range(3) for left in range(5)}


def test_flip_probability() -> None:
    pair = street(16, 32)
    for flip, expected in ((0.0, 0), (1.0, 50)):
        augment = Augment(AugmentConfig(height=16, width=32, flip=flip))
        flips = sum(not np.array_equal(augment(pair, rng(seed)).x, pair.x) for seed in range(50))
        assert flips == expected
    augment = Augment(AugmentConfig(height=16, width=32))
    assert 20 < sum(not np.array_equal(augment(pair, rng(seed)).x, pair.x) for seed in range(80)) < 60


def test_rescale_scales_disparity_and_content() -> None:
    columns = np.broadcast_to(np.linspace(0, 200, 97)[None, :, None], (40, 97, 3))
    image = columns.round().astype(np.uint8)
    pair = Pair(image[:, :96].copy(), image[:, 1:].copy(), "a", "a", np.ones((40, 96), np.float32))
    zoomed = crop(pair, 3.0, 10.0, 2.0, 32, 64)
    assert (zoomed.disparity == 2).all()
    # A ramp of 200/96 a column, seen at twice the size from column 10 on.
    expected = ((np.arange(64) + 0.5) / 2 + 10 - 0.5) * 200 / 96
    np.testing.assert_allclose(zoomed.x[5, 2:-2, 0], expected[2:-2], atol=1)


def test_rescale_range() -> None:
    augment = Augment(AugmentConfig(height=16, width=16, flip=0))
    for low, high in ((1.0, 1.5), (0.5, 1.0)):
        pairs = [augment(street(), rng(seed), scales=(low, high)) for seed in range(200)]
        scales = np.array([float(np.nanmax(pair.disparity)) / 5 for pair in pairs])
        assert low <= scales.min() < 1.05 * low and 0.95 * high < scales.max() <= high
        assert 70 < (scales < np.sqrt(low * high)).sum() < 130  # Log-uniform: half of them below the middle.


def test_reduced_pictures_do_not_alias() -> None:
    """A checkerboard of single pixels has no detail that is left at a third of its size: it becomes gray."""
    board = np.repeat(255 * (np.indices((96, 192)).sum(0) % 2).astype(np.uint8)[..., None], 3, axis=2)
    reduced = Augment(AugmentConfig(height=32, width=64))(Pair(board, board, "a", "a"), rng(), scales=(1 / 3, 1 / 3))
    assert np.abs(reduced.x.astype(int) - 128).max() < 20


def test_common_jitter_is_equal_in_both_views() -> None:
    config = AugmentConfig(height=16, width=32, flip=0, brightness=0.2, contrast=0.2, saturation=0.3)
    for seed in range(10):
        assert_matches(Augment(config)(street(), rng(seed)))
    jittered = Augment(config)(street(), rng(3))
    plain = Augment(AugmentConfig(height=16, width=32, flip=0))(street(), rng(3))
    assert np.abs(jittered.x.astype(int) - plain.x).mean() > 1
    np.testing.assert_array_equal(jittered.disparity, plain.disparity)  # the draws of the others stay


def test_exposure_differs_between_the_views() -> None:
    pair = Pair(np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 100, np.uint8), "a", "a")
    config = AugmentConfig(height=16, width=16, exposure=0.1)
    out = [Augment(config)(pair, rng(seed)) for seed in range(30)]
    levels = np.array([(p.x[0, 0, 0], p.x_side[0, 0, 0]) for p in out]).astype(int)
    assert levels.min() >= 90 and levels.max() <= 110
    assert np.abs(levels[:, 0] - levels[:, 1]).max() > 5
