"""Budgets: never exceeded, used up as far as the levels allow, and a sentence where nothing fits."""

import numpy as np
import pytest
from tiny import smooth_pair, untrained_codec

from modules.budget import NEIGHBOURS, budget_bytes, compress_within, largest_level
from modules.codec import Codec
from utils.errors import ConfigError


def test_rising_sizes_give_the_largest_level_with_few_encodings() -> None:
    sizes = np.cumsum(np.random.default_rng(0).integers(0, 5, 256)) + 50
    for budget in [0, 49, *range(50, int(sizes[-1]) + 3)]:
        asked: list[int] = []

        def size_of(level: int, asked: list[int] = asked) -> int:
            asked.append(level)
            return int(sizes[level])

        found = largest_level(size_of, budget)
        fitting = np.flatnonzero(sizes <= budget)
        assert found == (int(fitting[-1]) if len(fitting) else None)
        assert len(asked) == len(set(asked)) <= 16


def test_nearly_rising_sizes_keep_the_guarantee() -> None:
    """Sizes that jump up and down: what is found fits, and none of the next levels does."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        sizes = 100 + 2 * np.arange(256) + rng.integers(-6, 7, 256)
        for budget in rng.integers(80, 640, 20):
            found = largest_level(lambda level, sizes=sizes: int(sizes[level]), int(budget))  # type: ignore[misc]
            start = -1 if found is None else found
            assert found is None or sizes[found] <= budget
            assert (sizes[start + 1 : start + 1 + NEIGHBOURS] > budget).all()


def test_files_keep_the_budget(tiny_codec: Codec) -> None:
    x, _ = smooth_pair(64, 128, seed=8)
    smallest, largest = (len(tiny_codec.compress(x, rate)) for rate in (0.0, 1.0))
    assert smallest < largest
    for budget in (smallest, (smallest + largest) // 2, largest + 50):
        data, level = compress_within(tiny_codec, x, budget)
        assert len(data) <= budget and tiny_codec.unpack(data).level == level
        assert data == tiny_codec.compress(x, level / 255)
        assert level == 255 or len(tiny_codec.compress(x, (level + 1) / 255)) > budget
    with pytest.raises(ConfigError, match=r"128x64 image fits 9 bytes: the smallest has \d+"):
        compress_within(tiny_codec, x, 9)


def test_a_fixed_rate_model_has_no_budget() -> None:
    with pytest.raises(ConfigError, match="fixed-rate"):
        compress_within(untrained_codec(model={"variable_rate": False}), smooth_pair()[0], 1000)


def test_bits_per_pixel_round_down() -> None:
    assert budget_bytes(0.1, 128, 256) == 409 and budget_bytes(0.0, 64, 64) == 0
