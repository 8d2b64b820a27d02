"""The sweep: every point and pair through real files, each measured once, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.images import read_image
from data.pair import Pair, PairSource
from utils.errors import DataError
from utils.evaluation.coders import Coder
from utils.evaluation.plan import Point
from utils.evaluation.side import SideImages
from utils.evaluation.store import ORIGINALS, Row, Store
from utils.files import png_bytes
from utils.metrics import MetricSuite

Image = NDArray[np.uint8]
Encoded = tuple[int, float | None, float]
"""Length of a file in bytes, its estimate in bits, milliseconds to make it."""


class Sweep:
    """Measures points on the pairs of one process: pair i belongs to process i mod `processes`.

    For each pair and point: compress, write the file, read it back, decompress, round to uint8, write the PNG, measure,
    append a row. One pair is in memory at a time.
    """

    def __init__(
        self, source: PairSource, store: Store, suite: MetricSuite, *, rank: int = 0, processes: int = 1
    ) -> None:
        self.source = source
        self.store = store
        self._suite = suite
        self._sides = SideImages(source)
        self._share = range(rank, len(source), processes)
        self._available = sorted(set(suite.names) - set(suite.unavailable))

    def todo(self, points: Sequence[Point]) -> list[tuple[int, Point]]:
        """The (pair, point) of this process that are not measured yet, or not with every metric, pair by pair."""
        return [(index, point) for index in self._share for point in points if not self._done(point, index)]

    def run(self, points: Sequence[Point], coder: Coder, label: str, *, progress: bool = False) -> None:
        """Measure what is left of `points`, which are all of one coder."""
        left = self.todo(points)
        with tqdm(total=len(left), desc=label, unit="image", disable=None if progress else True) as bar:
            for index, todo in _by_pair(left):
                pair = self.source[index]
                files: dict[str, Encoded] = {}
                for point in todo:
                    row, x_hat = self._decoded_before(pair, index, point) or self._code(
                        pair, index, point, coder, files
                    )
                    row = replace(row, metrics=self._suite.measure(pair.x, x_hat))
                    reference, features = self._suite.features(pair.x, x_hat)
                    if point is todo[0]:
                        self.store.write_features(ORIGINALS, index, reference)
                    self.store.write_features(point.key, index, features)
                    self.store.append(row)
                    bar.update()

    def _done(self, point: Point, index: int) -> bool:
        row = self.store.rows.get((point.key, index))
        return (
            row is not None
            and set(self._available) <= set(row.measured)
            and self.store.reconstruction(point, index).is_file()
        )

    def _decoded_before(self, pair: Pair, index: int, point: Point) -> tuple[Row, Image] | None:
        """The row and the decoded image that are there when only metrics are missing (their weights were, before)."""
        row = self.store.rows.get((point.key, index))
        if row is None:
            return None
        try:
            x_hat = read_image(self.store.reconstruction(point, index))
        except DataError:
            return None
        return (replace(row, measured=self._available), x_hat) if x_hat.shape == pair.x.shape else None

    def _code(self, pair: Pair, index: int, point: Point, coder: Coder, files: dict[str, Encoded]) -> tuple[Row, Image]:
        """Through a real file: a row without metrics yet, and the decoded image."""
        length, bits, encode_ms = self._encode(pair, index, point, coder, files)
        data = self.store.bitstream(point, index, coder.suffix).read_bytes()
        side = None if point.side is None else self._sides.get(point.side, index, pair)
        x_hat, decode_ms = coder.decode(data, side, point)
        self.store.write_bytes(self.store.reconstruction(point, index), png_bytes(x_hat, effort=4))
        height, width = pair.x.shape[:2]
        row = Row(
            point=point.key,
            index=index,
            id=pair.id,
            height=height,
            width=width,
            bytes=length,
            bits_estimated=bits,
            encode_ms=encode_ms,
            decode_ms=decode_ms,
            measured=self._available,
            metrics={},
        )
        return row, x_hat

    def _encode(self, pair: Pair, index: int, point: Point, coder: Coder, files: dict[str, Encoded]) -> Encoded:
        """Write the file of a pair at a point, once for all its decodings."""
        if point.stream not in files:
            data, bits, milliseconds = coder.encode(pair.x, point)
            self.store.write_bytes(self.store.bitstream(point, index, coder.suffix), data)
            files[point.stream] = (len(data), bits, milliseconds)
        return files[point.stream]


def _by_pair(left: Sequence[tuple[int, Point]]) -> Iterator[tuple[int, list[Point]]]:
    grouped: dict[int, list[Point]] = {}
    for index, point in left:
        grouped.setdefault(index, []).append(point)
    yield from grouped.items()
