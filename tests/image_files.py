"""Small made-up image files and folders of pairs for the data tests."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SAMPLE = Path(os.environ.get("KITTI_SAMPLE", Path(__file__).resolve().parents[2] / "shared" / "kitti"))


def noise(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Slopes that differ in every channel and direction, which JPEG keeps within a few levels."""
    row, column = np.mgrid[:height, :width]
    channels = (4 * row, 4 * column, 255 - 2 * row - 3 * column)
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def encode(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **{"lossless": True, **options})
    return buffer.getvalue()


def mpo(*views: np.ndarray, kinds: tuple[int, ...] = (0x020002, 0x020002), mark: bytes = b"", **options: Any) -> bytes:
    """An MPO file (CIPA DC-007) of two pictures: their types, a note in the second's header, options of the first."""
    first, second = (
        encode(view, "JPEG", quality=100, subsampling="4:4:4", **(options if place == 0 else {}))
        for place, view in enumerate(views)
    )
    if mark:
        second = second[:2] + b"\xff\xe2" + struct.pack(">H", len(mark) + 2) + mark + second[2:]
    entries = 8 + 2 + 3 * 12 + 4  # behind the TIFF header and the directory of three tags
    length = 2 + 4 + entries + 32  # of the segment: its length, "MPF" and a zero, the index
    place = len(first) + 2 + length  # of the second picture
    directory = b"II*\0" + struct.pack("<IH", 8, 3)
    for tag, kind, count, value in (
        (0xB000, 7, 4, b"0100"),
        (0xB001, 4, 1, struct.pack("<I", 2)),
        (0xB002, 7, 32, struct.pack("<I", entries)),
    ):
        directory += struct.pack("<HHI", tag, kind, count) + value
    exif_end = 20  # JFIF's segment comes first, and the index directly behind it; offsets count from its TIFF header
    table = struct.pack("<IIIHH", kinds[0], place, 0, 0, 0)
    table += struct.pack("<IIIHH", kinds[1], len(second), place - (exif_end + 8), 0, 0)
    segment = b"\xff\xe2" + struct.pack(">H", length) + b"MPF\0" + directory + bytes(4) + table
    return first[:exif_end] + segment + first[exif_end:] + second


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(height: int = 24, width: int = 32) -> bytes:
    """A 16-bit RGB PNG, which Pillow can read but not write."""
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
