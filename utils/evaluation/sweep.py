"""The sweep: every point and pair through real files, then every metric, each once, whatever interrupts it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import torch
from accelerate import PartialState
from tqdm import tqdm

from data.images import read_image
from data.pair import Pair, PairSource
from utils.evaluation import anchors
from utils.evaluation.coders import AnchorCoder, Coder, ModelCoder
from utils.evaluation.container import container_bytes
from utils.evaluation.plan import Model, Point
from utils.evaluation.side import SideImages
from utils.evaluation.store import ORIGINALS, Row, Store
from utils.files import png_bytes, write_json
from utils.metrics.suite import MetricSuite
from utils.training.precision import set_decoding_precision, set_tile_rows

Encoded = tuple[int, float | None, float]
"""Length of a file in bytes, its estimate in bpp, milliseconds to make it."""


class Sweep:
    """Codes and measures points on the pairs of one process: pair i belongs to process i mod the number of processes.

    Coding comes first, one codec after the other: for each pair and point compress, write the file, read it back,
    decompress, round to uint8, write the PNG, append a row. Measuring follows, pair by pair: an original passes through
    each metric's network once, and its reconstructions at all points, which are equally large, together.
    """

    def __init__(self, source: PairSource, store: Store, suite: MetricSuite, state: PartialState) -> None:
        self._source = source
        self._store = store
        self._suite = suite
        self._state = state
        self._sides = SideImages(source)
        self._hides_bars = None if state.is_main_process else True  # None: tqdm shows one on a terminal
        self._share = range(state.process_index, len(source), state.num_processes)
        self._available = sorted(set(suite.names) - set(suite.unavailable))

    def code_models(
        self,
        models: Sequence[Model],
        points: Sequence[Point],
        device: torch.device,
        *,
        tile_rows: int | None,
        precision: str,
    ) -> None:
        """Code what is left of the checkpoints' `points`."""
        for place, model in enumerate(models):
            mine = [point for point in points if point.model == place]
            if self._uncoded(mine):
                codec = model.codec.to(device)
                set_tile_rows(codec, tile_rows)
                set_decoding_precision(codec, precision)
                coder = ModelCoder(codec, device)
                coder.warm_up(self._source[0].x, mine[0])
                self._code(mine, coder, model.label)
        self._state.wait_for_everyone()

    def code_anchors(self, names: Sequence[str], points: Sequence[Point]) -> list[Point]:
        """Code the anchors over the rates that the checkpoints reached at `points`; returns the anchors' own points."""
        coded: list[Point] = []
        for name, qualities in self._plan_anchors(names, points).items():
            mine = [Point(name, quality / 100) for quality in qualities]
            self._code(mine, AnchorCoder(name), anchors.LABELS[name])
            coded += mine
        self._state.wait_for_everyone()
        return coded

    def measure(self, points: Sequence[Point]) -> None:
        """Measure the pairs of which some point lacks some metric, at all `points`, so that batches never differ."""
        rows = self._store.rows
        left = [
            index
            for index in self._share
            if any(not set(self._available) <= set(rows[point.key, index].measured) for point in points)
        ]
        for index in tqdm(left, "metrics", unit="pair", disable=self._hides_bars):
            x = self._source[index].x
            x_hats = [read_image(self._store.reconstruction(point, index)) for point in points]
            figures = self._suite.measure(x, x_hats)
            features = self._suite.features([x, *x_hats])
            for key, vector in zip([ORIGINALS, *(point.key for point in points)], features, strict=True):
                self._store.write_features(key, index, vector)
            before = [rows[point.key, index] for point in points]
            self._store.append(
                *(
                    replace(row, measured=sorted({*row.measured, *self._available}), metrics=row.metrics | metrics)
                    for row, metrics in zip(before, figures, strict=True)
                )
            )
        self._state.wait_for_everyone()

    def _uncoded(self, points: Sequence[Point]) -> list[tuple[int, Point]]:
        """The (pair, point) of this process that have no decoded image yet, pair by pair."""
        store = self._store
        return [
            (index, point)
            for index in self._share
            for point in points
            if (point.key, index) not in store.rows or not store.reconstruction(point, index).is_file()
        ]

    def _code(self, points: Sequence[Point], coder: Coder, label: str) -> None:
        """Bring what is left of `points`, which are all of one coder, through real files."""
        left = tqdm(self._uncoded(points), label, unit="image", disable=self._hides_bars)
        for index, of_pair in groupby(left, key=itemgetter(0)):
            pair, files = self._source[index], dict[str, Encoded]()
            for _, point in of_pair:
                self._store.append(self._through_a_file(pair, index, point, coder, files))

    def _through_a_file(self, pair: Pair, index: int, point: Point, coder: Coder, files: dict[str, Encoded]) -> Row:
        """Write, read, decode, and keep the decoded image; the row has no metrics yet.

        `files`: those of the pair that are written, each once for all its decodings.
        """
        file = self._store.bitstream(point, index, coder.suffix)
        if point.stream not in files:
            written, estimate, milliseconds = coder.encode(pair.x, point)
            self._store.write_bytes(file, written)
            files[point.stream] = (len(written), estimate, milliseconds)
        length, estimate, encode_ms = files[point.stream]
        data = file.read_bytes()
        side = None if point.side is None else self._sides.get(point.side, index, pair)
        x_hat, decode_ms = coder.decode(data, side, point)
        height, width = pair.x.shape[:2]
        x_hat = x_hat[:height, :width]  # VVC codes even sizes
        self._store.write_bytes(self._store.reconstruction(point, index), png_bytes(x_hat, effort=4))
        container = container_bytes(point.codec, data) if point.model is None else 0
        return Row(point.key, index, pair.id, height, width, length, estimate, encode_ms, decode_ms, [], {}, container)

    def _plan_anchors(self, names: Sequence[str], points: Sequence[Point]) -> dict[str, list[int]]:
        """The qualities of each anchor, chosen once by the main process from the rates that the models reached."""
        path = self._store.work / "anchors.json"
        if self._state.is_main_process and not path.is_file():
            self._store.read_logs()
            means = [sum(row.bpp for row in rows) / len(rows) for rows in self._store.collect(points).values()]
            indices = sorted({round(i * (len(self._source) - 1) / 3) for i in range(4)})
            images = [self._source[i].x for i in indices]
            low, high = min(means), anchors.REACH * max(means)
            write_json(path, {name: anchors.choose_qualities(name, images, low, high) for name in names})
        self._state.wait_for_everyone()
        planned: dict[str, list[int]] = json.loads(path.read_text())
        return {name: planned[name] for name in names}
