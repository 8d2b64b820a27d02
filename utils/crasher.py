"""Starts a command again and again and kills it with SIGKILL, for scripts/crash_test.py."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from utils.cli import run
from utils.crashes import Subject
from utils.errors import ProjectError

PATIENCE = 60
"""A start that takes this many times as long as the run in one go is taken for hanging."""
POLL = 0.001
AIMED = 0.4
"""Share of kills that wait for one of the short phases to begin; the others come at any time."""
WINDOW = 0.03
"""The longest time between such a beginning and the kill, as a share of the run in one go; half come at once."""
COLD = 8
"""Every COLD-th start that is to be killed is the command itself, with the interpreter's start and all imports."""


@dataclass(frozen=True)
class Kill:
    """One kill: how long after the start, during what, and with how much done (steps or images, see Subject)."""

    seconds: float
    cold: bool
    phase: str
    done: int


@dataclass(frozen=True)
class Outcome:
    """How a run that was killed ended: None if it equals the run in one go, else where it differs; and what the start
    after the last kill did again (steps or images)."""

    difference: str | None
    repeated: int


def begin(module: str, arguments: list[str], log: str, cold: bool) -> None:
    """What a forked process does: the command, with its output appended to the file `log`."""
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if cold:
        os.execv(sys.executable, [sys.executable, f"{module}.py", *arguments])
    sys.argv = [f"{module}.py", *arguments]
    run(importlib.import_module(module).main)


class Crasher:
    """Kills a subject at random moments; `whole` is the folder of its run in one go.

    The starts are the command's main function in processes forked from a server that has imported everything, which
    saves seconds each, and now and then the command itself.
    """

    def __init__(self, subject: Subject, work: Path, whole: Path, cold_seconds: float, seed: int) -> None:
        self.subject, self.whole = subject, whole
        self.seconds, self._cold_seconds = 0.0, cold_seconds
        self._work, self._log = work, work / "output.txt"
        self._random = random.Random(seed)
        self._strikes = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *subject.imports])

    def warm_up(self) -> None:
        """Start the server and time a run. Raises ProjectError if runs without a kill are not equal already."""
        for name in ("warm up", "timed"):  # The first start also waits for the server's imports.
            begun = time.monotonic()
            self.finish(self._work / name)
            self.seconds = time.monotonic() - begun
            if reason := self.subject.difference(self.whole, self._work / name):
                raise ProjectError(
                    f"Two runs in one go differ without any kill ({reason}); was the code edited meanwhile?"
                )
            shutil.rmtree(self._work / name)

    def _start(self, out: Path, cold: bool = False) -> ForkServerProcess:
        process = self._context.Process(
            target=begin, args=(self.subject.module, self.subject.arguments(out), str(self._log), cold)
        )
        process.start()
        return process

    def finish(self, out: Path) -> None:
        """Give the command and wait for its end. Raises ProjectError if it fails or hangs."""
        self._end(self._start(out))

    def _end(self, process: ForkServerProcess) -> None:
        process.join(PATIENCE * self.seconds if self.seconds else None)
        if process.exitcode is None:
            process.kill()
            raise ProjectError(f"A start hangs after {PATIENCE * self.seconds:.0f} s; its output is in {self._log}.")
        if process.exitcode != 0:
            raise ProjectError(f"A start ended with exit status {process.exitcode}; its output is in {self._log}.")

    def strike(self, out: Path) -> Kill | None:
        """Give the command and kill it at a random moment. None if it ended before, as it should."""
        self._strikes += 1
        cold, fresh = self._strikes % COLD == 0, not out.exists()
        since, begun = time.time(), time.monotonic()
        process = self._start(out, cold)
        if not cold and self._random.random() < AIMED:
            self._await(process, self._random.choice(self.subject.aims), out, since, self._random.randrange(3))
            process.join(self._random.choice((0, self._random.uniform(0, WINDOW * self.seconds))))
        else:
            process.join(self._random.uniform(0, self._cold_seconds if cold else self.seconds))
        if process.exitcode is not None:
            self._end(process)
            if fresh and not cold:  # The machine may have become less busy.
                self.seconds = min(self.seconds, time.monotonic() - begun)
            return None
        process.kill()
        process.join()
        return Kill(time.monotonic() - begun, cold, self.subject.phase(self.whole, out, since), self.subject.done(out))

    def _await(self, process: ForkServerProcess, phase: str, out: Path, since: float, skipped: int) -> None:
        """Return when this phase begins after `skipped` others of its kind, or the process ends."""
        was = False
        while process.exitcode is None and skipped >= 0:
            now = self.subject.under_way(phase, out, since)
            skipped -= now and not was
            was = now
            time.sleep(POLL)

    def outcome(self, out: Path, kill: Kill) -> Outcome:
        """What becomes of a run killed like this if the command is given once more and left alone: of a copy of it."""
        copy = self._work / "copy"
        if out.exists():
            shutil.copytree(out, copy)
        self.finish(copy)
        result = Outcome(self.subject.difference(self.whole, copy), self.subject.repeated(copy, kill.done))
        if result.difference is None:
            shutil.rmtree(copy)
        else:
            copy.rename(self._work / f"differs {self._strikes}")
        return result
