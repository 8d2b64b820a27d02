"""SIGTERM and SIGINT as a request to stop at the next place where nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """`with StopRequest() as stop:` keeps the first signal in `stop.received`; a second one ends the process at once.

    Under torchrun it takes a third: a signal to all processes of a job (Ctrl-C, scancel) reaches this one and torchrun,
    which then sends SIGTERM.

    Processes that work together settle on one answer: each sends its `votes`, and all give the sums to `settle`, which
    leaves the signal in `stop.agreed`. In the main thread only, as Python's signals are. `announce`: say on stderr
    that the signal was noticed.
    """

    def __init__(self, announce: bool = True) -> None:
        self.received: signal.Signals | None = None
        self.agreed: signal.Signals | None = None
        self._announce = announce
        self._repeats = int("TORCHELASTIC_RUN_ID" in os.environ)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.received = self.received is None, self.received or signal.Signals(number)
        self._repeats -= not first
        if self._repeats <= 0:
            for each in SIGNALS:  # The system's own action needs no interpreter, which may be waiting in a library.
                signal.signal(each, signal.SIG_DFL)
        if first and self._announce:  # A handler may interrupt a print, so it cannot print.
            last = "third" if self._repeats else "second"
            os.write(2, f"\n{self.received.name}: saving after this step; a {last} signal stops at once\n".encode())

    @property
    def votes(self) -> list[float]:
        """One number for each of SIGNALS: 1 for the one received, else 0."""
        return [float(self.received == number) for number in SIGNALS]

    def settle(self, sums: Sequence[float]) -> None:
        """Take the sums of all processes' votes: if any process was asked to stop, all are."""
        self.agreed = next((number for number, votes in zip(SIGNALS, sums, strict=True) if votes > 0), None)
