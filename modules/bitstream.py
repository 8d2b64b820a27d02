"""The file format: a header of 7 bytes at common image sizes, and the entropy coder's payload. `pack` writes a file.

1 byte      format number (high 4 bits, 0xD for format 1) and size code (low 4 bits)
0, 2 to 4   if the size code is 0: height and width as little-endian base-128 varints
1 byte      rate level, 0 (smallest file) to 255
2 bytes     model tag: the first 2 bytes of the model's identity, a hash of the integers of its entropy model
3 bytes     check: the first 3 bytes of SHA-256 over the identity, all header bytes above, and the payload
rest        payload

docs/format.md specifies it byte by byte, payload included. One image size has one header: a size that has a code is
written by its code, and a varint has no superfluous bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from utils.errors import BitstreamError

FORMAT = 0xD
MIN_EDGE = 16
MAX_EDGE = 4096
"""Smallest and largest height and width in pixels."""
CHECK_BYTES = 3
TAG_BYTES = 2
SIZES = (
    (128, 256),
    (256, 512),
    (512, 1024),
    (1024, 2048),
    (370, 740),
    (375, 1242),
    (376, 1241),
    (370, 1224),
    (370, 1226),
    (374, 1238),
    (256, 256),
    (512, 512),
    (512, 768),
    (768, 512),
    (1080, 1920),
)
"""(height, width) of size codes 1 to 15."""


def largest_file(max_pixels: int) -> int:
    """Bytes beyond which a file of at most `max_pixels` is not worth reading: 3 for each pixel, padding included."""
    return 64 + 3 * min(16 * max_pixels, MAX_EDGE**2)


@dataclass(frozen=True)
class Bitstream:
    """The content of a file: image size in pixels, rate level 0 to 255, the coder's payload."""

    height: int
    width: int
    level: int
    payload: bytes


def _varint(value: int) -> bytes:
    """Little-endian base 128: seven bits a byte, and the high bit set on all bytes but the last."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The value at this position, and the position after it; at most three bytes, 21 bits. Raises BitstreamError."""
    value = 0
    for count in range(3):
        if position >= len(data):
            raise BitstreamError("The file ends inside its header; it was cut short: copy or encode it again.")
        byte = data[position]
        value |= (byte & 127) << (7 * count)
        position += 1
        if byte < 128:
            if count and not byte:
                raise BitstreamError(
                    "The header gives the image size in more bytes than it needs, which no encoder does; "
                    "the file is damaged: copy or encode it again."
                )
            return value, position
    raise BitstreamError("The header gives an impossible image size; the file is damaged or is not one of ours.")


def _check(head: bytes, payload: bytes, identity: bytes) -> bytes:
    return hashlib.sha256(identity + head + payload).digest()[:CHECK_BYTES]


def pack(stream: Bitstream, identity: bytes) -> bytes:
    """The bytes of a file. `identity` is the model's digest (at least 2 bytes); its first two become the tag."""
    # Format number and size code share a byte; a size without a code follows as two varints.
    size = (stream.height, stream.width)
    code = SIZES.index(size) + 1 if size in SIZES else 0
    head = bytes([FORMAT << 4 | code])
    if not code:
        head += _varint(stream.height) + _varint(stream.width)
    # Rate level and model tag, then the check over all of it.
    head += bytes([stream.level]) + identity[:TAG_BYTES]
    return head + _check(head, stream.payload, identity) + stream.payload


def unpack(data: bytes, identity: bytes) -> Bitstream:
    """The content of a file made by the model with this identity; BitstreamError says why the bytes are none."""
    if not data:
        raise BitstreamError("The file is empty; encode the image again.")
    if data[0] >> 4 != FORMAT:
        raise BitstreamError(
            f"The file does not begin like one of this codec (first byte 0x{data[0]:02x}); it is something else, "
            "damaged, or of a later format."
        )
    # Image size: by its code, or by two varints.
    code, position = data[0] & 15, 1
    if code:
        height, width = SIZES[code - 1]
    else:
        height, position = _read_varint(data, position)
        width, position = _read_varint(data, position)
    if not (MIN_EDGE <= height <= MAX_EDGE and MIN_EDGE <= width <= MAX_EDGE):
        raise BitstreamError(
            f"The header gives an image of {width}x{height}; height and width must lie in {MIN_EDGE} to {MAX_EDGE}."
        )
    if not code and (height, width) in SIZES:
        raise BitstreamError(
            f"The header spells out the size {width}x{height}, which has a code of its own; the file is damaged: copy "
            "or encode it again."
        )
    # Rate level, model tag and check; the tag comes first, since another model's file fails the check as well.
    end = position + 1 + TAG_BYTES
    if len(data) < end + CHECK_BYTES:
        raise BitstreamError(
            f"The file ends inside its header ({len(data)} bytes); it was cut short: copy or encode it again."
        )
    head, level, tag = data[:end], data[position], data[position + 1 : end]
    if tag != identity[:TAG_BYTES]:
        raise BitstreamError(
            f"The file was made by the model with tag {tag.hex()}, but this checkpoint has tag "
            f"{identity[:TAG_BYTES].hex()}; decode it with the checkpoint that encoded it."
        )
    payload = data[end + CHECK_BYTES :]
    if data[end : end + CHECK_BYTES] != _check(head, payload, identity):
        raise BitstreamError("The checksum does not match; the file was altered or cut short: copy or encode it again.")
    return Bitstream(height, width, level, payload)
