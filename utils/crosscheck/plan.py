"""What a cross-check does: which image is coded by which setting at which rate. All processes read the same plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.pair import MIN_SIDE, PairSource
from data.sources import open_source
from utils.crosscheck.settings import Setting
from utils.files import write_whole

CROP_SHARE = 0.5
"""Of the files that hold a part of their image, of any size."""
SMALLEST_SHARE = 0.125
"""Of the parts that are as small as a file can hold."""
PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Data:
    """The source of the images, as for `open_source`."""

    dataset: str
    split: str
    root: str | None
    limit: int | None = None

    def open(self) -> PairSource:
        """Raises DataError, ConfigError."""
        return open_source(self.dataset, split=self.split, root=self.root, limit=self.limit)


@dataclass(frozen=True)
class File:
    """One file to make: the window of a pair's x, in pixels, that `setting` encodes at `rate` (None: a fixed rate)."""

    number: int
    setting: str
    pair: int
    rate: float | None
    top: int
    left: int
    height: int
    width: int

    def views(self, source: PairSource) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The window of x and of x_side, each uint8 (height, width, 3)."""
        pair = source[self.pair]
        rows = slice(self.top, self.top + self.height)
        columns = slice(self.left, self.left + self.width)
        return pair.x[rows, columns], pair.x_side[rows, columns]


@dataclass(frozen=True)
class Plan:
    """A whole cross-check. `pictures` are the numbers of the files that are also reconstructed."""

    ckpt: str
    data: Data
    settings: tuple[Setting, ...]
    files: tuple[File, ...]
    pictures: tuple[int, ...]
    steps: int | None = None
    gamma: float | None = None

    def setting(self, name: str) -> Setting:
        """The setting of this name."""
        return next(setting for setting in self.settings if setting.name == name)

    def save(self, folder: Path) -> None:
        """Write the plan into a folder. Raises OutputError."""
        write_whole(folder / PLAN_FILE, json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """The plan that `save` wrote."""
        fields = json.loads((folder / PLAN_FILE).read_bytes())
        fields["data"] = Data(**fields["data"])
        fields["settings"] = tuple(Setting(**setting) for setting in fields["settings"])
        fields["files"] = tuple(File(**file) for file in fields["files"])
        fields["pictures"] = tuple(fields["pictures"])
        return cls(**fields)


def assign(
    source: PairSource, settings: Sequence[Setting], rates: Sequence[float | None], count: int, seed: int
) -> tuple[File, ...]:
    """`count` files, shared out evenly between the settings; each setting cycles through all pairs and all rates."""
    sizes: dict[int, tuple[int, int]] = {}
    files = []
    for number in range(count):
        turn, place = divmod(number, len(settings))
        lap, pair = divmod(turn, len(source))
        if pair not in sizes:
            height, width = source[pair].x.shape[:2]
            sizes[pair] = (height, width)
        # A shift each lap: otherwise a pair would always meet the same rate where the counts have a common divisor.
        rate = rates[(turn + lap) % len(rates)]
        window = _window(np.random.default_rng([seed, number]), *sizes[pair])
        files.append(File(number, settings[place].name, pair, rate, *window))
    return tuple(files)


def _window(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is coded of an image of this size: all of it, or a random part."""
    if rng.random() >= CROP_SHARE:
        return 0, 0, height, width
    smallest = rng.random() < SMALLEST_SHARE
    rows, columns = (MIN_SIDE if smallest else int(rng.integers(MIN_SIDE, side + 1)) for side in (height, width))
    return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns
