"""A checkpoint and an anchor behind one interface.

`encode`: image -> (the file's bytes, the entropy model's estimate in bpp or None, milliseconds). `decode`: bytes and
side image -> (image, milliseconds). Images are (H, W, 3) uint8; `suffix` ends the files' names.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from data.tensors import to_float, to_uint8
from modules.codec import Codec
from utils.evaluation import anchors
from utils.evaluation.plan import Point

Image = NDArray[np.uint8]


class ModelCoder:
    """A checkpoint's codec. Times include the transfer of pixels to and from its device, and no file access."""

    suffix = ".bin"

    def __init__(self, codec: Codec, device: torch.device) -> None:
        self._codec = codec
        self._device = device

    def warm_up(self, x: Image, point: Point) -> None:
        """Encode and decode once, so that what happens only the first time is in no measured time."""
        data, _, _ = self.encode(x, point)
        self.decode(data, x if self._codec.needs_side else None, point)

    def encode(self, x: Image, point: Point) -> tuple[bytes, float | None, float]:
        """The encoder runs once for the file and the estimate."""
        start = self._now()
        image = to_float(x)
        coded = self._codec.code(image, point.rate)
        data, bits = self._codec.pack(image, coded, point.rate), float(coded.bits)
        milliseconds = 1000 * (self._now() - start)
        return data, bits / (x.shape[0] * x.shape[1]), milliseconds

    def decode(self, data: bytes, x_side: Image | None, point: Point) -> tuple[Image, float]:
        """See the module."""
        start = self._now()
        side = None if x_side is None else to_float(x_side)
        x_hat = to_uint8(self._codec.decompress(data, side, steps=point.steps, gamma=point.gamma))
        return x_hat, 1000 * (self._now() - start)

    def _now(self) -> float:
        """Seconds, when the device has done what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class AnchorCoder:
    """A conventional codec; the side image is not used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.suffix = anchors.SUFFIX[name]

    def encode(self, x: Image, point: Point) -> tuple[bytes, float | None, float]:
        """See the module."""
        start = time.perf_counter()
        data = anchors.encode(self._name, x, point.quality)
        return data, None, 1000 * (time.perf_counter() - start)

    def decode(self, data: bytes, x_side: Image | None, point: Point) -> tuple[Image, float]:
        """See the module."""
        start = time.perf_counter()
        x_hat = anchors.decode(data)
        return x_hat, 1000 * (time.perf_counter() - start)


Coder = ModelCoder | AnchorCoder
