"""Kill a command with SIGKILL at random moments, give it again each time, and compare the outcome with a run in one go.

    python scripts/crash_test.py                 # a tiny training run on the CPU: weights must be equal bit for bit
    python scripts/crash_test.py --evaluation    # an evaluation of it: summary.json and images.csv, apart from times

A run that ends between two kills is compared, and the next one begins. The run in one go is the command itself; the
others are its main function, in processes forked from a server that has imported everything: seconds less a start.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ProjectError

if TYPE_CHECKING:
    from utils.crashes import Subject

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60
"""A start that takes this many times as long as the run in one go is taken for hanging."""
POLL = 0.001
AIMED = 0.4
"""Share of kills that wait for a save to begin, the shortest phase; the others come at any time."""


def begin(module: str, arguments: list[str], log: str) -> None:
    """What a forked process does: the command, with its output appended to the file `log`."""
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = [f"{module}.py", *arguments]
    run(importlib.import_module(module).main)


class Crasher:
    """Starts a subject again and again, and kills it. `seconds`: how long it takes from fork to end in one go."""

    def __init__(self, subject: Subject, work: Path, seed: int) -> None:
        self.subject = subject
        self.seconds = 0.0
        self._log = work / "output.txt"
        self._random = random.Random(seed)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(subject.imports))

    def start(self, out: Path) -> ForkServerProcess:
        """The command, under way."""
        process = self._context.Process(
            target=begin, args=(self.subject.module, self.subject.arguments(out), str(self._log))
        )
        process.start()
        return process

    def finish(self, process: ForkServerProcess) -> None:
        """Wait for the end. Raises ProjectError if it fails or hangs."""
        process.join(PATIENCE * self.seconds if self.seconds else None)
        if process.exitcode is None:
            process.kill()
            raise ProjectError(f"A start hangs after {PATIENCE * self.seconds:.0f} s; its output is in {self._log}.")
        if process.exitcode != 0:
            raise ProjectError(f"A start ended with exit status {process.exitcode}; its output is in {self._log}.")

    def strike(self, out: Path) -> str | None:
        """Start the command and kill it at a random moment: when that was. None if it ended before, as it should."""
        begun = time.monotonic()
        process = self.start(out)
        if self.subject.saving is not None and self._random.random() < AIMED:
            self._await_save(process, out, self._random.randrange(4))
            process.join(self._random.uniform(0, 0.05))
        else:
            process.join(self._random.uniform(0, self.seconds))
        if process.exitcode is not None:
            self.finish(process)
            return None
        process.kill()
        process.join()
        return f"after {time.monotonic() - begun:.2f} s, {self.subject.phase(out)}"

    def _await_save(self, process: ForkServerProcess, out: Path, skipped: int) -> None:
        """Return when a save begins after `skipped` others, or the process ends."""
        was = False
        while process.exitcode is None and skipped >= 0:
            now = self.subject.saving is not None and any(out.glob(self.subject.saving))
            skipped -= now and not was
            was = now
            time.sleep(POLL)


def crash(subject: Subject, work: Path, kills: int, seed: int) -> tuple[int, int]:
    """Do it, a line a kill. How many runs ended, and how many of them equal the one in one go."""
    whole = work / "whole"
    command = [sys.executable, f"{subject.module}.py", *subject.arguments(whole)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProjectError(f"The run in one go failed: {done.stderr.strip().splitlines()[-1]}")
    crasher = Crasher(subject, work, seed)
    for name in ("warm up", "timed"):  # The first start also waits for the server's imports.
        begun = time.monotonic()
        crasher.finish(crasher.start(work / name))
        seconds = time.monotonic() - begun
        if reason := subject.difference(whole, work / name):
            raise ProjectError(f"Two runs in one go differ without any kill ({reason}); was the code edited meanwhile?")
    crasher.seconds = seconds
    print(f"in one go: {seconds:.1f} s", flush=True)

    differences: list[str | None] = []
    killed, number = 0, 0
    while killed < kills:
        number += 1
        out = work / f"run {number}"
        while killed < kills and (moment := crasher.strike(out)) is not None:
            killed += 1
            print(f"kill {killed}: run {number}, {moment}", flush=True)
        if killed == kills:
            crasher.finish(crasher.start(out))
        differences.append(subject.difference(whole, out))
        print(f"run {number} ended: {differences[-1] or 'identical'}", flush=True)
        if differences[-1] is None:
            shutil.rmtree(out)
    return len(differences), differences.count(None)


def main() -> int:
    """See the module; returns 0 if every run that ended is identical."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="default: 50")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default: 0)")
    parser.add_argument("--evaluation", action="store_true", help="kill evaluate.py instead of train.py")
    parser.add_argument("--work", type=Path, metavar="DIR", help="a new folder that is kept (default: a temporary one)")
    args = parser.parse_args()
    if args.kills < 1:
        raise ProjectError(f"--kills is {args.kills}; it must be at least 1.")
    if args.work is not None and args.work.exists():
        raise ProjectError(f"--work {args.work} exists; name a folder that does not.")
    from utils.crashes import Evaluation, Training

    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    work = Path(tempfile.mkdtemp(prefix="crash_test_")) if args.work is None else args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    begun = time.monotonic()
    ended, identical = crash(Evaluation(work) if args.evaluation else Training(), work, args.kills, args.seed)
    subject = "evaluation" if args.evaluation else "training"
    print(
        f"{args.kills} kills, {identical} identical of {ended} runs that ended "
        f"({subject}, seed {args.seed}, {time.monotonic() - begun:.0f} s)"
    )
    if identical == ended and args.work is None:
        shutil.rmtree(work)
    return 0 if identical == ended else 1


if __name__ == "__main__":
    run(main)
