"""Any size: seconds, memory and seams of images coded whole and in strips of rows (`--tile-rows` of compress.py).

    python scripts/study_tiling.py --ckpt checkpoints/small --dataset kitti --data-root KITTI --out results/tiling.md
    python scripts/study_tiling.py --ckpt checkpoints/small --sizes 512x1024 1024x2048 2048x4096 --tile-rows 256 1024

Each size and number of rows has a process of its own, one after the other. Real pairs of another size are cropped to
its aspect and scaled; synthetic ones are rendered at the size. Memory is what one call adds to the loaded codec, and
the process's largest resident set, libraries included. Seams are where strips overlap: PSNR against the original there
minus that of the image coded whole, decoding the same file, and with a file whose encoder worked in strips too. The
last line is the result as JSON; the exit status is 1 if a seam or the growth of time is beyond its bound. Leave the
machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ConfigError
from utils.outputs import refuse_overwriting

if TYPE_CHECKING:
    from utils.tiling_report import Entry

SIZES = ("128x256", "375x1242", "512x1024", "1024x2048")


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
    refuse_overwriting([arguments.out], [arguments.ckpt, arguments.data_root])
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
    from utils.tiling_study import fitted, save_pair

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


def study_size(arguments: argparse.Namespace, folder: Path, height: int, width: int, rate: float | None) -> list[Entry]:
    """The measurements of one size: whole, then in strips where there is more than one."""
    from utils.tiling_report import Entry
    from utils.tiling_study import Case, find_seams, measure_alone, rows_coded

    folder.mkdir()
    pairs, made = write_pairs(arguments, folder, height, width)
    entries = []
    for rows in (None, *arguments.tile_rows):
        strips, share = rows_coded(height, rows)
        if rows is not None and strips == 1:
            continue
        what = "whole" if rows is None else f"in strips of {rows} rows"
        print(f"{height}x{width} {what} ...", file=sys.stderr, flush=True)
        case = Case(
            ckpt=arguments.ckpt,
            folder=folder,
            pairs=pairs,
            rows=rows,
            rate=rate,
            steps=arguments.steps,
            gamma=arguments.gamma,
            repeats=arguments.repeats,
            threads=arguments.threads,
        )
        cost = measure_alone(case)
        seam = None if rows is None else find_seams(case)
        entries.append(Entry(height, width, made, rows, strips, share, cost, seam))
    return entries


def main() -> int:
    """See the module; the exit status."""
    arguments = parse()
    arguments.tile_rows = list(dict.fromkeys(arguments.tile_rows))
    sizes = [size_of(text) for text in dict.fromkeys(arguments.sizes)]
    # A dependency of CompressAI uses what torch deprecates; stderr is for what the reader can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from utils import tiling_report
    from utils.checkpoint import load_checkpoint
    from utils.markdown import publish, table
    from utils.run import environment
    from utils.tiles import set_tile_rows

    codec = load_checkpoint(arguments.ckpt).codec
    for rows in arguments.tile_rows:
        set_tile_rows(codec, rows)
    rate = arguments.rate if codec.variable_rate else None
    entries: list[Entry] = []
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as work:
        for height, width in sizes:
            entries += study_size(arguments, Path(work) / f"{height}x{width}", height, width, rate)
    growths = [tiling_report.growth(entries, rows) for rows in (None, *arguments.tile_rows)]
    failures = [sentence for entry in entries for sentence in entry.failures()]
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
        *table(tiling_report.COLUMNS, [entry.cells() for entry in entries]),
        "",
        *table(tiling_report.GROWTH_COLUMNS, [part.cells() for part in growths]),
        "",
        *(failures or [f"Seams within {tiling_report.SEAM_DB} dB, exponents of time at most {tiling_report.LINEAR}."]),
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
