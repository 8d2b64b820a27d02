"""A cache of decoded, resized pairs in one memory-mapped file, so that training never decodes a large PNG twice.

    ROOT/PROTOCOL-SPLIT-SIZE/index.json     what the cache holds: every pair's id, group, size, place and checksum
    ROOT/PROTOCOL-SPLIT-SIZE/pairs.bin      for each pair the bytes of x, then of x_side, uint8 (H, W, 3)

A cache is written under temporary names and gets its index last, so an interrupted one is never taken for whole.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.pair import Pair, PairSource
from utils.errors import DataError

FORMAT = 1
INDEX, PIXELS = "index.json", "pairs.bin"


@dataclass(frozen=True)
class CacheKey:
    """What a cache holds; the folder's name says it too. `protocol` is "standard" where a data set has only one."""

    dataset: str
    split: str
    size: str
    protocol: str

    @property
    def folder(self) -> str:
        return f"{self.protocol}-{self.split}-{self.size}"


@dataclass(frozen=True)
class _Entry:
    id: str
    group: str
    height: int
    width: int
    offset: int
    crc32: int

    @property
    def bytes(self) -> int:
        return 2 * self.height * self.width * 3


class PackedSource(PairSource):
    """The pairs of a cache written by `write_cache`, in the same order and with the same pixels as their source.

    Raises DataError on opening if the cache is unfinished, cut short or of another data set, split, size or protocol
    than `key`; and on reading a pair whose bytes have changed. Each process maps the file anew.
    """

    def __init__(self, folder: Path, key: CacheKey, *, limit: int | None = None) -> None:
        index = _read_index(folder)
        held = CacheKey(**{name: str(index.get(name)) for name in asdict(key)})
        if held != key:
            raise DataError(
                f"The cache {folder} holds {held.dataset} {held.folder}, not {key.dataset} {key.folder}; "
                f"make the other one with {_script(key.dataset)}."
            )
        try:
            entries = [_Entry(**entry) for entry in index["pairs"]]
            total = sum(entry.bytes for entry in entries)
            self.report = str(index["report"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{folder / INDEX} is damaged ({error}); delete {folder} and prepare it again.") from None
        self.folder = folder
        self.name, self.split = key.dataset, key.split
        present = (folder / PIXELS).stat().st_size if (folder / PIXELS).is_file() else 0
        if present != total or not entries:
            raise DataError(
                f"The cache {folder / PIXELS} has {present} bytes instead of {total}; "
                f"delete {folder} and prepare it again with {_script(key.dataset)}."
            )
        self._entries = entries[:limit]
        self._map: NDArray[np.uint8] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self._entries):
            raise IndexError(f"pair {index} of {len(self._entries)}")
        entry = self._entries[index]
        if self._map is None:
            self._map = np.memmap(self.folder / PIXELS, dtype=np.uint8, mode="r")
        pixels = np.array(self._map[entry.offset : entry.offset + entry.bytes])
        if zlib.crc32(pixels.data) != entry.crc32:
            raise DataError(
                f"Pair {entry.id} in {self.folder / PIXELS} has changed since it was written; "
                f"delete {self.folder} and prepare it again with {_script(self.name)}."
            )
        x, x_side = pixels.reshape(2, entry.height, entry.width, 3)
        return Pair(x=x, x_side=x_side, id=entry.id, group=entry.group)

    @property
    def ids(self) -> list[str]:
        return [entry.id for entry in self._entries]

    @property
    def groups(self) -> list[str]:
        return [entry.group for entry in self._entries]


def find_cache(root: Path, key: CacheKey) -> Path | None:
    """The folder of the cache of `key` below `root`, or `root` if it is a cache itself (of whatever); else None."""
    for folder in (root / key.folder, root):
        if (folder / INDEX).is_file():
            return folder
    return None


def caches_in(root: Path) -> list[str]:
    """Names of the caches that lie directly in `root`."""
    return sorted(path.parent.name for path in root.glob(f"*/{INDEX}")) if root.is_dir() else []


def write_cache(
    source: PairSource,
    root: Path,
    key: CacheKey,
    *,
    report: str = "",
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Path:
    """Decodes every pair of `source` into ROOT/PROTOCOL-SPLIT-SIZE and returns that folder.

    `progress` may wrap the loop over pair numbers. A cache already there is replaced once the new one is complete.
    Raises DataError for a pair that cannot be read and a folder that cannot be written.
    """
    folder = root / key.folder
    try:
        return _write(source, folder, key, report, progress)
    except OSError as error:
        raise DataError(f"The cache {folder} cannot be written ({error.strerror}); choose another disk.") from None


def _write(
    source: PairSource, folder: Path, key: CacheKey, report: str, progress: Callable[[Iterable[int]], Iterable[int]]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{PIXELS}.{os.getpid()}.tmp"
    try:
        with partial.open("wb") as file:
            entries = list(_append_pairs(source, file.write, progress))
            file.flush()
            os.fsync(file.fileno())
        # Without an index the folder is no cache: at no moment does one describe the other's pixels.
        (folder / INDEX).unlink(missing_ok=True)
        partial.replace(folder / PIXELS)
    finally:
        partial.unlink(missing_ok=True)
    index = {"format": FORMAT, **asdict(key), "report": report, "pairs": [asdict(entry) for entry in entries]}
    temporary = folder / f"{INDEX}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(index), encoding="utf-8")
    temporary.replace(folder / INDEX)
    return folder


def _append_pairs(
    source: PairSource, write: Callable[[bytes], Any], progress: Callable[[Iterable[int]], Iterable[int]]
) -> Iterator[_Entry]:
    offset = 0
    for number in progress(range(len(source))):
        pair = source[number]
        data = pair.x.tobytes() + pair.x_side.tobytes()
        write(data)
        yield _Entry(pair.id, pair.group, pair.x.shape[0], pair.x.shape[1], offset, zlib.crc32(data))
        offset += len(data)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{folder} is no finished cache, for it has no {INDEX}; run the prepare script again.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); delete {folder} and prepare it again.") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise DataError(f"{path} is not a cache index of format {FORMAT}; delete {folder} and prepare it again.")
    return index


def _script(dataset: str) -> str:
    return f"scripts/prepare_{dataset}.py"
