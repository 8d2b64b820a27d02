"""An endless, weighted, shuffled stream of training samples in which sample i depends on the seed and on i alone."""

from __future__ import annotations

import atexit
import os
import signal
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.pair import Pair, PairSource
from data.permutation import mix, permute
from data.transforms import visible
from utils.errors import ConfigError, DataError, loader_died

_BLOCK = 64  # short, so that a small source is still walked nearly pass by pass
_UNIT = 1 << 32
LINGER = 60
"""Seconds that a worker lives on after SIGTERM."""


@dataclass(frozen=True)
class Part:
    """One source of a mixture.

    `sources` has one entry, or one for each shape of the crop: sources that make their pictures make them that large.
    `scales`: range of the log-uniform factor by which pairs are resized. `has_side` False: its views are single
    pictures.
    """

    sources: Sequence[PairSource]
    weight: float = 1.0
    scales: tuple[float, float] = (1.0, 1.0)
    has_side: bool = True


class Transform(Protocol):
    """Random changes to a pair that end in a crop of `shape` (height, width); `scales` as in `Part`."""

    def __call__(
        self, pair: Pair, rng: np.random.Generator, shape: tuple[int, int], scales: tuple[float, float]
    ) -> Pair: ...


class Mixture(Dataset[dict[str, Any]]):
    """Map-style data set of the samples of a run: `mixture[i]`, 0 <= i without end, is the i-th of them.

    Each source gets its share of every 64 consecutive samples in proportion to its weight, in random places, and is
    walked by a fresh permutation each time round. Since the choice, the permutation and the transform's random
    numbers all follow from (seed, i), the position in the data is the integer i, whatever the number of workers or
    processes and the batch size. The shape of the crop, one of `shapes` (height, width), follows from the seed and
    from i // `batch_size`, so that all samples of an optimizer step have one.

    A sample is {"x", "x_side": (3, H, W) uint8, "has_side": bool, "disparity": (H, W) float32, "index": i, "id"}. The
    disparity is that of `Pair`, and NaN also where x_side does not show the point. With probability `mismatched` the
    x_side of a sample that has one is that of another pair of the same source.
    Raises ConfigError for weights that are all zero, an empty source, and mismatches among fewer than two pairs.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        transform: Transform,
        seed: int,
        mismatched: float = 0.0,
        shapes: Sequence[tuple[int, int]] = ((128, 256),),
        batch_size: int = 1,
    ) -> None:
        self.parts = [part for part in parts if part.weight > 0]
        if not self.parts:
            raise ConfigError("The mixture has no source with a positive weight; give at least one.")
        for part in self.parts:
            source = part.sources[0]
            if len(source) == 0:
                raise ConfigError(f"The {source.split} split of {source.name} is empty; take it out of the mixture.")
            if mismatched and part.has_side and len(source) < 2:
                raise ConfigError(
                    f"The {source.split} split of {source.name} has one pair, so no wrong side image: set "
                    "data.mismatched to 0."
                )
        self.transform, self.mismatched = transform, mismatched
        self.seed, self.shapes, self.batch_size = seed, shapes, batch_size
        weights = np.array([part.weight for part in self.parts], dtype=np.float64)
        # Share of source k among sources k, k+1, ..., in units of 2**-32: integers, so that counting is exact.
        self._shares = [round(weights[k] / weights[k:].sum() * _UNIT) for k in range(len(weights))]

    def locate(self, index: int) -> tuple[int, int]:
        """(part number, pair number in its source) of sample `index`."""
        if index < 0:
            raise IndexError(f"sample {index}: the first one is 0")
        block, offset = divmod(index, _BLOCK)
        rest = block * _BLOCK + permute(offset, _BLOCK, mix(self.seed, 1, block))
        # Of the first n samples, floor(n * share) belong to source 0; the others, renumbered, are dealt out likewise.
        number = 0
        while (rest + 1) * self._shares[number] >> 32 == rest * self._shares[number] >> 32:
            rest -= rest * self._shares[number] >> 32
            number += 1  # the last share is the whole unit, so the last source takes what is left
        count = rest * self._shares[number] >> 32
        length = len(self.parts[number].sources[0])
        lap, position = divmod(count, length)
        return number, permute(position, length, mix(self.seed, 2, number, lap))

    def _transformed(self, number: int, position: int, stream: int, index: int) -> Pair:
        part = self.parts[number]
        choice = mix(self.seed, 6, index // self.batch_size) % len(self.shapes)
        source = part.sources[choice % len(part.sources)]
        pair = source[position % len(source)]  # A made source may have another number of pairs in each size.
        return self.transform(pair, np.random.default_rng([self.seed, stream, index]), self.shapes[choice], part.scales)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, position = self.locate(index)
        pair = self._transformed(number, position, 3, index)
        has_side = pair.has_side and self.parts[number].has_side
        disparity = visible(pair.disparity) if has_side and pair.disparity is not None else None
        # A wrong side image shows no point of x: its pair is changed by random numbers of its own.
        chance, shift = np.random.default_rng([self.seed, 4, index]).random(2)
        if has_side and chance < self.mismatched:
            count = len(self.parts[number].sources[0])
            other = (position + 1 + int(shift * (count - 1))) % count
            pair = replace(pair, x_side=self._transformed(number, other, 5, index).x_side)
            disparity = None
        if disparity is None:
            disparity = np.full(pair.x.shape[:2], np.nan, dtype=np.float32)
        return {
            "x": to_tensor(pair.x),
            "x_side": to_tensor(pair.x_side),
            "has_side": has_side,
            "disparity": torch.from_numpy(disparity),
            "index": index,
            "id": pair.id,
        }


def to_tensor(image: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """(H, W, 3) uint8 array to a (3, H, W) uint8 tensor of its own memory."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class PairLoader(DataLoader[dict[str, Any]]):
    """DataLoader that hands on a worker's DataError, and its death while it hands over a batch, as one sentence.

    PyTorch notices other deaths by a signal, so that its RuntimeError can rise anywhere in the main thread.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:
            raise DataError(str(error).strip().splitlines()[-1].removeprefix("utils.errors.DataError: ")) from None
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            if not self.num_workers or "Caught" in str(error):  # What a worker met is handed on with that word.
                raise
            time.sleep(1)  # PyTorch's own report, which names the signal, is about to come and more exact.
            raise DataError(loader_died(str(error) or "the connection to it ended")) from None


def make_loader(mixture: Mixture, indices: Iterable[int], batch_size: int, workers: int) -> PairLoader:
    """Batches of the samples `indices`, whose tensors are stacked: "x" (B, 3, H, W), "has_side" (B,) bool, ...

    `indices` may be endless; a last, incomplete batch is dropped. `workers` 0 reads in this process.
    """
    loader = PairLoader(
        mixture,
        batch_size=batch_size,
        sampler=indices,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
        drop_last=True,
    )
    atexit.register(_end_workers, weakref.ref(loader))
    return loader


def _end_workers(loader: weakref.ref[PairLoader]) -> None:
    """End workers that an error left running: the interpreter would do so by SIGTERM, and they would linger."""
    iterator = getattr(loader(), "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()


def _start_worker(number: int) -> None:
    # Workers share the cores with training: one thread each.
    torch.set_num_threads(1)
    # A signal to all processes of a job asks the training process to finish its step, for which it needs its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _linger)


def _linger(number: int, frame: FrameType | None) -> None:
    """End in LINGER seconds unless the training process ends this worker before; at once at the next SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))  # Not by the signal, which PyTorch would take for a fault.
    signal.alarm(LINGER)
