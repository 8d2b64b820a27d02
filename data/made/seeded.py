"""Seeded random numbers, and the splits and ids of an endless source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SPLITS = ("train", "val", "test")
ENDLESS = 2**31
"""Pairs of an endless split."""
HELD_OUT = 64
"""Pairs of val and of test."""


class Randomness:
    """Uniform numbers from Philox-4x64 (Salmon et al., 2011), keyed by two integers.

    Only the raw 64-bit stream is used, because NumPy guarantees that stream from version to version and not the
    distributions built on it.
    """

    def __init__(self, key: int, index: int = 0) -> None:
        self._bits = np.random.Philox(key=np.array([key, index], np.uint64))
        self._ready: list[float] = []

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1)."""
        return (self._bits.random_raw(count) >> np.uint64(11)) * 2.0**-53

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number in [low, high)."""
        if not self._ready:
            self._ready = self.uniforms(256).tolist()
        return low + (high - low) * self._ready.pop()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def integer(self, count: int) -> int:
        """One of 0 ... count - 1."""
        return min(int(self.uniform() * count), count - 1)

    def gaussian(self, shape: tuple[int, ...]) -> Floats:
        """Nearly Gaussian numbers of mean 0 and variance 1: sums of four bytes (range +-3.45)."""
        count = int(np.prod(shape))
        raw = self._bits.random_raw((count + 1) // 2)
        low = np.uint64(0x00FF00FF00FF00FF)
        sums = raw & low
        raw >>= np.uint64(8)
        raw &= low
        sums += raw
        # Four 16-bit lanes hold sums of two bytes; each 32-bit half yields one number.
        halves = sums.astype("<u8", copy=False).view("<u4")
        totals = (halves & np.uint32(0xFFFF)) + (halves >> np.uint32(16))
        noise = totals[:count].astype(np.float32)
        noise -= np.float32(510.0)
        noise *= np.float32((4 * (256**2 - 1) / 12) ** -0.5)
        return noise.reshape(shape)


class Names(Sequence[str]):
    """The ids of a range of pairs, made when asked for: the endless split has too many to hold."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix, self._count = prefix, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return f"{self._prefix}_{index % self._count:06d}"

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(self._count))
