"""Paired timing: what is compared takes turns, A B C A B C ..., so that whatever disturbs the machine disturbs all."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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


class OutOfTime(Exception):
    """The seconds of `limit` are over."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds, also in the middle of a network (main thread only)."""
    if math.isinf(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Turns:
    """How often to time: `most` turns.

    A subject that is faster than `shortest` seconds is called several times in its turn, and the turn counts as their
    mean. One that is faster than WARMED is called once more before, untimed: what ran before it has taken the caches.
    """

    most: int
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


class TurnTaking:
    """Subjects that take turns, in the given order. `run` may be broken off: `times` has what was measured by then.

    `prepare` is called with the number of a subject before its first turn, `tell` with that and the seconds after each.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        turns: Turns,
        device: torch.device,
        prepare: Callable[[int], None] = lambda _: None,
        tell: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._subjects, self._turns, self._device = subjects, turns, device
        self._prepare, self._tell = prepare, tell
        self._alone = [math.inf] * len(subjects)
        self._calls = [1] * len(subjects)
        self._seconds: list[list[float]] = [[] for _ in subjects]

    def run(self) -> None:
        """All turns."""
        for turn in range(self._turns.most):
            for i, subject in enumerate(self._subjects):
                if turn == 0:
                    self._prepare(i)
                    if self._turns.shortest:
                        self._alone[i] = _seconds(subject, 1, self._device)
                        self._calls[i] = max(1, math.ceil(self._turns.shortest / self._alone[i]))
                if self._alone[i] < WARMED:
                    subject.run()
                self._seconds[i].append(_seconds(subject, self._calls[i], self._device))
                self._tell(i, self._seconds[i][-1])

    def times(self) -> list[Times | None]:
        """Of each subject, None without a turn. All have equally many turns: those of an unfinished round count not."""
        whole = min((len(seconds) for seconds in self._seconds if seconds), default=0)
        return [
            Times(tuple(seconds[:whole]), calls) if seconds else None
            for seconds, calls in zip(self._seconds, self._calls, strict=True)
        ]


def _seconds(subject: Subject, calls: int, device: torch.device) -> float:
    begin = now(device)
    for _ in range(calls):
        subject.run()
    return (now(device) - begin) / calls + (subject.missing() if subject.missing is not None else 0.0)
