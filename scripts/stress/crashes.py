"""For crash_test.py: a command is started again and again and killed with SIGKILL; what two finished runs differ in."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from utils.cli import run
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


class Subject(Protocol):
    """A command that is killed and given again. `out` is a folder of its own for each run, `since` the time.time() at
    which the start began that was killed, `whole` the folder of a run in one go."""

    module: str
    """The command is `python MODULE.py`."""
    imports: tuple[str, ...]
    """What a process needs before it starts to work."""
    phases: tuple[str, ...]
    """What `phase` can give, in order."""
    aims: tuple[str, ...]
    """The short ones, which `under_way` can see."""
    unit: str
    """What `done` and `repeated` count, in the plural."""
    allowed: int
    """How many of them a start may do again, as the README promises."""
    compared: str
    """What `difference` looks at, for the reader."""

    def arguments(self, out: Path) -> list[str]:
        """The command's arguments."""

    def under_way(self, phase: str, out: Path, since: float) -> bool:
        """Whether this one of `aims` is under way."""

    def phase(self, whole: Path, out: Path, since: float) -> str:
        """What a killed run was doing, as its files tell."""

    def done(self, out: Path) -> int:
        """How much a killed run had done."""

    def repeated(self, out: Path, done: int) -> int:
        """How much of that the start did again which went to the end."""

    def difference(self, whole: Path, out: Path) -> str | None:
        """None if two finished runs have the same outcome, else where they differ."""


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


def timeless(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of an evaluation without their milliseconds."""
    return [{name: value for name, value in entry.items() if not name.endswith("_ms")} for entry in entries]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a killed process may leave half of one, and another goes on after it."""
    lines = []
    for line in path.read_text().splitlines(keepends=True) if path.is_file() else []:
        try:
            lines += [json.loads(line)] if line.endswith("\n") else []
        except json.JSONDecodeError:
            continue
    return lines


def touched(path: Path, since: float) -> bool:
    """Whether a file or folder was made, changed, or renamed at or after this time."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return max(status.st_mtime, status.st_ctime) >= since


def files_below(folder: Path, leave: tuple[str, ...] = ()) -> set[str]:
    """The files below a folder, relative to it, but not those whose names begin with one of `leave`."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(leave or "/"))
    return {path.relative_to(folder).as_posix() for path in paths}


def other_file(whole: Path, out: Path, names: Iterable[str]) -> str | None:
    """Which of these files differs first; None if none does."""
    return next((f"{n} differs" for n in sorted(names) if (whole / n).read_bytes() != (out / n).read_bytes()), None)


def other_tensor(whole: Path, out: Path) -> str | None:
    """The name of the first tensor that is not the same in two safetensors files, or "metadata"; None if all are."""
    from utils.checkpoint import read_tensors

    (ours, expected), (theirs, found) = read_tensors(whole), read_tensors(out)
    if ours != theirs:
        return "metadata"
    for name in sorted(expected.keys() | found.keys()):
        own, other = expected.get(name), found.get(name)
        if own is None or other is None or own.dtype != other.dtype or not own.equal(other):
            return name
    return None
