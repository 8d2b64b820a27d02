"""What an optimizer step sees and how far it goes: functions of the step alone, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator

from config import TrainConfig
from utils.errors import ConfigError


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
