"""What the prepare scripts share: say what a download lacks, look into every image, write the caches."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from data.files.listing import EmptySplitError, ListedSource
from data.files.packed import INDEX, PIXELS, CacheKey, write_cache
from utils.errors import DataError
from utils.outputs import refuse_foreign_folder

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
"""Where the caches and data sets of the prepare scripts lie by default."""
_LISTED = 10

Inventory = Iterable[tuple[str, int, list[str]]]
"""For each folder of images: its name, the number of images expected, the names of those missing."""


def add_arguments(parser: argparse.ArgumentParser, dataset: str) -> None:
    """The arguments that every prepare script has; `dataset` names the default folder of the caches."""
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="the download: extracted folders or the zips as they are"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=DATASETS / dataset,
        help=f"folder of the caches (default: datasets/{dataset} of the repository)",
    )
    parser.add_argument("--splits", nargs="+", default=["train", "val", "test"], choices=["train", "val", "test"])
    parser.add_argument("--partial", action="store_true", help="accept an incomplete download and use what is there")
    parser.add_argument("--check", action="store_true", help="only verify, decoding every image; write nothing")


def prepare(
    arguments: argparse.Namespace,
    inventory: Inventory,
    wanted: Iterable[CacheKey],
    open_split: Callable[[CacheKey], ListedSource],
) -> None:
    """Verifies a download and, unless `arguments.check`, writes a cache for each of `wanted`.

    `arguments` are those of `add_arguments`. Raises DataError for what is missing (unless `arguments.partial`) or
    damaged, after printing it file by file.
    """
    wanted = list(wanted)
    for key in () if arguments.check else wanted:
        refuse_foreign_folder(arguments.out / key.folder, INDEX, [PIXELS], [arguments.root])
    _check_inventory(inventory, partial=arguments.partial)
    used = 0
    for key in wanted:
        try:
            source = open_split(key)
        except EmptySplitError as error:
            if not arguments.partial:
                raise
            print(error)
            continue
        used += 1
        _check_images(source, decode=arguments.check)
        if not arguments.check:
            _pack(source, arguments.out, key)
    if not used:
        raise DataError(f"{arguments.root} holds no pair of the splits {', '.join(arguments.splits)}; choose others.")
    print("Every image can be read." if arguments.check else f"Ready: use {arguments.out} as the data root.")


def _check_inventory(inventory: Inventory, *, partial: bool) -> None:
    lacking = 0
    for folder, expected, missing in inventory:
        lacking += len(missing)
        found = expected - len(missing)
        names = ", ".join(missing[:_LISTED]) + (f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else "")
        print(f"{folder}: {found} of {expected} images" + (f"; missing: {names}" if found and missing else ""))
    if lacking and not partial:
        raise DataError(
            f"The download lacks {lacking} images (listed above); complete it, or use what is there with --partial."
        )


def _check_images(source: ListedSource, *, decode: bool) -> None:
    checks = tqdm(source.problems(decode=decode), f"checking {source.split}", len(source), unit="pair")
    problems = [problem for problem in checks if problem is not None]
    for problem in problems[:_LISTED]:
        print(problem)
    if problems:
        more = f" (the first {_LISTED} are listed above)" if len(problems) > _LISTED else " (listed above)"
        raise DataError(
            f"{len(problems)} of {len(source)} pairs of {source.name}'s {source.split} split are damaged{more}; "
            "copy or download these files again."
        )


def _pack(source: ListedSource, out: Path, key: CacheKey) -> None:
    folder = write_cache(
        source,
        out,
        key,
        report=source.report,
        progress=lambda numbers: tqdm(numbers, f"writing {key.folder}", unit="pair"),
    )
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {len(source)} pairs, {size / 2**20:.0f} MiB")
