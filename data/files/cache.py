"""Decoded pictures that a process keeps, so that training decodes a small data set once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray


class PictureCache:
    """The pictures used last, of at most `limit` bytes together; they are read-only."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._pictures: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()

    def get(self, key: Hashable, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The picture of this key, from `decode` unless it is kept."""
        if key in self._pictures:
            self._pictures.move_to_end(key)
            return self._pictures[key]
        picture = decode()
        picture.flags.writeable = False
        if picture.nbytes <= self.limit:
            self._pictures[key] = picture
            self.bytes += picture.nbytes
        while self.bytes > self.limit:
            self.bytes -= self._pictures.popitem(last=False)[1].nbytes
        return picture
