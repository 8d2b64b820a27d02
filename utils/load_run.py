"""A command that is watched and killed: the memory of its processes through the run, what it printed, how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.resident import group_members, group_resident

POLL = 0.01
PATIENCE = 30.0
"""Seconds for the processes of a killed command to end."""


@dataclass(frozen=True)
class Strike:
    """SIGKILL once `outputs` files are there and `delay` (0 to 1) of the time that one takes has passed.

    To all processes of the command, or with `main_only` to the one that was started: the others must then end too.
    """

    outputs: int
    delay: float
    main_only: bool


@dataclass(frozen=True)
class Sample:
    """Memory resident in all processes of the command, `seconds` after its start, and the outputs there."""

    seconds: float
    resident: int
    outputs: int


@dataclass(frozen=True)
class Ended:
    """A run: its exit status (None: killed), output, and the processes that outlived it."""

    status: int | None
    out: str
    err: str
    seconds: float
    samples: list[Sample]
    orphans: int


def watch(
    command: Sequence[str], outputs: Callable[[], int], logs: Path, interval: float, strike: Strike | None = None
) -> Ended:
    """Run a command in a process group of its own and sample it every `interval` seconds; `outputs` counts its files.

    Its output goes through files in `logs`. None of its processes is left when this returns or raises.
    """
    begun = time.monotonic()
    first: float | None = None
    samples: list[Sample] = []
    status = None
    with (logs / "out.txt").open("w+") as out, (logs / "err.txt").open("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            while (status := process.poll()) is None:
                now, there = time.monotonic() - begun, outputs()
                if not samples or now >= samples[-1].seconds + interval:
                    samples.append(Sample(now, group_resident(process.pid), there))
                if first is None and there > samples[0].outputs:
                    first = now
                if strike is not None and there >= strike.outputs:
                    made = max(1, there - samples[0].outputs)
                    time.sleep(strike.delay * (now - (first or 0.0)) / made)
                    if process.poll() is None:
                        _kill(process, strike.main_only)
                        break
                time.sleep(POLL if strike is not None else min(interval, POLL * 10))
            orphans = _await_end(process.pid) if process.poll() is not None else 0
        finally:
            if group_members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _await_end(process.pid)
        out.seek(0)
        err.seek(0)
        return Ended(status, out.read(), err.read(), time.monotonic() - begun, samples, orphans)


def quarters(samples: Sequence[Sample]) -> tuple[int, int] | None:
    """The largest memory in the first and in the last quarter of the time in which outputs were made.

    None if fewer than four samples fall into that time. What comes before the first output (imports, looking at what is
    there) and after the last one (processes that have ended) is left out.
    """
    working = [s for s in samples if samples[0].outputs < s.outputs < samples[-1].outputs]
    if len(working) < 4:
        return None
    begin, quarter = working[0].seconds, (working[-1].seconds - working[0].seconds) / 4
    first = [s.resident for s in working if s.seconds <= begin + quarter]
    last = [s.resident for s in working if s.seconds >= begin + 3 * quarter]
    return max(first), max(last)


def _kill(process: subprocess.Popen[bytes], main_only: bool) -> None:
    if main_only:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _await_end(group: int) -> int:
    """How many processes of the group are left when patience ends."""
    deadline = time.monotonic() + PATIENCE
    while (left := len(group_members(group))) and time.monotonic() < deadline:
        time.sleep(POLL)
    return left
