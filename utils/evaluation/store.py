"""The output folder of an evaluation, made so that an interrupted one can go on where it stopped.

OUT/bitstreams/STREAM/NAME.bin          a file; points that differ only at the decoder share it
OUT/reconstructions/POINT/NAME.png
OUT/work/settings.json                  what the numbers depend on; another evaluation is refused
OUT/work/rows-RANK.jsonl                a line for each measured (point, pair), appended as it is measured
OUT/work/features/POINT/NAME.npy        what set-level metrics need of an image; POINT `originals` too
OUT/work/anchors.json                   the qualities chosen for the anchors
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import DataError
from utils.evaluation.plan import Point
from utils.files import write_whole, writing
from utils.metrics.info import METRICS
from utils.metrics.sets import Features
from utils.outputs import keep_settings, refuse_foreign_folder

_WRITTEN = (
    *("summary.json", "images.csv", "report.html", "bitstreams", "reconstructions"),
    *(f"rd_{name}.png" for name in METRICS),
    *(f"rd_six_panel.{form}" for form in ("png", "pdf", "svg")),
    *("work/rows-0.jsonl", "work/features", "work/anchors.json"),
)

ORIGINALS = "originals"


@dataclass(frozen=True)
class Row:
    """What was measured of one pair at one point. `measured` names the metrics that could be had at the time."""

    point: str
    index: int
    id: str
    height: int
    width: int
    bytes: int
    bpp_estimated: float | None
    """Bits per pixel by the entropy model's estimate; None for an anchor."""
    encode_ms: float
    decode_ms: float
    measured: list[str]
    metrics: dict[str, float]
    container_bytes: int = 0
    """See `utils.evaluation.container`."""

    @property
    def bpp(self) -> float:
        """Bits per pixel of the file."""
        return 8 * self.bytes / (self.height * self.width)


def refuse_losses(out: Path, reads: Iterable[Path | str | None] = ()) -> None:
    """Raise ConfigError if an evaluation in `out` would write over what it reads, or what no evaluation made."""
    refuse_foreign_folder(out, "work/settings.json", _WRITTEN, reads)


class Store:
    """The files of one evaluation. Every process of it has one; process `rank` appends to its own log."""

    def __init__(self, out: Path, ids: Sequence[str], rank: int = 0) -> None:
        self.out = out
        self.work = out / "work"
        self.names = _file_names(ids)
        self._ids = list(ids)
        self._log = self.work / f"rows-{rank}.jsonl"
        self.rows: dict[tuple[str, int], Row] = {}

    def open(self, settings: dict[str, Any], *, writes: bool) -> None:
        """Check that the folder is new or belongs to an evaluation with the same settings, and read its logs.

        With `writes` the settings of a new one are written. Raises ConfigError.
        """
        if writes:
            refuse_losses(self.out, [settings.get("data_root")])
        keep_settings(self.out, "work/settings.json", settings, writes=writes)
        self.read_logs()

    def read_logs(self) -> None:
        """Read what all processes have measured, before an interruption too. A line that was cut off counts as none."""
        self.rows = {}
        for path in sorted(self.work.glob("rows-*.jsonl")):
            for line in path.read_text().splitlines():
                try:
                    row = Row(**json.loads(line))
                except (json.JSONDecodeError, TypeError):
                    continue
                if row.index < len(self._ids) and self._ids[row.index] == row.id:
                    old = self.rows.get((row.point, row.index))
                    if old is None or set(old.measured) <= set(row.measured):
                        self.rows[row.point, row.index] = row

    def collect(self, points: Sequence[Point]) -> dict[str, list[Row]]:
        """The rows of each point in the order of the pairs. Raises DataError if one is missing from the logs."""
        pairs = range(len(self._ids))
        missing = sum((point.key, index) not in self.rows for point in points for index in pairs)
        if missing:
            raise DataError(f"The logs in {self.work} lack {missing} measured images; run the same command again.")
        return {point.key: [self.rows[point.key, index] for index in pairs] for point in points}

    def append(self, *rows: Row) -> None:
        """Add rows to this process's log, in one piece, before the next image is measured. Raises OutputError."""
        line = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
        with writing(self._log), self._log.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # killed in the middle of a line
                    line = "\n" + line
            file.write(line.encode())
        self.rows |= {(row.point, row.index): row for row in rows}

    def bitstream(self, point: Point, index: int, suffix: str) -> Path:
        """Where the file of a pair at a point lies."""
        return self.out / "bitstreams" / point.stream / (self.names[index] + suffix)

    def reconstruction(self, point: Point, index: int) -> Path:
        """Where the decoded image lies."""
        return self.out / "reconstructions" / point.key / (self.names[index] + ".png")

    def features(self, key: str, index: int) -> Path:
        """Where the features of a reconstruction, or with ORIGINALS of an original, lie."""
        return self.work / "features" / key / (self.names[index] + ".npy")

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Write a file so that it is either whole or absent; its folder is made. Raises OutputError."""
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)

    def write_features(self, key: str, index: int, features: Features) -> None:
        """Write the features of one image; nothing if there are none."""
        if features is not None:
            buffer = io.BytesIO()
            np.save(buffer, features)
            self.write_bytes(self.features(key, index), buffer.getvalue())

    def read_features(self, key: str, index: int) -> Features:
        """The features of one image; None if there are none or the file is damaged."""
        try:
            return np.load(self.features(key, index), allow_pickle=False)  # type: ignore[no-any-return]
        except (FileNotFoundError, ValueError, EOFError):
            return None


def _file_names(ids: Sequence[str]) -> list[str]:
    names = [re.sub(r"[^A-Za-z0-9._-]+", "_", name) for name in ids]
    if len({name.lower() for name in names}) == len(names):
        return names
    return [f"{i:05d}_{name}" for i, name in enumerate(names)]
