"""Operations of this project's codec: pixels to the bytes of a file, and back with a side image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from data.pair import Pair
from modules.codec import LEVELS, pad
from modules.diffusion_codec import DiffusionCodec
from modules.noise import payload_seed
from modules.tiling import Strip, by_strips
from modules.transforms import HYPER_STRIDE, STRIDE
from utils.benchmark.subjects import PRECISIONS, Subject, computing_in, parameters_of
from utils.images import to_float, to_uint8

NAME = "ours"
GAMMA = 1.0
"""What decoding is timed with: at 0 the denoiser has nothing to do (`decode.mean`), and steps would cost nothing."""


def subjects(codec: DiffusionCodec, pair: Pair, rate: float | None, steps: Sequence[int]) -> list[Subject]:
    """Encoding, decoding with each number of steps, and their parts, in each precision; the entropy coder is included.

    `decode.mean` is decoding with gamma 0, which needs no denoiser. Pixels are uint8 in memory on both ends; reading
    and writing files is in no time.
    """
    return [subject for precision in PRECISIONS for subject in _in_precision(codec, pair, rate, steps, precision)]


def _in_precision(
    codec: DiffusionCodec, pair: Pair, rate: float | None, steps: Sequence[int], precision: str
) -> list[Subject]:
    device = next(codec.parameters()).device
    height, width = pair.x.shape[:2]
    sender = parameters_of(codec.g_a, codec.entropy)
    receiver = parameters_of(codec) - parameters_of(codec.g_a)

    def encode() -> bytes:
        with computing_in(precision, device):
            return codec.compress(to_float(pair.x), rate)

    data = encode()

    def decode(count: int, gamma: float = GAMMA) -> Callable[[], object]:
        def run() -> object:
            with computing_in(precision, device):
                return to_uint8(codec.decompress(data, to_float(pair.x_side), steps=count, gamma=gamma))

        return run

    def subject(operation: str, run: Callable[[], object], parameters: int, count: int | None = None) -> Subject:
        return Subject(
            NAME, operation, precision, run, height, width, count, parameters=parameters, file_bytes=len(data)
        )

    whole = [subject("encode", encode, sender)]
    whole += [subject("decode", decode(count), receiver, count) for count in steps]
    whole.append(subject("decode.mean", decode(1, gamma=0.0), receiver - parameters_of(codec.unet), 1))
    return whole + _parts(codec, pair, rate, precision, data)


def _parts(codec: DiffusionCodec, pair: Pair, rate: float | None, precision: str, data: bytes) -> list[Subject]:
    """What encoding and decoding in one step are made of, each from what the part before it gave."""
    device = next(codec.parameters()).device
    height, width = pair.x.shape[:2]
    x, x_side = to_float(pair.x), to_float(pair.x_side)
    padded, side = (pad(image[None].to(device), HYPER_STRIDE) for image in (x, x_side))
    level = torch.tensor([codec.level(rate)], device=device)
    of_level = level.float() / (LEVELS - 1)

    def strip_of_y(strip: Strip) -> torch.Tensor:
        image = (2 * padded[:, :, strip.start : strip.stop] - 1).contiguous(memory_format=torch.channels_last)
        return codec.g_a(image, of_level).float()

    @torch.no_grad()
    def analysis() -> torch.Tensor:
        with computing_in(precision, device):
            return by_strips(strip_of_y, padded.shape[2], codec.tile_rows, STRIDE)

    y = analysis()
    coded = codec.entropy(y, level)

    def read() -> torch.Tensor:
        return codec.decode_latent(codec.unpack(data))

    y_hat, seed = read(), payload_seed(codec.unpack(data).payload)

    @torch.no_grad()
    def networks() -> object:
        with computing_in(precision, device):
            return codec.synthesise(y_hat, side, level, 1, GAMMA, seed)

    receiver = parameters_of(codec) - parameters_of(codec.g_a, codec.entropy)
    parts: list[tuple[str, Callable[[], object], int]] = [
        ("encode.analysis", analysis, parameters_of(codec.g_a)),
        ("decode.networks", networks, receiver),
    ]
    if precision == PRECISIONS[0]:  # Autocast leaves the others as they are.
        hyperprior = parameters_of(codec.entropy)
        parts += [
            ("encode.hyperprior", lambda: codec.entropy(y, level), hyperprior),
            ("encode.coder", lambda: codec.pack(x, coded, rate), 0),
            ("decode.entropy", read, hyperprior),
        ]
    return [
        Subject(NAME, operation, precision, run, height, width, 1 if operation == "decode.networks" else None,
                parameters=parameters)
        for operation, run, parameters in parts
    ]  # fmt: skip
