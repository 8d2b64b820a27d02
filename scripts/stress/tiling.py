"""Any size: seconds, memory and seams of images coded whole and in strips of rows (`--tile-rows` of compress.py).

    python scripts/stress/tiling.py --ckpt checkpoints/small --dataset kitti --data-root KITTI --out results/tiling.md
    python scripts/stress/tiling.py --ckpt checkpoints/small --sizes 512x1024 1024x2048 2048x4096 --tile-rows 256 1024

Each size and number of rows has a process of its own, one after the other. Real pairs of another size are cropped to
its aspect and scaled; synthetic ones are rendered at the size. Memory is what one call adds to the loaded codec, and
the process's largest resident set, libraries included. Seams are where strips overlap: PSNR against the original there
minus that of the image coded whole, decoding the same file, and with a file whose encoder worked in strips too. Ctrl-C
ends with the sizes so far. The last line is the result as JSON; the exit status is 1 if a seam or the growth of time is
beyond its bound. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from statistics import linear_regression
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.cli import run
from utils.errors import ConfigError
from utils.markdown import publish, table
from utils.outputs import refuse_overwriting

if TYPE_CHECKING:
    from scripts.stress.strips import Case, Cost, Seam

SIZES = ("128x256", "375x1242", "512x1024", "1024x2048")
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
    return linear_regression([log(n) for n in pixels], [log(s) for s in seconds]).slope


def _slope(first: int | None, last: int | None, pixels: int) -> float | None:
    return None if first is None or last is None else (last - first) / pixels


def parse() -> argparse.Namespace:
    """The command line. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    add("--sizes", nargs="+", default=SIZES, metavar="HxW", help=f"default: {' '.join(SIZES)}")
    add(
        "--tile-rows", type=int, nargs="+", default=[256, 512], metavar="N",
        help="strips of so many rows, besides images coded whole (default: 256 512)",
    )  # fmt: skip
    add(
        "--dataset", choices=("kitti", "cityscapes", "folder", "synthetic"), default="synthetic",
        help="default: synthetic; the others need --data-root",
    )  # fmt: skip
    add("--data-root", metavar="DIR")
    add("--split", choices=("train", "val", "test"), default="test", help="default: test")
    add("--pairs", type=int, default=2, metavar="N", help="in which seams are looked for (default: 2)")
    add("--rate", type=float, default=0.5, metavar="R", help="0 smallest file to 1 largest (default: 0.5)")
    add("--steps", type=int, metavar="N", help="decoding steps (default: the checkpoint's)")
    add("--gamma", type=float, metavar="G", help="0 faithful to 1 realistic (default: the checkpoint's)")
    add("--repeats", type=int, default=3, metavar="N", help="times each call is timed (default: 3)")
    add("--threads", type=int, metavar="N", help="of PyTorch (default: PyTorch's choice)")
    add("--out", type=Path, metavar="FILE", help="Markdown file to write")
    arguments = parser.parse_args()
    refuse_overwriting([arguments.out], [arguments.ckpt])
    for name in ("pairs", "repeats", "threads"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise ConfigError(f"--{name} is {value}; it must be at least 1.")
    if not 0 <= arguments.rate <= 1:
        raise ConfigError(f"--rate is {arguments.rate:g}; it lies in 0 (smallest file) to 1 (largest).")
    return arguments


def size_of(text: str) -> tuple[int, int]:
    """ "128x256" -> (128, 256), height and width. Raises ConfigError."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--sizes has {text!r}; a size is written as height x width, for example 128x256.")
    return int(parts[0]), int(parts[1])


def write_pairs(arguments: argparse.Namespace, folder: Path, height: int, width: int) -> tuple[int, str]:
    """Leave the pairs of a size in `folder`: how many, and what they are."""
    from data.sources import open_source
    from scripts.stress.strips import fitted, save_pair

    source = open_source(
        arguments.dataset,
        split=arguments.split,
        root=arguments.data_root,
        size="full",
        limit=arguments.pairs,
        height=height,
        width=width,
    )
    made = "rendered" if source.name == "synthetic" else "as stored"
    for number in range(len(source)):
        pair = source[number]
        if pair.x.shape[:2] != (height, width):
            made = "scaled"
        save_pair(folder, number, *(fitted(image, height, width, pair.id) for image in (pair.x, pair.x_side)))
    return len(source), f"{len(source)} {made}"


def cases_of(arguments: argparse.Namespace, folder: Path, rate: float | None) -> list[tuple[int, int, str, Case]]:
    """Each size (height, width, what its pairs are) whole, then in strips where there is more than one."""
    from scripts.stress.strips import Case, rows_coded

    found = []
    for height, width in map(size_of, dict.fromkeys(arguments.sizes)):
        own = folder / f"{height}x{width}"
        own.mkdir()
        pairs, made = write_pairs(arguments, own, height, width)
        for rows in (None, *arguments.tile_rows):
            if rows is None or rows_coded(height, rows)[0] > 1:
                options = (arguments.steps, arguments.gamma, arguments.repeats, arguments.threads)
                found.append((height, width, made, Case(arguments.ckpt, own, pairs, rows, rate, *options)))
    return found


def main() -> int:
    """See the module; the exit status."""
    arguments = parse()
    arguments.tile_rows = list(dict.fromkeys(arguments.tile_rows))
    for text in arguments.sizes:
        size_of(text)
    from tqdm import tqdm

    from scripts.stress.strips import find_seams, measure_alone, rows_coded
    from utils.checkpoint import load_checkpoint
    from utils.coding.limits import set_tile_rows
    from utils.run import environment

    codec = load_checkpoint(arguments.ckpt).codec
    for rows in arguments.tile_rows:
        set_tile_rows(codec, rows)
    entries: list[Entry] = []
    failures: list[str] = []
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as work:
        try:
            for height, width, made, case in tqdm(
                cases_of(arguments, Path(work), arguments.rate if codec.variable_rate else None), disable=None
            ):
                strips, share = rows_coded(height, case.rows)
                cost = measure_alone(case)
                seam = None if case.rows is None else find_seams(case)
                entries.append(Entry(height, width, made, case.rows, strips, share, cost, seam))
        except KeyboardInterrupt:
            if not entries:
                raise
            failures.append(f"Stopped after {len(entries)} measurements.")
    growths = [growth(entries, rows) for rows in (None, *arguments.tile_rows)]
    failures += [sentence for entry in entries for sentence in entry.failures()]
    failures += [sentence for part in growths for sentence in part.failures()]
    load.append(os.getloadavg()[0])
    machine = environment()
    lines = [
        f"`python {shlex.join(sys.argv)}`",
        "",
        f"{arguments.dataset}, split {arguments.split}; {machine['processor']}, "
        f"{arguments.threads or machine['threads']} threads; medians of {arguments.repeats}; rate {arguments.rate:g}; "
        f"load average {load[0]:.1f} before, {load[1]:.1f} after.",
        "",
        *table(COLUMNS, [entry.cells() for entry in entries]),
        "",
        *table(GROWTH_COLUMNS, [part.cells() for part in growths]),
        "",
        *(failures or [f"Seams within {SEAM_DB} dB, exponents of time at most {LINEAR}."]),
    ]
    publish(lines, arguments.out)
    result = {
        "entries": [asdict(entry) for entry in entries],
        "growth": [asdict(part) for part in growths],
        "failures": failures,
        "environment": machine,
        "load_average": load,
    }
    print(json.dumps(result))
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
