"""Which bytes of an anchor's file are its container: what is the same for every picture of one size at one setting.

Measured by walking each file's own structure. The container is everything but

    JPEG            Huffman tables (optimised, so of the picture) and entropy-coded scans
    WebP            the payload of the chunk VP8
    AVIF, HEIC      the payload of the box mdat; HEIC's parameter sets lie outside
    JPEG 2000       the body of the tile
    VVC             the NAL units of slices, picture headers and adaptation parameter sets, with their start codes
    JPEG XL         the file, a raw codestream whose few header bits stand in no bytes of their own: 0 bytes

So quantisation tables, sizes and parameter sets count as container, which favours the anchors. Files of our codecs have
no container: their headers always count.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_DHT, _SOS, _EOI = 0xC4, 0xDA, 0xD9
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7]")
"""A marker that is neither a stuffed byte nor a restart (ITU-T T.81, B.1.1)."""
_CODED_UNITS = {*range(12), 17, 18, 19}
"""Types of VVC's NAL units that depend on the picture: slices, adaptation parameter sets, picture headers."""


def container_bytes(name: str, data: bytes) -> int:
    """How many bytes of a file that the anchor `name` made are its container; 0 for JPEG XL."""
    return len(data) - _CODED[name](data)


def _jpeg(data: bytes) -> int:
    coded, at = 0, 2
    while data[at + 1] != _EOI:
        marker, end = data[at + 1], _segment_end(data, at)
        if marker == _DHT:
            coded += end - at
        if marker == _SOS:
            found = _SCAN_END.search(data, end)
            assert found is not None
            coded += found.start() - end
            end = found.start()
        at = end
    return coded


def _jpeg2000(data: bytes) -> int:
    at = 2
    while data[at : at + 2] != b"\xff\x93":  # SOD (ISO 15444-1, A.4.3): one tile, in one part
        at = _segment_end(data, at)
    return len(data) - 2 - (at + 2)


def _segment_end(data: bytes, at: int) -> int:
    """Behind the marker segment at `at`, whose length stands behind the marker and counts itself."""
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _webp(data: bytes) -> int:
    coded, at = 0, 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        coded += size if data[at : at + 4] == b"VP8 " else 0
        at += 8 + size + size % 2
    return coded


def _boxes(data: bytes) -> int:
    coded, at = 0, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        coded += size - 8 if data[at + 4 : at + 8] == b"mdat" else 0
        at += size
    return coded


def _vvc(data: bytes) -> int:
    starts = [match.start() for match in re.finditer(rb"\x00?\x00\x00\x01", data)]
    coded = 0
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        header = data.index(1, start) + 1  # behind the start code; its second byte holds the type (H.266, 7.3.1.2)
        coded += end - start if data[header + 1] >> 3 in _CODED_UNITS else 0
    return coded


_CODED: dict[str, Callable[[bytes], int]] = {
    **{"jpeg": _jpeg, "webp": _webp, "avif": _boxes, "heic": _boxes},
    **{"jpeg2000": _jpeg2000, "vvc": _vvc, "jxl": len},
}
"""Of each anchor, the bytes of a file that are not container."""
