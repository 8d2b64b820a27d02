"""Every data set by its name."""

from __future__ import annotations

import logging
from pathlib import Path

from tqdm import tqdm

from data.files.listing import ListedSource
from data.files.packed import CacheKey, PackedSource, caches_in, find_cache
from data.pair import PairSource
from utils.errors import ConfigError, DataError

NAMES = ("kitti", "cityscapes", "folder", "warped", "builtin", "photos")
MADE = ("warped", "builtin")
"""Sources that make their pictures, of any size."""
SPLITS = ("train", "val", "test")
SIZES = ("protocol", "full", "train")
PROTOCOLS = ("drive_disjoint", "ndic")

_log = logging.getLogger(__name__)


def open_source(
    name: str,
    *,
    split: str,
    root: Path | str | None = None,
    size: str = "protocol",
    protocol: str = "drive_disjoint",
    limit: int | None = None,
    seed: int = 0,
    height: int = 128,
    width: int = 256,
) -> PairSource:
    """One split of a data set.

    `name`: kitti, cityscapes, folder, photos (each needs `root`; photos are single pictures), warped (with or without
    one) or builtin. `size`: "protocol" (what is evaluated), "full" (the original resolution) or "train"
    (KITTI at the protocol's scale but its full width; else as "protocol"). `protocol`: KITTI's lists of pairs. `limit`:
    the first so many pairs only. `seed` concerns the random numbers of warped, `height` and `width` the image size of
    warped and builtin.

    Listings are checked here: a missing half of a pair, an empty split or a wrong root raises DataError; an unknown
    name, split, size or protocol ConfigError. `verify` also looks into the files.
    """
    for field, value, allowed in (
        ("data set", name, NAMES),
        ("split", split, SPLITS),
        ("size", size, SIZES),
        ("protocol", protocol, PROTOCOLS),
    ):
        if value not in allowed:
            raise ConfigError(f"The {field} {value!r} is unknown; choose from {', '.join(allowed)}.")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; it must be at least 1.")
    if name == "warped":
        from data.made.warped import WarpedSource

        return WarpedSource(split=split, root=root, limit=limit, seed=seed, height=height, width=width)
    if name == "builtin":
        from data.made.builtin import BuiltinSource

        return BuiltinSource(split=split, limit=limit, height=height, width=width)
    if root is None:
        own = "name its folder" if name == "photos" else f"set data.{name}_root"
        raise ConfigError(f"The data set {name} needs a root; {own}, or --data-root.")
    source = _open_files(name, Path(root).expanduser(), split, size, protocol, limit)
    _log.info("%s %s", name, getattr(source, "report", ""))
    return source


def _open_files(name: str, root: Path, split: str, size: str, protocol: str, limit: int | None) -> PairSource:
    if name == "folder":
        from data.files.folder import open_folder

        return open_folder(root, split, limit=limit)
    if name == "photos":
        from data.files.photos import open_photos

        return open_photos(root, split, limit=limit)

    key = cache_key(name, split, size, protocol)
    cache = find_cache(root, key)
    if cache is not None:
        return PackedSource(cache, key, limit=limit)
    try:
        if name == "kitti":
            from data.files.kitti import open_kitti

            return open_kitti(root, split, size=size, protocol=protocol, limit=limit)
        from data.files.cityscapes import open_cityscapes

        return open_cityscapes(root, split, size=size, limit=limit)
    except DataError as error:
        caches = caches_in(root)
        if not caches:
            raise
        raise DataError(
            f"{root} has the caches {', '.join(caches)} but not {key.folder}, which scripts/prepare_{name}.py makes, "
            f"and it cannot be read from original images either: {error}"
        ) from None


def cache_key(name: str, split: str, size: str, protocol: str) -> CacheKey:
    """The key under which a split of kitti or cityscapes is cached. Cityscapes has one protocol and no train size."""
    if name == "cityscapes":
        return CacheKey(name, split, "protocol" if size == "train" else size, "standard")
    return CacheKey(name, split, size, protocol)


def verify(source: PairSource, *, decode: bool = False) -> None:
    """Looks into every file of a source, headers and ends only, or with `decode` all pixels, before training starts.

    Raises DataError with the first thing that is wrong and the number of pairs concerned. A cache is checked when it
    is opened, its checksums with `decode`; sources that make their pairs pass at once.
    """
    if isinstance(source, PackedSource) and decode:
        for index in range(len(source)):
            source[index]
    if not isinstance(source, ListedSource):
        return
    checks = tqdm(
        source.problems(decode=decode), f"checking {source.split}", len(source), unit="pair", leave=False, disable=None
    )
    problems = [problem for problem in checks if problem is not None]
    if problems:
        more = f" ({len(problems)} of {len(source)} pairs of this split cannot be used)." if len(problems) > 1 else "."
        raise DataError(problems[0].removesuffix(".") + more)
