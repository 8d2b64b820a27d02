"""Where a command may write: over nothing that it reads, and over no picture or folder that it did not make."""

from __future__ import annotations

import json
import os
import textwrap
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.files.picture_formats import EXTENSIONS, FORMATS, HEAD_BYTES, kind_of
from utils.errors import ConfigError
from utils.files import SOFTWARE, write_json

PICTURES = (
    *EXTENSIONS,
    *(".apng", ".jpe", ".jfif", ".dib", ".gif", ".heic", ".heif", ".jxl", ".jp2", ".ppm", ".pgm", ".pnm"),
)
"""Endings (lower case) by which people know pictures, whether or not this program reads them."""

Given = Path | str | None
"""A path as the command line gives it; None where it gives none."""


def refuse_overwriting(outputs: Iterable[Given], inputs: Iterable[Given]) -> None:
    """Raise ConfigError if one of `outputs` is one of `inputs`, under whatever name, or a file that one of them holds.

    Names are one file's if the file system says so (links; upper and lower case where it does not tell them apart),
    or if the output is not there yet and the names, in one folder, differ only in case or Unicode normalisation: on
    some file systems the output would be the input. A new file may lie in a folder that is read.
    """
    read = [Path(path) for path in inputs if path is not None]
    files, names = {_identity(path): path for path in read}, {_name(path): path for path in read}
    for output in (Path(path) for path in outputs if path is not None):
        if _identity(output) is None:
            found = names.get(_name(output))
        else:
            places = _identities(output)[: 1 if output.is_dir() else None]
            found = next((files[place] for place in places if place in files), None)
        if found is not None:
            alias = "" if found == output else f", for it lies in {found}" if found.is_dir() else f": it is {found}"
            raise ConfigError(f"{output} would be overwritten though it is read{alias}; choose another output.")


def refuse_lost_pictures(outputs: Iterable[Path]) -> None:
    """Raise ConfigError if one of `outputs` is a picture, or another file that its first bytes tell, of the user's."""
    for path in outputs:
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError:  # It is not there, or cannot be written either.
            continue
        if (kind := kind_of(head)) and SOFTWARE.encode() not in head:
            what = f"a {kind} picture" if kind in FORMATS else kind
            raise ConfigError(f"{path} is {what} that this program did not make; choose another output.")


def refuse_foreign_folder(folder: Path, mark: str, names: Iterable[str], reads: Iterable[Given] = ()) -> None:
    """Raise ConfigError unless writing `names`, files and folders in `folder`, can lose nothing.

    A folder with the file `mark` in it is one that an earlier command made; in any other nothing of `names` may be
    there. Even so the folder must not be, or contain, one of `reads`, for it may be deleted to start afresh; and where
    it lies in one of them it must be empty, or an earlier command's.
    """
    ours = (folder / mark).is_file()
    taken = not ours and folder.is_dir() and any(folder.iterdir())
    for path in (Path(path) for path in reads if path is not None):
        if _identity(folder) in _identities(path):
            raise ConfigError(f"The output folder {folder} is or holds {path}, which is read; choose another.")
        if taken and _identity(path) in _identities(folder):
            raise ConfigError(f"The output folder {folder} holds files of {path}, which is read; choose a new one.")
    for name in () if ours else names:
        if os.path.lexists(folder / name):
            raise ConfigError(
                f"{folder / name} is there already, but there is no {folder / mark}, so no such command made it; "
                "choose another output folder, or move it away."
            )


def keep_settings(folder: Path, name: str, settings: dict[str, Any], *, writes: bool = True) -> Path:
    """Write to folder/name, which is returned, what all in `folder` is made with, or compare with what is there.

    Raises ConfigError if the folder was begun with other settings, has another file of that name or cannot be made.
    """
    file = folder / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if writes:
                write_json(file, settings)
            return file
        before = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be made or read ({error.strerror}); choose another.") from None
    except ValueError:
        raise ConfigError(f"{file} is damaged, or is not of this command; choose another folder.") from None
    if not isinstance(before, dict) or (settings and not before.keys() & settings.keys()):
        raise ConfigError(f"{file} is not of this command; choose another folder.")
    now = json.loads(json.dumps(settings))
    for field in dict.fromkeys([*now, *before]):
        if before.get(field) != now.get(field):
            old, new = (textwrap.shorten(str(values.get(field)), 80) for values in (before, now))
            raise ConfigError(
                f"{folder} was begun with {field} {old}, and now it is {new}; choose another output folder, or delete "
                f"{file} and what was made with it, to make everything anew."
            )
    return file


def ends_like_a_picture(path: Path) -> bool:
    """Whether people would take the file for a picture by its name."""
    return path.suffix.lower() in PICTURES


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which all names of a file share; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _identities(path: Path) -> list[tuple[int, int]]:
    """The identities of a path and of all folders that it lies in, those that exist; the nearest first."""
    real = Path(os.path.realpath(path))
    return [found for place in (real, *real.parents) if (found := _identity(place)) is not None]


def _name(path: Path) -> tuple[tuple[int, int], str]:
    """The nearest folder that exists, and the rest of the name regardless of case and Unicode normalisation."""
    real = Path(os.path.realpath(path))
    place = next(parent for parent in real.parents if parent.exists())
    rest = unicodedata.normalize("NFC", str(real.relative_to(place))).casefold()
    return _identities(place)[0], rest
