"""Small made-up image files and folders of pairs for the data tests."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SAMPLE = Path(os.environ.get("KITTI_SAMPLE", Path(__file__).resolve().parents[2] / "shared" / "kitti"))


def kitti_sample(part: str) -> Path:
    """A folder of the real KITTI sample; the test is skipped where there is none."""
    if not (SAMPLE / part).is_dir():
        pytest.skip(f"the real KITTI sample is not at {SAMPLE} (set KITTI_SAMPLE)")
    return SAMPLE / part


def noise(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def png16(height: int = 24, width: int = 32) -> bytes:
    """A 16-bit RGB PNG, which Pillow can read but not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = (b"\0" + b"\x12\x34" * 3 * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_pairs(root: Path, names: list[str], height: int = 24, width: int = 32, ending: str = "png") -> None:
    """ROOT/{left,right}/NAME.png; the pixels follow from the place in the list."""
    for number, name in enumerate(names):
        for side, folder in enumerate(("left", "right")):
            data = encode(noise(height, width, 2 * number + side), "JPEG" if ending == "jpg" else ending.upper())
            write(root / folder / f"{name}.{ending}", data)


def zip_folder(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return target
