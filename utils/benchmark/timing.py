"""Paired timing: what is compared takes turns, A B C A B C ..., so that whatever disturbs the machine disturbs all."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from utils.benchmark.subjects import Subject

WARMED = 1.0
"""Seconds above which cold caches no longer count, and a call before each turn would only take time."""


def now(device: torch.device) -> float:
    """Seconds on a clock that never goes back, when all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class Turns:
    """How often to time: at most `most` turns, at least `fewest`, none begun after `budget` seconds in all.

    A subject that is faster than `shortest` seconds is called several times in its turn, and the turn counts as their
    mean. One that is faster than WARMED is called once more before, untimed: what ran before it has taken the caches.
    """

    most: int
    fewest: int = 3
    budget: float = math.inf
    shortest: float = 0.0


@dataclass(frozen=True)
class Times:
    """Seconds a call, one value a turn, and the calls in each."""

    seconds: tuple[float, ...]
    calls: int

    def summary(self) -> dict[str, float]:
        """Median, quartiles and extremes in milliseconds."""
        values = 1000 * np.asarray(self.seconds)
        names = {"min": 0, "q1": 25, "median": 50, "q3": 75, "max": 100}
        return {name: float(np.percentile(values, percent)) for name, percent in names.items()}


def take_turns(subjects: Sequence[Subject], turns: Turns, device: torch.device) -> list[Times]:
    """Times of each subject, in the given order. All have been warmed up by the caller."""
    once = [_seconds(subject, 1, device) if turns.shortest else math.inf for subject in subjects]
    calls = [max(1, math.ceil(turns.shortest / alone)) for alone in once]
    seconds: list[list[float]] = [[] for _ in subjects]
    start = time.perf_counter()
    for turn in range(turns.most):
        if turn >= turns.fewest and time.perf_counter() - start > turns.budget:
            break
        for subject, count, alone, values in zip(subjects, calls, once, seconds, strict=True):
            if alone < WARMED:
                subject.run()
            values.append(_seconds(subject, count, device))
    return [Times(tuple(values), count) for values, count in zip(seconds, calls, strict=True)]


def _seconds(subject: Subject, calls: int, device: torch.device) -> float:
    begin = now(device)
    for _ in range(calls):
        subject.run()
    return (now(device) - begin) / calls + (subject.missing() if subject.missing is not None else 0.0)
