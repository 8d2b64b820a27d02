"""Reading and writing whole files, with one sentence for what the file system refuses, and manifests of folders."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors import SafetensorError

from utils.errors import DataError, OutputError, refusal

_CHUNK = 1 << 20
SOFTWARE = "distributed-diffusion-codec"
"""What the PNG files of this program name as the software that made them."""
MANIFEST = "manifest.json"
"""Of a folder: the size in bytes and the SHA-256 of every file in it, so that damage is noticed."""
MANIFEST_FORMAT = 1


def read_whole(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file. Raises DataError if it is missing, cannot be read or has more than `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read() if limit is None else file.read(limit + 1)
        if limit is not None and len(data) > limit:
            raise DataError(f"{path} has more than {limit} bytes, too many to be what it should be; check the path.")
        return data
    except FileNotFoundError:
        raise DataError(f"There is no file {path}; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file that can be.") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """For a block that only writes `path`, or files in it: what the file system refuses is raised as OutputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OutputError(refusal(path, error)) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """For a block that writes the file it is given, which then takes the place of `path`: whole, or as it was.

    The temporary file is hidden, so no file of the user's is in its place. Raises OutputError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with writing(path):
            yield temporary
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or as it was. Raises OutputError if the place cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either whole or as it was. Raises OutputError; ValueError for infinite numbers."""
    write_whole(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk: a power failure then spares them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def png_bytes(image: NDArray[np.uint8], effort: int = 6) -> bytes:
    """A PNG file of an image (H, W, 3) uint8, with SOFTWARE as its maker; effort 0 to 9."""
    buffer, information = io.BytesIO(), PngInfo()
    information.add_text("Software", SOFTWARE)
    Image.fromarray(image).save(buffer, "PNG", compress_level=effort, pnginfo=information)
    return buffer.getvalue()


def write_manifest(folder: Path) -> None:
    """Write folder/manifest.json; before and after, wait until everything is on the disk."""
    files = {}
    for path in sorted(folder.iterdir()):
        sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": MANIFEST_FORMAT, "files": files}, indent=2) + "\n")
    sync(manifest)
    sync(folder)


def alteration(path: Path) -> str | None:
    """How a file differs from what the manifest beside it says, as a clause that names the file.

    None if it does not differ, or if there is no manifest.
    """
    manifest = path.with_name(MANIFEST)
    if not manifest.exists():
        return None
    try:
        facts = json.loads(manifest.read_text())["files"][path.name]
        size, digest = int(facts["bytes"]), str(facts["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{manifest} is damaged or does not list {path.name}"
    try:
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes where {MANIFEST} says {size}"
        if sha256(path) != digest:
            return f"{path} is altered: its SHA-256 is not the one in {MANIFEST}"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None
