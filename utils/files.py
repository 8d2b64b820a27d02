"""Reading and writing whole files, with one sentence for what the file system refuses."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from utils.errors import DataError, OutputError
from utils.failures import refusal

_CHUNK = 1 << 20


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


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or as it was. Raises OutputError if the place cannot be written."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with writing(path):
            temporary.write_bytes(data)
            temporary.replace(path)
    except OutputError:
        temporary.unlink(missing_ok=True)
        raise


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
    """A PNG file of an image (H, W, 3) uint8; effort 0 to 9."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=effort)
    return buffer.getvalue()
