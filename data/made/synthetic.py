"""Pair source `synthetic`: an endless, seeded, ray-cast stereo street with exact disparity (`data/made/street.py`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.made.seeded import ENDLESS, HELD_OUT, SPLITS, Floats, Names, Randomness
from data.made.street import build, render
from data.pair import MAX_SIDE, MIN_SIDE, Pair, PairSource
from utils.errors import ConfigError


class SyntheticSource(PairSource):
    """Random street scenes, one a pair; pair i of a seed and split is the same on every machine.

    The same up to the last bit of the floating-point functions: between NumPy 1.26 and 2.4, and with and without
    AVX-512, one value in 100000 differs, by one grey level.

    `split` "train" holds 2^31 pairs and "val" and "test" 64 each, or `limit` of them; the splits and seeds share no
    scene, since both are part of the generator's key. Every scene is its own group. `disparity` of x is exact, and 0 in
    the sky, which is infinitely far. Along an outline, a pixel that two surfaces share has the disparity of the one
    that covers most of it.
    """

    name = "synthetic"

    def __init__(
        self, split: str = "train", limit: int | None = None, seed: int = 0, height: int = 128, width: int = 256
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"The split of the synthetic source must be one of {', '.join(SPLITS)}, not {split!r}.")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"The seed of the synthetic source must lie between 0 and 2^32 - 1, not {seed}.")
        if limit is not None and not 0 < limit <= ENDLESS:
            raise ConfigError(f"limit of the synthetic source must lie between 1 and 2^31, not {limit}.")
        if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
            raise ConfigError(
                f"The synthetic source makes images of {MIN_SIDE} to {MAX_SIDE} pixels a side, not {width}x{height}."
            )
        self.split, self.seed, self.height, self.width = split, seed, height, width
        self._length = limit if limit is not None else (ENDLESS if split == "train" else HELD_OUT)
        self._names = Names(f"synthetic_{split}_{seed}", self._length)
        self.key = seed * len(SPLITS) + SPLITS.index(split)
        """First half of the generator's key; the second is the index."""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Pair:
        name = self._names[index]
        rng = Randomness(self.key, index % self._length)
        rendering = render(build(rng, self.height, self.width))
        x, x_side = self._expose(rendering.image, rng)
        return Pair(x, x_side, name, name, rendering.disparity[0])

    @staticmethod
    def _expose(image: Floats, rng: Randomness) -> NDArray[np.uint8]:
        """Adds sensor noise (deviation 1.2 of 255, independent in both cameras) and rounds: uint8 (2, H, W, 3)."""
        noise = rng.gaussian(image.shape)
        noise *= np.float32(1.2)
        noise += image
        noise += np.float32(0.5)
        np.clip(noise, 0, 255, out=noise)
        return np.ascontiguousarray(noise.astype(np.uint8).transpose(0, 2, 3, 1))

    @property
    def ids(self) -> list[str]:
        """Ids such as synthetic_train_0_000012, as a list where they are few, else as a lazy sequence."""
        return self._names if self._length > 10**6 else list(self._names)  # type: ignore[return-value]

    @property
    def groups(self) -> list[str]:
        """Each scene is its own group."""
        return self.ids
