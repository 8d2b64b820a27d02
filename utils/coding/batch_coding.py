"""Compressing and decompressing whole folders: what is done with one image, and which file belongs to which."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data.files.picture_formats import EXTENSIONS
from data.images import check_image, read_image
from data.pair import MAX_SIDE
from data.tensors import to_float, to_uint8
from modules.bitstream import largest_file
from modules.budget import budget_bytes, compress_within
from modules.codec import Codec
from utils.checkpoint import find_model_file, load_checkpoint
from utils.coding.batch import Job, Task, files_by_stem, run_batch
from utils.errors import BitstreamError, ConfigError, DataError
from utils.files import png_bytes, read_whole, sha256, write_whole
from utils.outputs import keep_settings, refuse_foreign_folder, refuse_overwriting
from utils.training.precision import resolve, set_decoding_precision, set_tile_rows

ENDING = ".bin"
"""Of compressed files in folders."""


@dataclass(frozen=True)
class RateChoice:
    """How the rate level is chosen: a rate in [0, 1], or a budget of bytes or of bits per pixel; at most one is given.

    None is for models of a fixed rate.
    """

    rate: float | None = None
    max_bytes: int | None = None
    bpp: float | None = None

    @property
    def has_budget(self) -> bool:
        """Whether files have to fit a number of bytes."""
        return self.max_bytes is not None or self.bpp is not None

    def check(self, codec: Codec, ckpt: str) -> None:
        """Raise ConfigError for values out of range, and for what this codec cannot do."""
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ConfigError(f"--bytes is {self.max_bytes}; a file has at least 1.")
        if self.bpp is not None and not 0 < self.bpp < math.inf:
            raise ConfigError(f"--bpp is {self.bpp:g}; give a positive number of bits a pixel.")
        if not codec.variable_rate:
            if self.rate is not None or self.has_budget:
                option = "--rate" if self.rate is not None else "--bytes" if self.max_bytes is not None else "--bpp"
                raise ConfigError(f"{option} does not apply to {ckpt}: it is a fixed-rate model; leave it out.")
        elif not self.has_budget and (self.rate is None or not 0 <= self.rate <= 1):
            given = "is missing" if self.rate is None else f"is {self.rate:g}"
            raise ConfigError(f"--rate {given}; this model needs one from 0 (smallest file) to 1 (largest).")

    def compress(self, codec: Codec, x: torch.Tensor, tried: Callable[[], object] = lambda: None) -> bytes:
        """x (3, H, W) in [0, 1] -> the file; `tried`: see `compress_within`. Raises ConfigError where nothing fits."""
        if self.max_bytes is not None:
            return compress_within(codec, x, self.max_bytes, tried)[0]
        if self.bpp is not None:
            return compress_within(codec, x, budget_bytes(self.bpp, x.shape[1], x.shape[2]), tried)[0]
        return codec.compress(x, self.rate)


@dataclass
class CodingTask(Task):
    """What both directions share. The codec was loaded once and goes to every process with the task."""

    codec: Codec
    settings: Path

    def start(self) -> None:
        """One thread, so that processes do not compete and pixels do not depend on their number."""
        torch.set_num_threads(1)

    def is_file_of(self, image: Path, file: Path, max_pixels: int) -> bool:
        """Whether a whole file of this model is there for a whole image of its size."""
        try:
            size = _size(image)
            stream = self.codec.unpack(read_whole(file, largest_file(max_pixels)), max_pixels)
        except (DataError, BitstreamError):
            return False
        return (stream.height, stream.width) == size


@dataclass
class Compress(CodingTask):
    """An image -> a file."""

    choice: RateChoice

    def whole(self, job: Job) -> bool:
        return self.is_file_of(job.source, job.target, MAX_SIDE**2)

    def make(self, job: Job) -> Sequence[str]:
        changes: list[str] = []
        x = to_float(read_image(job.source, changes=changes))
        try:
            data = self.choice.compress(self.codec, x)
        except ConfigError as error:
            raise ConfigError(f"{job.source}: {error}") from None
        write_whole(job.target, data)
        return changes


@dataclass
class Decompress(CodingTask):
    """A file and its side image, if any -> a PNG."""

    steps: int | None
    gamma: float | None
    max_pixels: int

    def whole(self, job: Job) -> bool:
        return self.is_file_of(job.target, job.source, self.max_pixels)

    def make(self, job: Job) -> Sequence[str]:
        data = read_whole(job.source, largest_file(self.max_pixels))
        changes: list[str] = []
        x_side = None if job.side is None else to_float(read_image(job.side, side=True, changes=changes))
        try:
            x_hat = self.codec.decompress(data, x_side, steps=self.steps, gamma=self.gamma, max_pixels=self.max_pixels)
        except BitstreamError as error:
            raise BitstreamError(f"{job.source}: {error}") from None
        except ValueError as error:  # a side image of another size than the file's
            raise ConfigError(f"{job.source}: {error}") from None
        write_whole(job.target, png_bytes(to_uint8(x_hat)))
        return changes


def compress_folder(
    folder: Path, out: Path, ckpt: str, choice: RateChoice, workers: int, *, tile_rows: int | None = None
) -> int:
    """Every image directly in `folder` -> OUT/STEM.bin; the exit status. `tile_rows`: see `set_tile_rows`."""
    images = files_by_stem(folder, EXTENSIONS)
    if not images:
        raise DataError(f"{folder} holds no image ({', '.join(EXTENSIONS)}); name a folder that does.")
    jobs = [Job(path, out / (stem + ENDING)) for stem, path in images.items()]
    model = _refuse_losses(jobs, out, "compress.json", ckpt)
    codec = load_encoder(model, choice, tile_rows)
    settings = {
        "format": 1,
        "model": sha256(model),
        "tile_rows": tile_rows,
        "rate": choice.rate,
        "bytes": choice.max_bytes,
        "bpp": choice.bpp,
    }
    return run_batch(Compress(codec, keep_settings(out, "compress.json", settings), choice), jobs, workers, out)


def decompress_folder(
    folder: Path,
    out: Path,
    side: Path | None,
    ckpt: str,
    workers: int,
    *,
    steps: int | None,
    gamma: float | None,
    max_pixels: int,
    tile_rows: int | None = None,
    precision: str = "no",
) -> int:
    """Every file directly in `folder` -> OUT/STEM.png, with the image in `side` of the same stem; the exit status."""
    files = files_by_stem(folder, (ENDING,))
    if not files:
        raise DataError(f"{folder} holds no file that ends in {ENDING}; name a folder that does.")
    if side is not None and not side.is_dir():
        raise ConfigError(
            f"The side image {side} is no folder, but {folder} is one; name the folder of the side images."
        )
    refuse_overwriting([out], [side])  # A decoded image beside the side images would be taken for one of them.
    sides = {} if side is None else files_by_stem(side, EXTENSIONS)
    alone = [] if side is None else [stem for stem in files if stem not in sides]
    lost = [f"{files[stem]}: {side} holds no side image named {stem}; add it." for stem in alone]
    jobs = [Job(path, out / f"{stem}.png", sides.get(stem)) for stem, path in files.items() if stem not in alone]
    model = _refuse_losses(jobs, out, "decompress.json", ckpt)
    codec = load_decoder(model, side, tile_rows, precision)
    settings = {
        **{"format": 1, "model": sha256(model), "steps": steps, "gamma": gamma, "tile_rows": tile_rows},
        **{"side": None if side is None else str(side.resolve()), "precision": resolve(precision, "cpu")},
    }
    task = Decompress(codec, keep_settings(out, "decompress.json", settings), steps, gamma, max_pixels)
    return run_batch(task, jobs, workers, out, lost)


def load_encoder(ckpt: str | Path, choice: RateChoice, tile_rows: int | None) -> Codec:
    """The codec of a checkpoint, ready to encode. Raises ConfigError for what it cannot do."""
    codec = load_checkpoint(ckpt).codec
    choice.check(codec, str(ckpt))
    set_tile_rows(codec, tile_rows)
    return codec


def load_decoder(ckpt: str | Path, side: Path | None, tile_rows: int | None, precision: str) -> Codec:
    """The codec of a checkpoint, ready to decode. Raises ConfigError for what it cannot do, a missing side too."""
    codec = load_checkpoint(ckpt).codec
    if side is None and codec.needs_side and not codec.accepts_no_side:
        raise ConfigError("--side is missing, and this model was trained without side dropout: give the side image.")
    set_tile_rows(codec, tile_rows)
    set_decoding_precision(codec, precision)
    return codec


def _refuse_losses(jobs: list[Job], out: Path, settings: str, ckpt: str) -> Path:
    """Raise ConfigError if the jobs would overwrite what they read, or files in `out` that they did not make.

    Returns the model file.
    """
    model = find_model_file(ckpt)
    targets = [job.target for job in jobs]
    refuse_overwriting([*targets, out / settings], [model, *(p for job in jobs for p in (job.source, job.side))])
    refuse_foreign_folder(out, settings, [target.name for target in targets])
    return model


def _size(path: Path) -> tuple[int, int]:
    try:
        with path.open("rb") as file:
            return check_image(file, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
