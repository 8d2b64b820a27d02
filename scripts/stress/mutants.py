"""Mutants of compressed files, and what a decoder may answer to them: an image, or a BitstreamError."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modules.bitstream import CHECK_BYTES, MAX_EDGE, MIN_EDGE, SIZES, TAG_BYTES
from modules.codec import Codec
from utils.errors import BitstreamError

FORGED_SHARE = 0.5
"""Of the mutants that get this model's tag and a right checksum, as an attacker would give them."""
LARGE_SHARE = 0.1
"""Of the sizes written into headers that may be as large as the format allows."""


@dataclass(frozen=True)
class Mutant:
    """The bytes, and whether their checksum was made right again."""

    data: bytes
    forged: bool


@dataclass(frozen=True)
class Verdict:
    """`refused`, `image`, or `failed` with what went wrong."""

    kind: str
    detail: str = ""


class Mutator:
    """Mutants of valid files: number i follows from the seed and i alone."""

    def __init__(self, files: Sequence[bytes], identity: bytes, seed: int) -> None:
        self.files, self.identity, self.seed = list(files), identity, seed
        self._changes: list[Callable[[bytes, np.random.Generator], bytes]] = [
            self._flip_bits,
            self._truncate,
            self._insert,
            self._remove,
            self._splice,
            self._edit_size,
            self._edit_byte_of_header,
            self._other_payload,
            self._append,
            self._random,
        ]

    def __getitem__(self, number: int) -> Mutant:
        """The mutant of this number: one to three changes to one of the files."""
        rng = np.random.default_rng([self.seed, number])
        data = self._file(rng)
        for _ in range(rng.integers(1, 4)):
            data = self._changes[rng.integers(len(self._changes))](data, rng)
        forged = bool(rng.random() < FORGED_SHARE)
        return Mutant(forge(data, self.identity) if forged else data, forged)

    def _file(self, rng: np.random.Generator) -> bytes:
        return self.files[rng.integers(len(self.files))]

    @staticmethod
    def _place(data: bytes, rng: np.random.Generator) -> int:
        """Half of the time in the first 16 bytes, where a header is."""
        end = len(data) + 1
        return int(rng.integers(min(end, 16) if rng.random() < 0.5 else end))

    @staticmethod
    def _flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
        altered = bytearray(data)
        for _ in range(rng.integers(1, 9) if data else 0):
            altered[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        return bytes(altered)

    def _truncate(self, data: bytes, rng: np.random.Generator) -> bytes:
        return data[: self._place(data, rng)]

    def _insert(self, data: bytes, rng: np.random.Generator) -> bytes:
        place = self._place(data, rng)
        return data[:place] + rng.bytes(int(rng.integers(1, 20))) + data[place:]

    def _remove(self, data: bytes, rng: np.random.Generator) -> bytes:
        place = self._place(data, rng)
        return data[:place] + data[place + int(rng.integers(1, 20)) :]

    def _splice(self, data: bytes, rng: np.random.Generator) -> bytes:
        other = self._file(rng)
        return data[: self._place(data, rng)] + other[self._place(other, rng) :]

    def _edit_size(self, data: bytes, rng: np.random.Generator) -> bytes:
        rest = data[header_end(data) or 1 :]
        if rng.random() < 0.2:
            return bytes([0xD0 | int(rng.integers(1, len(SIZES) + 1))]) + rest
        most = MAX_EDGE if rng.random() < LARGE_SHARE else 256
        sides = [int(rng.choice([rng.integers(0, most + 2), MIN_EDGE, most])) for _ in range(2)]
        return b"\xd0" + b"".join(_varint(side, padded=bool(rng.random() < 0.1)) for side in sides) + rest

    @staticmethod
    def _edit_byte_of_header(data: bytes, rng: np.random.Generator) -> bytes:
        altered = bytearray(data)
        if altered:
            altered[rng.integers(min(len(altered), 11))] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        return bytes(altered)

    @staticmethod
    def _other_payload(data: bytes, rng: np.random.Generator) -> bytes:
        end = (header_end(data) or 1) + 1 + TAG_BYTES + CHECK_BYTES
        length = int(rng.choice([rng.integers(12), rng.integers(300), rng.integers(20_000)], p=[0.45, 0.5, 0.05]))
        filler = rng.bytes(length) if rng.random() < 0.7 else bytes([rng.integers(256)]) * length
        return data[:end] + filler

    @staticmethod
    def _append(data: bytes, rng: np.random.Generator) -> bytes:
        return data + bytes([int(rng.choice([0, 255, rng.integers(256)]))]) * int(rng.integers(1, 40))

    @staticmethod
    def _random(data: bytes, rng: np.random.Generator) -> bytes:
        return bytes([0xD0 | rng.integers(16)]) + rng.bytes(int(rng.integers(200)))


def header_end(data: bytes) -> int | None:
    """Where the rate level lies in bytes that begin like a file, however long their varints; None if nowhere."""
    if not data or data[0] >> 4 != 0xD:
        return None
    position = 1
    for _ in range(0 if data[0] & 15 else 2):
        while position < len(data) and data[position] >= 128:
            position += 1
        position += 1
    return position if position < len(data) else None


def forge(data: bytes, identity: bytes) -> bytes:
    """The same with the model's tag and a right checksum, if it has a header to put them in."""
    level = header_end(data)
    if level is None:
        return data
    head = data[: level + 1] + identity[:TAG_BYTES]
    payload = data[len(head) + CHECK_BYTES :]
    return head + hashlib.sha256(identity + head + payload).digest()[:CHECK_BYTES] + payload


def judge(codec: Codec, data: bytes, max_pixels: int, synthesise: bool) -> Verdict:
    """Decode up to y_hat, and with `synthesise` to the image; whatever is neither an image nor BitstreamError fails."""
    try:
        stream = codec.unpack(data, max_pixels)
        y_hat = codec.decode_latent(stream)
        z_size = (-(-stream.height // 64), -(-stream.width // 64))
        if y_hat.shape != (1, codec.entropy.latent, 4 * z_size[0], 4 * z_size[1]) or not _is_finite(y_hat):
            return Verdict("failed", f"y_hat is {tuple(y_hat.shape)} for {stream.width}x{stream.height}, or not finite")
        if synthesise:
            blind = codec.accepts_no_side or not codec.needs_side
            x_side = None if blind else torch.zeros(3, stream.height, stream.width)
            x_hat = codec.decompress(data, x_side, gamma=1.0, max_pixels=max_pixels)
            if (
                x_hat.shape != (3, stream.height, stream.width)
                or not 0 <= float(x_hat.min()) <= float(x_hat.max()) <= 1
            ):
                return Verdict("failed", f"the image is {tuple(x_hat.shape)} for {stream.width}x{stream.height}")
    except BitstreamError:
        return Verdict("refused")
    except BaseException as error:  # A panic of the coder's Rust code derives from BaseException alone.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return Verdict("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return Verdict("image")


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _varint(value: int, padded: bool) -> bytes:
    """Little-endian base 128; `padded`: with a superfluous last byte, which no encoder writes."""
    out: list[int] = []
    while value >= 128 or (padded and not out):
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
