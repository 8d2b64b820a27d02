"""Operations of the published distributed codec (`modules/published/dicm.py`) in float32, as it was published."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from data.pair import Pair
from modules.codec import pad
from modules.published.dicm import DICM
from modules.transforms import HYPER_STRIDE
from utils.benchmark.cost import count_flops
from utils.benchmark.subjects import PRECISIONS, Subject, parameters_of
from utils.benchmark.timing import now
from utils.errors import ConfigError
from utils.images import to_float, to_uint8

NAME = "dicm_paper"


class StepClock:
    """Notes when each step of a decoding begins, so that a few steps tell the time of many.

    From one call of the denoiser to the next is one whole step, the sampler's arithmetic included.
    """

    def __init__(self, unet: nn.Module, timed: int, total: int, device: torch.device) -> None:
        if not (timed == total or 2 <= timed < total):
            raise ConfigError(f"{timed} steps of {total} cannot be timed; choose 2 to {total}.")
        self.timed, self.total, self.device = timed, total, device
        self.begins: list[float] = []
        unet.register_forward_pre_hook(lambda *_: self.begins.append(now(device)))

    def missing(self) -> float:
        """Seconds a decoding of the steps that were not run: their number times the mean of the whole steps timed."""
        decodings = [self.begins[i : i + self.timed] for i in range(0, len(self.begins), self.timed)]
        self.begins.clear()
        if self.timed == self.total:
            return 0.0
        steps = [after - before for decoding in decodings for before, after in pairwise(decoding)]
        return (self.total - self.timed) * sum(steps) / len(steps)


def subjects(codec: DICM, pair: Pair, timed_steps: int) -> list[Subject]:
    """Encoding without and with a file, and decoding with the published number of steps, of which some are timed.

    `timed_steps`: 2 to that number. Raises ConfigError.
    """
    device = next(codec.parameters()).device
    height, width = pair.x.shape[:2]
    x, x_side = to_float(pair.x), to_float(pair.x_side)
    padded = pad(x[None].to(device), HYPER_STRIDE)
    published = codec.common
    """One of three equal codecs, and the one that has the hyperprior as published, in floats."""
    total = codec.default_steps
    timed = min(timed_steps, total)
    clock = StepClock(codec.unet, timed, total, device)

    @torch.no_grad()
    def analyse() -> object:
        return published.hyperprior(published.g_a(2 * padded - 1), None, "common")

    @torch.no_grad()
    def analyse_with_contexts() -> object:
        return published(2 * padded - 1, None, "common")

    def encode() -> bytes:
        return codec.compress(to_float(pair.x))

    data = encode()

    def decode(steps: int) -> Callable[[], object]:
        return lambda: to_uint8(codec.decompress(data, x_side, steps=steps))

    def flops() -> int:
        one, two = count_flops(decode(1)), count_flops(decode(2))
        clock.begins.clear()
        return one + (total - 1) * (two - one)

    def subject(operation: str, run: Callable[[], object], parameters: int, note: str) -> Subject:
        return Subject(NAME, operation, PRECISIONS[0], run, height, width, parameters=parameters, note=note)

    context_nets = parameters_of(published.g_s)
    whole_steps = timed - 1
    return [
        subject(
            "encode.published", analyse, parameters_of(published) - context_nets,
            "analysis and hyperprior in floats, no entropy coding, as published",
        ),
        subject(
            "encode.published_with_contexts", analyse_with_contexts, parameters_of(published),
            "the same and the context networks, which the released code runs in its encoder",
        ),
        subject(
            "encode", encode, parameters_of(codec.g_a, codec.entropy),
            "pixels to bytes by this project: integer hyperprior and entropy coding",
        ),
        Subject(
            NAME, "decode", PRECISIONS[0], decode(timed), height, width, total,
            parameters=parameters_of(codec.g_s, codec.entropy, codec.common, codec.unet),
            file_bytes=len(data),
            note="" if timed == total else (
                f"{timed} of {total} steps timed; the other {total - timed} count as the mean of the {whole_steps} "
                "from one call of the U-Net to the next"
            ),
            missing=clock.missing,
            flops=flops,
        ),
    ]  # fmt: skip
