"""One optimizer step of a configuration: forward, backward, clipping, Adam. No data loading, no moving average."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from config import Config
from data.pair import Pair
from modules.codec import Codec, build_codec
from modules.losses import objective
from modules.noise import Draws
from utils.benchmark.subjects import PRECISIONS, Subject, computing_in, parameters_of
from utils.configrules import check_codec
from utils.errors import ConfigError
from utils.images import to_float
from utils.training.optimisation import build_optimizer


class Stepper:
    """A codec in training, all of it, on one batch; `step` is a micro-batch of `train.py` without accelerate.

    The random numbers of step 0, 1, ... are the same in every session, and with them the share of samples that are
    denoised twice.
    """

    def __init__(self, config: Config, pairs: Sequence[Pair], device: torch.device) -> None:
        if config.loss.has_perceptual:
            raise ValueError(f"loss.perceptual is {config.loss.perceptual}; steps are timed without perceptual loss.")
        self.config, self.device = config, device
        self.x, self.x_side = (
            torch.stack([to_float(image) for image in images]).to(device)
            for images in ([pair.x for pair in pairs], [pair.x_side for pair in pairs])
        )
        torch.manual_seed(config.train.seed)
        codec: Codec = build_codec(config)
        self.codec = codec.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer, self.clipped = build_optimizer(self.codec, config.train)
        self.taken = 0

    def step(self, precision: str) -> None:
        """One step with forward and loss in this precision."""
        first = self.taken * len(self.x)
        draws = Draws([Draws.key(self.config.train.seed, first + i) for i in range(len(self.x))], self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with computing_in(precision, self.device):
            output = self.codec(self.x, self.x_side, draws)
            loss, _ = objective(output, self.config.loss, self.codec.variable_rate, None, self.taken)
        (loss if output.aux is None else loss + output.aux).backward()
        torch.nn.utils.clip_grad_norm_(self.clipped, self.config.train.clip)
        self.optimizer.step()
        self.taken += 1


def check(config: Config, preset: str) -> None:
    """Raises ConfigError unless steps of this configuration, the model as `preset` trains it, can be timed."""
    if config.train.parts != "all":
        raise ConfigError(
            f"--preset {preset} trains only a part, and steps of the whole codec are timed: give its stage 1, or skip "
            "training."
        )
    try:
        check_codec(config)
    except ConfigError as error:
        raise ConfigError(f"--preset {preset} cannot train the model of --ckpt: {error}") from None


def subjects(name: str, config: Config, pairs: Sequence[Pair], device: torch.device, note: str) -> list[Subject]:
    """A training step of a configuration on these pairs (one batch, sides multiples of 64), in each precision."""
    stepper = Stepper(config, pairs, device)
    height, width = pairs[0].x.shape[:2]

    def subject(precision: str) -> Subject:
        return Subject(
            name,
            "train",
            precision,
            lambda: stepper.step(precision),
            height,
            width,
            batch=len(pairs),
            parameters=parameters_of(stepper.codec),
            note=note,
        )

    return [subject(precision) for precision in PRECISIONS]
