"""The one type that every data source yields, and the interface of a source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.errors import DataError

MIN_SIDE = 16
MAX_SIDE = 4096


@dataclass(frozen=True)
class Pair:
    """Two views of one scene: `x` is compressed and sent, `x_side` is held by the receiver.

    Both are uint8 RGB arrays of shape (H, W, 3), C-contiguous, of equal size, 16 to 4096 pixels a side.
    `id` is unique within a split; `group` names the recording (drive, city, ...): pairs of one group are not
    independent samples. `disparity` (H, W) float32, in pixels, is given by sources that know it exactly: the
    point at column u of x lies at column u - disparity of x_side; NaN where unknown. `has_side` is False for a single
    picture, whose `x_side` is the picture itself and tells nothing.
    """

    x: NDArray[np.uint8]
    x_side: NDArray[np.uint8]
    id: str
    group: str
    disparity: NDArray[np.float32] | None = None
    has_side: bool = True

    def __post_init__(self) -> None:
        for name, image in (("x", self.x), ("x_side", self.x_side)):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(
                    f"{name} of pair {self.id} must be uint8 of shape (H, W, 3), not {image.dtype} {image.shape}."
                )
        if self.x.shape != self.x_side.shape:
            raise DataError(
                f"The two images of pair {self.id} differ in size ({self.x.shape[1]}x{self.x.shape[0]} and "
                f"{self.x_side.shape[1]}x{self.x_side.shape[0]}); rectified stereo views must be equally large."
            )
        height, width = self.x.shape[:2]
        if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
            raise DataError(
                f"Pair {self.id} is {width}x{height}; each side must lie between {MIN_SIDE} and {MAX_SIDE} pixels."
            )


class PairSource(ABC):
    """A finite, ordered, random-access collection of pairs: one split of one data set.

    The order is the same on every machine. Reading pair i never depends on what was read before, so a source may be
    shared by data-loader processes.
    """

    name: str
    """Name of the data set, e.g. "kitti"."""
    split: str
    """"train", "val" or "test"."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of pairs."""

    @abstractmethod
    def __getitem__(self, index: int) -> Pair:
        """Pair number `index`, 0 <= index < len(self). Raises DataError with the file's name if it cannot be read."""

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]:
        """The id of every pair, in order, without decoding images."""

    @property
    @abstractmethod
    def groups(self) -> Sequence[str]:
        """The group of every pair, in order, without decoding images."""
