"""A checkpoint and an anchor behind one interface.

`encode`: image -> (the file's bytes, the entropy model's estimate in bits or None, milliseconds). `decode`: bytes and
side image -> (image, milliseconds). Images are (H, W, 3) uint8; `suffix` ends the files' names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from data.tensors import to_float, to_uint8
from modules.codec import Codec
from utils.evaluation import anchors, container
from utils.evaluation.plan import Point

Image = NDArray[np.uint8]
T = TypeVar("T")


class ModelCoder:
    """A checkpoint's codec. Times include the transfer of pixels to and from its device, and no file access."""

    suffix = ".bin"

    @staticmethod
    def container_bytes(data: bytes) -> int:
        """See `utils.evaluation.container`."""
        return 0

    def __init__(self, codec: Codec, device: torch.device) -> None:
        self._codec = codec
        self._device = device

    def warm_up(self, x: Image, point: Point) -> None:
        """Encode and decode once, so that what happens only the first time is in no measured time."""
        data, _, _ = self.encode(x, point)
        self.decode(data, x if self._codec.needs_side else None, point)

    def encode(self, x: Image, point: Point) -> tuple[bytes, float | None, float]:
        """The encoder runs once for the file and the estimate."""

        def run() -> tuple[bytes, float]:
            image = to_float(x)
            coded = self._codec.code(image, point.rate)
            return self._codec.pack(image, coded, point.rate), float(coded.bits)

        (data, bits), milliseconds = _timed(run, self._device)
        return data, bits, milliseconds

    def decode(self, data: bytes, x_side: Image | None, point: Point) -> tuple[Image, float]:
        """See the module."""

        def run() -> Image:
            side = None if x_side is None else to_float(x_side)
            return to_uint8(self._codec.decompress(data, side, steps=point.steps, gamma=point.gamma))

        return _timed(run, self._device)


class AnchorCoder:
    """A conventional codec; the side image is not used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.suffix = anchors.SUFFIX[name]
        self.container_bytes = partial(container.container_bytes, name)

    def encode(self, x: Image, point: Point) -> tuple[bytes, float | None, float]:
        """See the module."""
        data, milliseconds = _timed(lambda: anchors.encode(self._name, x, point.quality), None)
        return data, None, milliseconds

    def decode(self, data: bytes, x_side: Image | None, point: Point) -> tuple[Image, float]:
        """See the module."""
        return _timed(lambda: anchors.decode(data), None)


def _timed(function: Callable[[], T], device: torch.device | None) -> tuple[T, float]:
    start = _now(device)
    result = function()
    return result, 1000 * (_now(device) - start)


def _now(device: torch.device | None) -> float:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


Coder = ModelCoder | AnchorCoder
