"""What an optimizer step sees, what it moves and how far; nothing depends on the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from config import TrainConfig
from modules.codec import Codec
from utils.errors import ConfigError

GAIN_LR = 1e-2
"""Learning rate of the gain units: they must move faster than the shared weights, or the low rates silence channels of
the latent that the high rates need."""
QUANTILE_LR = 1e-3
"""Learning rate of the entropy bottlenecks' quantiles, which have a loss of their own."""


def learning_rate(step: int, train: TrainConfig) -> float:
    """Factor of the learning rate at optimizer step 0, 1, ...: linear warm-up, constant, linear decay to the floor."""
    warm = min(1.0, (step + 1) / max(1, train.warmup))
    left = min(1.0, (train.steps - step) / max(1, train.decay))
    return warm * (train.lr_floor + (1 - train.lr_floor) * left)


def micro_batch(train: TrainConfig, processes: int) -> int:
    """Pairs a process sees in one forward pass; raises ConfigError if the batch cannot be shared out evenly."""
    share, rest = divmod(train.batch_size, processes * train.accumulation)
    if rest or not share:
        raise ConfigError(
            f"train.batch_size {train.batch_size} cannot be shared out evenly over {processes} processes x "
            f"{train.accumulation} accumulation passes; choose a multiple of {processes * train.accumulation}."
        )
    return share


def sample_indices(train: TrainConfig, start: int, rank: int, processes: int, micro: int) -> Iterator[int]:
    """The samples of the run that this process sees, from optimizer step `start` on.

    Step s sees samples s x batch_size up to (s + 1) x batch_size, whatever the number of processes.
    """
    for step in range(start, train.steps):
        for chunk in range(train.accumulation):
            first = step * train.batch_size + (chunk * processes + rank) * micro
            yield from range(first, first + micro)


def freeze_other_parts(codec: Codec, parts: str) -> None:
    """Leave a gradient to the parts that `train.parts` names only."""
    for name, part in codec.named_children():
        trains = {"all": True, "receiver": name not in codec.sender, "denoiser": name in codec.denoiser}[parts]
        if not trains:
            part.requires_grad_(False)


def build_optimizer(codec: Codec, train: TrainConfig) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """Adam with groups of their own for gain units and quantiles; all but the quantiles are returned, for clipping."""
    groups: dict[str, dict[str, Any]] = {
        "": {"params": [], "base_lr": train.lr},
        "log_gain": {"params": [], "base_lr": GAIN_LR},
        "quantiles": {"params": [], "base_lr": QUANTILE_LR},
    }
    for name, parameter in codec.named_parameters():
        if not parameter.requires_grad:
            continue
        kind = name.rsplit(".", 1)[-1]
        groups[kind if kind in groups else ""]["params"].append(parameter)
    clipped = groups[""]["params"] + groups["log_gain"]["params"]
    return torch.optim.Adam([group for group in groups.values() if group["params"]], lr=train.lr), clipped


@torch.no_grad()
def update_ema(ema: Codec, codec: Codec, step: int, decay: float) -> None:
    """Move the averaged weights; early on the average is short, so that it does not remember the start.

    Float buffers (statistics of normalisation, codebooks) are averages already, and are copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in codec.parameters()], 1 - decay)
    for own, buffer in zip(ema.buffers(), codec.buffers(), strict=True):
        if buffer.is_floating_point():
            own.copy_(buffer)
