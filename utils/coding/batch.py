"""The same work on many files in several processes: continues where it stopped, and one bad file loses no other.

Processes are started with spawn and end with their parent. Few files are under way at a time, so memory does not grow
with their number.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from utils.errors import ConfigError, DataError, ProjectError

DEAD = "the process that worked on it died; if memory ran out, lower --workers"


@dataclass(frozen=True)
class Job:
    """One output and what it is made from."""

    source: Path
    target: Path
    side: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `reason` says why it failed, `notes` how its images are not what their files hold."""

    job: Job
    kind: Literal["done", "skipped", "failed"]
    reason: str = ""
    notes: tuple[str, ...] = ()


class Task(ABC):
    """The work on one job. It is sent to every process, so it must pickle; `start` may keep what does not change."""

    settings: Path
    """The file that `keep_settings` wrote: older outputs are not trusted."""

    @abstractmethod
    def start(self) -> None:
        """Called once in each process, before any job."""

    @abstractmethod
    def whole(self, job: Job) -> bool:
        """Whether the target, which exists, is what `make` would make, as far as a cheap check can tell."""

    @abstractmethod
    def make(self, job: Job) -> Sequence[str]:
        """Write the target so that it is either whole or as it was; the notes of the outcome. Raises ProjectError."""

    def run(self, job: Job) -> Outcome:
        """Make the target unless a whole one is there that is as new as everything it is made from."""
        try:
            if self._fresh(job) and self.whole(job):
                return Outcome(job, "skipped")
            notes = self.make(job)
        except ProjectError as error:
            return Outcome(job, "failed", str(error))
        except OSError as error:
            return Outcome(job, "failed", f"{job.source} cannot be read ({error.strerror}).")
        except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError when memory runs out.
            reason = " ".join(str(error).split()) or "memory ran out"
            return Outcome(
                job, "failed", f"{job.source} could not be coded ({reason}); lower --workers, or leave it out."
            )
        return Outcome(job, "done", notes=tuple(notes))

    def _fresh(self, job: Job) -> bool:
        if not job.target.is_file():
            return False
        origins = [path for path in (self.settings, job.source, job.side) if path is not None]
        return job.target.stat().st_mtime_ns >= max(path.stat().st_mtime_ns for path in origins)


def check_workers(workers: int | None, source: Path) -> int:
    """The number of processes that --workers asks for, 1 if it is absent; ConfigError unless it makes sense."""
    if workers is not None and not source.is_dir():
        raise ConfigError(f"--workers is for folders, and {source} is none; leave it out.")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers is {workers}; at least one process works.")
    return workers or 1


def files_by_stem(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Stem -> file, sorted, of the files directly in `folder` with one of these endings, lower case; none hidden.

    Stems are in Unicode's form NFC: macOS writes accents apart from their letters, other systems do not. Raises
    DataError if the folder cannot be listed or two files have the same stem.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and p.name[0] != "." and p.is_file())
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); name a folder that can be.") from None
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(unicodedata.normalize("NFC", path.stem), path)
        if other != path:
            names = f"{other.name!a} and {path.name!a} in {folder}"
            raise DataError(f"{names} differ only in their ending or Unicode form, so results would clash; rename one.")
    return found


_task: Task


def _end_with_parent() -> None:
    """Have this process end when its parent is gone: one that waits for work would otherwise wait for ever.

    A parent that is killed, by a user or for want of memory, cannot tell its processes to end.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a process of the pool"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start(pickled: bytes) -> None:
    global _task
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer.
    _task = pickle.loads(pickled)
    _task.start()


def _run(job: Job) -> Outcome:
    return _task.run(job)


def outcomes(task: Task, jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """The outcome of every job, as they end. A process that dies takes only the job with it that killed it."""
    waiting, left = iter(jobs), len(jobs)
    spawn, pickled = multiprocessing.get_context("spawn"), pickle.dumps(task)
    while left:
        suspects: list[Job] = []
        with ProcessPoolExecutor(min(workers, left), spawn, _start, (pickled,)) as pool:
            running: dict[Future[Outcome], Job] = {}
            try:
                while not suspects:
                    for job in islice(waiting, 2 * workers - len(running)):
                        running[pool.submit(_run, job)] = job
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        job = running.pop(future)
                        try:
                            outcome = future.result()
                        except BrokenProcessPool:
                            suspects.append(job)
                        else:
                            left -= 1
                            yield outcome
            except BrokenProcessPool:
                suspects.append(job)  # It was refused, so it is not among those that were running.
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        # Which of the jobs that were under way killed a process is seen when each runs alone.
        for job in [*suspects, *running.values()]:
            left -= 1
            yield Outcome(job, "failed", f"{job.source}: {DEAD}.") if len(jobs) == 1 else next(outcomes(task, [job], 1))


def run_batch(task: Task, jobs: Sequence[Job], workers: int, folder: Path, lost: Sequence[str] = ()) -> int:
    """Do all jobs with a progress bar, print failures and a closing line with the counts; exit status 1 if any failed.

    `lost` holds a sentence for each input that no job could be made for; each counts as failed.
    """
    counts = {"done": 0, "skipped": 0, "failed": 0}
    reasons = list(lost)
    notes: Counter[str] = Counter()
    with tqdm(total=len(jobs), unit="file", disable=None) as bar:
        for outcome in outcomes(task, jobs, workers):
            counts[outcome.kind] += 1
            notes.update(outcome.notes)
            if outcome.kind == "failed":
                reasons.append(outcome.reason)
            bar.update()
    counts["failed"] += len(lost)
    for note, number in sorted(notes.items()):
        print(f"{number} of {counts['done']} images: {note}.", file=sys.stderr)
    for reason in reasons:
        print(f"error: {' '.join(reason.split())}", file=sys.stderr)
    total = len(jobs) + len(lost)
    assert sum(counts.values()) == total, "every input has one outcome"
    print(f"{folder}: {', '.join(f'{number} {kind}' for kind, number in counts.items())}, of {total}")
    return 1 if counts["failed"] else 0
