"""The tables and the verdict of scripts/study_tiling.py, from the measurements of `utils/tiling_study.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.tiling_study import Cost, Seam

SEAM_DB = 0.1
"""A seam changes the PSNR of its rows by no more."""
LINEAR = 1.2
"""Time grows with the pixels to this power at most; caches that large images no longer fit take it above 1."""
MIB = 2**20
COLUMNS = (
    *("size", "pairs", "rows a strip", "strips", "rows coded", "file bytes", "encode s", "decode s"),
    *("encode s/Mpx", "decode s/Mpx", "encode MiB", "decode MiB", "peak MiB"),
    *("seam dB, same file", "own file", "largest difference, same file", "own file"),
)
GROWTH_COLUMNS = ("rows a strip", "encode exponent", "decode exponent", "encode bytes/pixel", "decode bytes/pixel")


@dataclass(frozen=True)
class Entry:
    """A measured size in strips of `rows` rows (None: whole). `share`: rows coded, relative to the padded image's."""

    height: int
    width: int
    pairs: str
    rows: int | None
    strips: int
    share: float
    cost: Cost
    seam: Seam | None

    @property
    def pixels(self) -> int:
        """Of the image."""
        return self.height * self.width

    def cells(self) -> tuple[str, ...]:
        """The row under COLUMNS."""
        seconds = (self.cost.encode_s, self.cost.decode_s)
        memory = (self.cost.encode_memory, self.cost.decode_memory, self.cost.peak)
        seam = self.seam
        return (
            f"{self.height}x{self.width}",
            self.pairs,
            "whole" if self.rows is None else str(self.rows),
            str(self.strips),
            f"{self.share:.2f}",
            str(self.cost.file),
            *(f"{value:.3f}" for value in seconds),
            *(f"{1e6 * value / self.pixels:.2f}" for value in seconds),
            *("-" if size is None else f"{size / MIB:.0f}" for size in memory),
            *(("-", "-") if seam is None else (f"{seam.same_file_db:+.4f}", f"{seam.own_file_db:+.4f}")),
            *(("-", "-") if seam is None else (str(seam.same_file_largest), str(seam.own_file_largest))),
        )

    def failures(self) -> list[str]:
        """A sentence for each seam that can be measured."""
        if self.seam is None:
            return []
        what = f"{self.height}x{self.width} in strips of {self.rows} rows"
        decibels = {"same file": self.seam.same_file_db, "own file": self.seam.own_file_db}
        return [f"{what}: a seam of {db:+.3f} dB, {file}" for file, db in decibels.items() if not abs(db) <= SEAM_DB]


@dataclass(frozen=True)
class Growth:
    """How time and memory grow over the sizes for strips of `rows` rows (None: whole); None where nothing can be said.

    Exponents are of seconds over the pixels that are coded, shared rows as often as they are: a larger image has more
    of them. Memory is what a call adds, from the smallest to the largest size.
    """

    rows: int | None
    encode_exponent: float | None
    decode_exponent: float | None
    encode_bytes: float | None
    decode_bytes: float | None

    def cells(self) -> tuple[str, ...]:
        """The row under GROWTH_COLUMNS."""
        exponents = ("-" if e is None else f"{e:.2f}" for e in (self.encode_exponent, self.decode_exponent))
        memory = ("-" if b is None else f"{b:.0f}" for b in (self.encode_bytes, self.decode_bytes))
        return ("whole" if self.rows is None else str(self.rows), *exponents, *memory)

    def failures(self) -> list[str]:
        """A sentence for each time that grows faster than the pixels."""
        what = "whole images" if self.rows is None else f"strips of {self.rows} rows"
        exponents = {"encode": self.encode_exponent, "decode": self.decode_exponent}
        return [
            f"{what}: {part} time grows with the pixels to the power of {value:.2f}"
            for part, value in exponents.items()
            if value is not None and not value <= LINEAR
        ]


def growth(entries: Sequence[Entry], rows: int | None) -> Growth:
    """Growth for this number of rows; images that are no higher than a strip are coded whole, and stand as such."""
    sizes = {(e.height, e.width): e for e in entries if e.rows is None}
    sizes |= {(e.height, e.width): e for e in entries if e.rows == rows}
    ordered = sorted(sizes.values(), key=lambda entry: entry.pixels)
    first, last = ordered[0], ordered[-1]
    if first.pixels == last.pixels:
        return Growth(rows, None, None, None, None)
    coded = [entry.pixels * entry.share for entry in ordered]
    exponents = (exponent(coded, [getattr(e.cost, part) for e in ordered]) for part in ("encode_s", "decode_s"))
    memory = (
        _slope(getattr(first.cost, part), getattr(last.cost, part), last.pixels - first.pixels)
        for part in ("encode_memory", "decode_memory")
    )
    return Growth(rows, *exponents, *memory)


def exponent(pixels: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log seconds over log pixels by least squares: 1 is time that grows as the pixels do."""
    return float(np.polyfit(np.log(pixels), np.log(seconds), 1)[0])


def _slope(first: int | None, last: int | None, pixels: int) -> float | None:
    return None if first is None or last is None else (last - first) / pixels
