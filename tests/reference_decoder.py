"""A decoder up to y_hat and the noise, written from docs/format.md alone: plain integers, nothing of this project."""

import hashlib
from dataclasses import dataclass

import numpy as np

SIZES = (
    *((128, 256), (256, 512), (512, 1024), (1024, 2048), (370, 740), (375, 1242), (376, 1241), (370, 1224)),
    *((370, 1226), (374, 1238), (256, 256), (512, 512), (512, 768), (768, 512), (1080, 1920)),
)


@dataclass
class Layer:
    """One layer of h_s; weight (outputs, inputs, k, k) and bias (knots, outputs) hold integers."""

    inputs: int
    outputs: int
    kernel: int
    upsample: int
    activation: str
    weight: np.ndarray
    bias: np.ndarray


@dataclass
class Model:
    """Section 2: the integers that decide how a payload is read."""

    z_frequencies: np.ndarray
    z_medians: np.ndarray
    y_frequencies: np.ndarray
    inverse_gain: np.ndarray
    layers: list[Layer]

    def identity(self) -> bytes:
        text = "".join(f"{a.inputs},{a.outputs},{a.kernel},{a.upsample},{a.activation};" for a in self.layers)
        arrays = [self.z_frequencies, self.z_medians, self.y_frequencies, self.inverse_gain]
        arrays += [part for layer in self.layers for part in (layer.weight, layer.bias)]
        data = text.encode()
        for array in arrays:
            shape = ", ".join(str(n) for n in array.shape)
            data += (f"({shape})" if array.ndim > 1 else f"({shape},)").encode() + array.astype("<i4").tobytes()
        return hashlib.sha256(data).digest()


def header(data: bytes) -> tuple[tuple[int, int], int, bytes, bytes, int]:
    """Section 1: size, level, tag, check, and where the payload begins."""
    assert data[0] >> 4 == 0xD
    position = 1
    if data[0] & 15:
        size = SIZES[(data[0] & 15) - 1]
    else:
        sides = []
        for _ in range(2):
            value, shift = 0, 0
            while True:
                byte = data[position]
                value, shift, position = value + ((byte & 127) << shift), shift + 7, position + 1
                if byte < 128:
                    break
            sides.append(value)
        size = (sides[0], sides[1])
    return size, data[position], data[position + 1 : position + 3], data[position + 3 : position + 6], position + 6


def lefts(frequencies: np.ndarray) -> list[int]:
    """Section 3: the borders of a table's entries in the coder."""
    entries, total, borders = len(frequencies), 0, []
    for number, frequency in enumerate(frequencies.tolist()):
        product = total * (2**24 - entries)
        excess = max(0, product.bit_length() - 24)
        kept, rest = product >> excess, product & ((1 << excess) - 1)
        kept += 2 * rest > 1 << excess or (2 * rest == 1 << excess and kept % 2 == 1)
        borders.append(((kept << excess) >> 22) + number)
        total += frequency
    return [*borders, 2**24]


class RangeDecoder:
    """Section 4; `read` counts the renormalisations."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.next, self.read = payload, 0, 0
        self.lower, self.range = 0, 2**64 - 1
        self.point = (self.word() << 32) + self.word()

    def word(self) -> int:
        chunk = self.payload[self.next : self.next + 4]
        self.next += 4
        return int.from_bytes(chunk + bytes(4 - len(chunk)), "big")

    def entry(self, borders: list[int]) -> int:
        step = self.range // 2**24
        q = (self.point - self.lower) % 2**64 // step
        if q >= 2**24:
            raise ValueError("no code")
        number = int(np.searchsorted(np.array(borders), q, side="right")) - 1
        self.lower = (self.lower + step * borders[number]) % 2**64
        self.range = step * (borders[number + 1] - borders[number])
        if self.range < 2**32:
            self.range <<= 32
            self.lower = (self.lower << 32) % 2**64
            self.point = ((self.point << 32) + self.word()) % 2**64
            self.read += 1
        return number


def hyper_synthesis(layers: list[Layer], a: np.ndarray, level: int) -> np.ndarray:
    """Section 5, step 2, in int64."""
    for layer in layers:
        a = a.repeat(layer.upsample, 1).repeat(layer.upsample, 2)
        reach = layer.kernel // 2
        padded = np.pad(a, ((0, 0), (reach, reach), (reach, reach)))
        t = np.zeros((layer.outputs, *a.shape[1:]), dtype=np.int64)
        for row in range(layer.kernel):
            for column in range(layer.kernel):
                window = padded[:, row : row + a.shape[1], column : column + a.shape[2]]
                t += np.einsum("oi,ihw->ohw", layer.weight[:, :, row, column].astype(np.int64), window)
        bias = layer.bias.astype(np.int64)
        e, f = divmod(level, 16)
        sixteenths = 16 * bias[0] if len(bias) == 1 else (16 - f) * bias[e] + f * bias[e + 1]
        t += 2**10 * sixteenths[:, None, None]
        a = (t + 2**13) // 2**14
        if layer.activation == "leaky_relu":
            a = np.where(t < 0, (t + 2**15) // 2**16, a)
        a = a.clip(1 - 2**20, 2**20 - 1)
    return a


def decode(data: bytes, model: Model) -> np.ndarray:
    """A file -> y_hat (M, h, w) float32; ValueError for what section 4 refuses."""
    size, level, tag, check, start = header(data)
    identity = model.identity()
    assert tag == identity[:2] and check == hashlib.sha256(identity + data[: start - 3] + data[start:]).digest()[:3]
    decoder = RangeDecoder(data[start:])
    hz, wz = ((side + 63) // 64 for side in size)
    tables = [lefts(row) for row in model.z_frequencies]
    z = np.array([decoder.entry(table) - 127 for table in tables for _ in range(hz * wz)], dtype=np.int64)
    a = 256 * z.reshape(len(tables), hz, wz) + model.z_medians.astype(np.int64)[:, None, None]
    mean, v = np.split(hyper_synthesis(model.layers, a, level), 2)
    index = ((v + 128) // 256).clip(0, 63).ravel()
    y = np.zeros(len(index), dtype=np.int64)
    for scale in range(64):
        borders = lefts(model.y_frequencies[scale])
        for position in np.flatnonzero(index == scale):
            y[position] = decoder.entry(borders) - 255
    if len(decoder.payload) > 4 * (decoder.read + 2):
        raise ValueError("bytes that are never read")
    inverse = model.inverse_gain[level].astype(np.int64)[:, None, None]
    numerator = (256 * y.reshape(mean.shape) + mean) * inverse
    return (numerator.astype(np.float64) / 2.0**28).astype(np.float32)


def noise(payload: bytes, rows: int, columns: int) -> np.ndarray:
    """Section 7: the decoder's noise (3, rows, columns), float32."""
    key = [int.from_bytes(hashlib.sha256(payload).digest()[:8], "little"), 0]
    count = 3 * rows * columns
    half = (count + 1) // 2
    numbers = [n for block in range(1, (2 * half + 3) // 4 + 1) for n in philox([block, 0, 0, 0], key)][: 2 * half]
    uniform = (np.array([n // 2**11 for n in numbers], dtype=np.float64) + 0.5) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(uniform[:half])), 2 * np.pi * uniform[half:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return normal.astype(np.float32).reshape(3, rows, columns)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox4x64 (Salmon et al. 2011)."""
    mask = 2**64 - 1
    for number in range(10):
        k0, k1 = ((k + number * w) & mask for k, w in zip(key, (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B), strict=True))
        a, b = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [(b >> 64) ^ counter[1] ^ k0, b & mask, (a >> 64) ^ counter[3] ^ k1, a & mask]
    return counter
