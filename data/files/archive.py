"""One way to list and read files, whether they lie in a folder or in a zip file."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO, cast

from utils.errors import DataError

MAX_FILE_BYTES = 256 * 2**20
"""Larger members of a zip are refused: no image of 4096x4096 pixels needs as much."""


class Archive(ABC):
    """A tree of files below `path`. Names are relative, with "/" between the parts: "training/image_2/000000_10.png".

    Hidden files and what macOS adds to zips are not listed. Instances can be pickled and used after a fork: each
    process opens its own file handle.
    """

    path: Path
    """The folder, or the zip file."""

    @abstractmethod
    def files(self, folder: str = "") -> list[str]:
        """Sorted names, without the folder, of the files directly in `folder`; [] if there is no such folder."""

    @abstractmethod
    def folders(self, folder: str = "") -> list[str]:
        """Sorted names, without the folder, of the folders directly in `folder`."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A seekable binary file, to be closed by the caller. Raises DataError if missing, unreadable or outside."""

    @abstractmethod
    def describe(self, name: str = "") -> str:
        """Where a file is, as error messages say it."""

    @abstractmethod
    def sub(self, folder: str) -> Archive:
        """The tree below `folder`, which need not exist."""

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises DataError if it is missing, unreadable or damaged."""
        with self.open(name) as file:
            try:
                return file.read()
            except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
                raise self._damaged(name, error) from None

    def _damaged(self, name: str, error: BaseException) -> DataError:
        return DataError(f"{self.describe(name)} cannot be read ({_reason(error)}); copy or download it again.")


class FolderArchive(Archive):
    """Files below a folder. Links are followed: a data set's folders often are links."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self, folder: str = "") -> list[str]:
        return self._list(folder, want_folders=False)

    def folders(self, folder: str = "") -> list[str]:
        return self._list(folder, want_folders=True)

    def _list(self, folder: str, *, want_folders: bool) -> list[str]:
        where = self.path / _checked(folder, self)
        try:
            with os.scandir(where) as entries:
                return sorted(e.name for e in entries if not _hidden(e.name) and e.is_dir() == want_folders)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise DataError(f"The folder {where} cannot be listed ({error.strerror}); check its permissions.") from None

    def open(self, name: str) -> BinaryIO:
        try:
            return (self.path / _checked(name, self)).open("rb")
        except FileNotFoundError:
            raise DataError(f"{self.describe(name)} is missing; copy or download it again.") from None
        except OSError as error:
            raise self._damaged(name, error) from None

    def describe(self, name: str = "") -> str:
        return str(self.path / name)

    def sub(self, folder: str) -> FolderArchive:
        return FolderArchive(self.path / _checked(folder, self))


class ZipArchive(Archive):
    """Files in a zip, below the folder `prefix` of it; nothing is extracted to disk."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        self.prefix = prefix
        self._zip: zipfile.ZipFile | None = None
        self._tree: dict[str, tuple[list[str], list[str]]] | None = None
        self._pid = -1
        self._handle()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None, "_pid": -1}

    def _handle(self) -> zipfile.ZipFile:
        # A handle inherited through a fork shares its file offset with the parent; each process needs its own.
        if self._zip is None or self._pid != os.getpid():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except FileNotFoundError:
                raise DataError(f"There is no file {self.path}; check the path.") from None
            except (zipfile.BadZipFile, EOFError, ValueError) as error:
                size = self.path.stat().st_size
                raise DataError(
                    f"{self.path} ({size} bytes) is cut short or not a zip file: {_reason(error)}; download it again."
                ) from None
            except OSError as error:
                raise DataError(f"{self.path} cannot be opened ({error.strerror}); check its permissions.") from None
            self._pid = os.getpid()
        return self._zip

    def _listing(self) -> dict[str, tuple[list[str], list[str]]]:
        """Folder -> (its files, its folders), of the whole zip."""
        if self._tree is None:
            files: dict[str, set[str]] = {"": set()}
            folders: dict[str, set[str]] = {"": set()}
            for info in self._handle().infolist():
                name = _checked(info.filename.rstrip("/"), self)
                parts = name.split("/")
                if not name or any(_hidden(part) for part in parts):
                    continue
                inner = parts if info.is_dir() else parts[:-1]
                for depth, part in enumerate(inner):
                    parent = "/".join(inner[:depth])
                    folders.setdefault(parent, set()).add(part)
                if not info.is_dir():
                    files.setdefault("/".join(inner), set()).add(parts[-1])
            self._tree = {
                key: (sorted(files.get(key, ())), sorted(folders.get(key, ()))) for key in files.keys() | folders.keys()
            }
        return self._tree

    def files(self, folder: str = "") -> list[str]:
        return list(self._listing().get(self._full(folder), ([], []))[0])

    def folders(self, folder: str = "") -> list[str]:
        return list(self._listing().get(self._full(folder), ([], []))[1])

    def open(self, name: str) -> BinaryIO:
        archive = self._handle()
        try:
            info = archive.getinfo(self._full(name))
        except KeyError:
            raise DataError(f"{self.describe(name)} is missing; download the zip again.") from None
        if info.file_size > MAX_FILE_BYTES:
            raise DataError(
                f"{self.describe(name)} would take {info.file_size} bytes, too many for an image; check the zip."
            )
        try:
            return cast(BinaryIO, archive.open(info))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise self._damaged(name, error) from None

    def describe(self, name: str = "") -> str:
        full = self._full(name)
        return f"{full} in {self.path}" if full else str(self.path)

    def sub(self, folder: str) -> ZipArchive:
        other = ZipArchive.__new__(ZipArchive)
        other.__dict__.update(self.__dict__, prefix=self._full(folder))
        return other

    def _full(self, name: str) -> str:
        return "/".join(part for part in (self.prefix, _checked(name, self)) if part)


def open_archive(path: Path | str) -> Archive:
    """The folder or zip file at `path`. Raises DataError if it is missing, neither of the two, or a zip cut short."""
    path = Path(path)
    if path.is_dir():
        return FolderArchive(path)
    if path.is_file():
        return ZipArchive(path)
    raise DataError(f"There is no folder or zip file at {path}; check the path of the data set.")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _checked(name: str, archive: Archive) -> str:
    """The name itself, unless it points outside the archive (absolute, "..", a drive letter, a backslash)."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or parts[0].endswith(":"):
        raise DataError(f"The file name {name!r} points outside {archive.path}; do not use this data.")
    return name
