"""Small ICC profiles (ICC.1:2001) made for tests: displays by primaries and gamma, grays by gamma, printing inks."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
# Columns X, Y, Z of red, green and blue relative to D50.
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(levels: np.ndarray) -> bytes:
    table = np.round(levels * 65535).astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">I", len(levels)) + table


def _profile(kind: bytes, space: bytes, connection: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode("ascii") + b"\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": desc, b"wtpt": _xyz(*D50), **tags}
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        table += tag + struct.pack(">2I", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(128)
    header[:4] = struct.pack(">I", offset + len(body))
    header[8:12], header[12:16], header[16:20], header[20:24] = b"\2\x10\0\0", kind, space, connection
    header[36:40] = b"acsp"
    header[68:80] = _xyz(*D50)[8:]
    return bytes(header) + struct.pack(">I", len(tags)) + table + body


def srgb_curve(levels: np.ndarray) -> np.ndarray:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def display(name: str, primaries: tuple[tuple[float, ...], ...], gamma: float | None = None) -> bytes:
    """A profile of RGB pixels with these primaries; without `gamma`, with sRGB's curve."""
    levels = np.linspace(0, 1, 1024)
    curve = _curve(srgb_curve(levels) if gamma is None else levels**gamma)
    tags = {tag: _xyz(*primary) for tag, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", name, {**tags, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def gray(name: str, gamma: float) -> bytes:
    """A profile of gray pixels."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", name, {b"kTRC": _curve(np.linspace(0, 1, 1024) ** gamma)})


def inks(name: str) -> bytes:
    """A profile of CMYK pixels: only black darkens, from paper white (L* 100) to L* 0, and cyan gives a* -50."""
    head = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * v for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    identity = bytes(range(256))
    grid = b""
    for corner in range(16):  # C varies slowest, K fastest
        cyan, black = corner >> 3, corner & 1
        grid += bytes([0 if black else 255, 128 - 50 * cyan * (1 - black), 128])
    table = head + identity * 4 + grid + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", name, {tag: table for tag in (b"A2B0", b"A2B1")})
