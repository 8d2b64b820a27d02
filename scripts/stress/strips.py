"""What scripts/stress/tiling.py measures: time and memory of one size in a process of its own; the seams of strips."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from data.files.geometry import Fit
from modules.bitstream import MAX_EDGE
from modules.tiling import UNIT, row_strips
from utils.benchmark.cost import peak_memory
from utils.checkpoint import load_checkpoint
from utils.errors import ProjectError
from utils.images import to_float, to_uint8
from utils.resident import peak_resident
from utils.training.validation import psnr

Image = NDArray[np.uint8]
T = TypeVar("T")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """What one process measures: the pairs that `save_pair` left in `folder`, in strips of `rows` rows (None: whole).

    The case with `rows` None comes first: it leaves the files that the others decode too.
    """

    ckpt: str
    folder: Path
    pairs: int
    rows: int | None
    rate: float | None
    steps: int | None
    gamma: float | None
    repeats: int
    threads: int | None


@dataclass(frozen=True)
class Cost:
    """Of the first pair: bytes of the file, median seconds, bytes of memory that a call adds, and the process's peak.

    Memory is None where the system does not tell it.
    """

    file: int
    encode_s: float
    decode_s: float
    encode_memory: int | None
    decode_memory: int | None
    peak: int | None


@dataclass(frozen=True)
class Seam:
    """Tiled minus untiled: dB of PSNR against the original where strips overlap, and the largest difference of 255.

    Both are the worst over overlaps and pairs: for one and the same file, and with the sender's strips too.
    """

    same_file_db: float
    own_file_db: float
    same_file_largest: int
    own_file_largest: int


def save_pair(folder: Path, number: int, x: Image, x_side: Image) -> None:
    """Leave a pair for `measure`."""
    np.savez(folder / f"pair{number}.npz", x=x, x_side=x_side)


def measure_alone(case: Case) -> Cost:
    """`measure` in a fresh process. Raises ProjectError if it dies."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, case).result()
        except BrokenProcessPool:
            what = "whole" if case.rows is None else f"in strips of {case.rows} rows"
            raise ProjectError(
                f"The process that coded {case.folder.name} {what} died; if memory ran out, leave this size out."
            ) from None


def measure(case: Case) -> Cost:
    """Code the pairs of a case, leaving every image; the first call at a size warms up and tells the memory."""
    if case.threads is not None:
        torch.set_num_threads(case.threads)
    codec = load_checkpoint(case.ckpt).codec
    codec.tile_rows = case.rows

    def decompress(data: bytes, x_side: torch.Tensor) -> Image:
        return to_uint8(codec.decompress(data, x_side, steps=case.steps, gamma=case.gamma, max_pixels=MAX_EDGE**2))

    x, x_side = _pair(case.folder, 0)
    encode_memory, peaks = peak_memory(lambda: codec.compress(x, case.rate), _CPU), [peak_resident()]
    data, encode_s = _timed(lambda: codec.compress(x, case.rate), case.repeats)
    decode_memory = peak_memory(lambda: decompress(data, x_side), _CPU)
    peaks.append(peak_resident())
    _, decode_s = _timed(lambda: decompress(data, x_side), case.repeats)
    for number in range(case.pairs):
        x, x_side = _pair(case.folder, number)
        own, untiled = codec.compress(x, case.rate), case.folder / f"file{number}.bin"
        np.save(_image(case.folder, number, case.rows, "own"), decompress(own, x_side))
        if case.rows is None:
            untiled.write_bytes(own)
        else:
            np.save(_image(case.folder, number, case.rows, "same"), decompress(untiled.read_bytes(), x_side))
    known = [peak for peak in peaks if peak is not None]
    return Cost(len(data), encode_s, decode_s, encode_memory, decode_memory, max(known, default=None))


def overlaps(height: int, rows: int) -> list[slice]:
    """The rows of an image that two neighbouring strips share: the blended ones, and MARGIN on either side."""
    strips = row_strips(-(-height // UNIT) * UNIT, rows)
    return [slice(after.start, min(before.stop, height)) for before, after in pairwise(strips)]


def rows_coded(height: int, rows: int | None) -> tuple[int, float]:
    """The number of strips, and their rows together relative to the padded image's."""
    padded = -(-height // UNIT) * UNIT
    strips = row_strips(padded, rows)
    return len(strips), sum(strip.stop - strip.start for strip in strips) / padded


def find_seams(case: Case) -> Seam:
    """Compare the images that `measure` left for a tiled case and the untiled one."""
    found: dict[str, list[tuple[float, int]]] = {"same": [], "own": []}
    for number in range(case.pairs):
        with np.load(case.folder / f"pair{number}.npz") as pair:
            x = pair["x"]
        whole = np.load(_image(case.folder, number, None, "own"))
        for kind, values in found.items():
            tiled = np.load(_image(case.folder, number, case.rows, kind))
            values += [seam(x[band], whole[band], tiled[band]) for band in overlaps(len(x), case.rows or len(x))]
    (same_db, same_largest), (own_db, own_largest) = (
        (max((db for db, _ in values), key=abs), max(largest for _, largest in values)) for values in found.values()
    )
    return Seam(same_db, own_db, same_largest, own_largest)


def seam(x: Image, whole: Image, tiled: Image) -> tuple[float, int]:
    """PSNR of tiled minus that of whole in dB, and their largest difference; rows (h, W, 3) uint8 of equal place."""
    largest = np.abs(tiled.astype(np.int16) - whole.astype(np.int16)).max()
    return psnr(x, tiled) - psnr(x, whole), int(largest)


def fitted(image: Image, height: int, width: int, name: str) -> Image:
    """The largest centre crop of this aspect, scaled to height x width; an image of that size as it is."""
    if image.shape[:2] == (height, width):
        return image
    factor = min(image.shape[0] / height, image.shape[1] / width)
    return Fit(crop=(round(height * factor), round(width * factor)), resize=(height, width))(image, name)


def _pair(folder: Path, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(folder / f"pair{number}.npz") as pair:
        return to_float(pair["x"]), to_float(pair["x_side"])


def _image(folder: Path, number: int, rows: int | None, file: str) -> Path:
    return folder / f"image{number}_{rows or 'whole'}_{file}.npy"


def _timed(function: Callable[[], T], repeats: int) -> tuple[T, float]:
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begun)
    return result, median(seconds)
