"""Run a plan: one process for each setting and stage, and what they found put together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from utils.crosscheck.plan import Plan
from utils.crosscheck.settings import REFERENCE, Setting
from utils.files import writing

ROOT = Path(__file__).resolve().parents[2]
GREY_LEVELS = 1
"""Most that a float32 picture may differ between numbers of threads."""


class DidNotRun(Exception):
    """A process ended without a result; the message says why."""


@dataclass
class Pictures:
    """The reconstructions of one setting: those that a second process gave other float values for, and the largest
    difference from the reference's in grey levels (None: it has none)."""

    count: int = 0
    changed: list[int] = field(default_factory=list)
    largest: int | None = None


@dataclass
class Outcome:
    """What a plan gave. Settings are named; `mismatches` holds (file, decoding setting, what is wrong)."""

    plan: Plan
    failures: list[str] = field(default_factory=list)
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    encoded: dict[int, dict[str, Any]] = field(default_factory=dict)
    decodes: dict[tuple[str, str], int] = field(default_factory=dict)
    """(encoding setting, decoding setting) -> files."""
    mismatches: list[tuple[int, str, str]] = field(default_factory=list)
    pictures: dict[str, Pictures] = field(default_factory=dict)
    seconds: float = 0.0

    def sender(self, number: int) -> str:
        """The setting that encoded a file."""
        return self.plan.files[number].setting

    def thread_difference(self) -> int | None:
        """Grey levels between the pictures of 1 and 2 threads; None if they were not both made."""
        return self.pictures["threads2"].largest if "threads2" in self.pictures else None

    def passed(self) -> bool:
        """Whether all of it ran, and all that must be equal is."""
        grey, files = self.thread_difference(), len(self.plan.files)
        return (
            not self.failures
            and len(self.encoded) == files
            and sum(self.decodes.values()) == files * len(self.plan.settings)
            and not self.mismatches
            and not any(pictures.changed for pictures in self.pictures.values())
            and (grey is None or grey <= GREY_LEVELS)
        )


def check(plan: Plan, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Encode, decode and reconstruct again in `folder`, which must be empty; `say` is told of each process.

    Raises OutputError if the folder cannot be written. A setting that cannot run is a failure of the outcome.
    """
    begun = time.monotonic()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    plan.save(folder)
    outcome = Outcome(plan)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for stage in ("encode", "decode", "again") if plan.pictures else ("encode", "decode"):
        found[stage] = {}
        for setting in plan.settings:
            started = time.monotonic()
            try:
                found[stage][setting.name] = run_worker(stage, setting, folder)
            except DidNotRun as reason:
                outcome.failures.append(f"{setting.name} did not {_WORDS[stage]}: {reason}")
            say(f"{stage} {setting.name}: {time.monotonic() - started:.1f} s")
    for setting in plan.settings:
        for stage in found:
            _environment(outcome, setting, found[stage].get(setting.name))
    for sender in found["encode"].values():
        outcome.encoded |= {record["number"]: record for record in sender["files"]}
    for name, receiver in found["decode"].items():
        _compare(outcome, name, receiver["files"])
    if plan.pictures:
        _pictures(outcome, folder, found["decode"], found["again"])
    outcome.seconds = time.monotonic() - begun
    return outcome


_WORDS = {"encode": "encode", "decode": "decode", "again": "reconstruct a second time"}


def run_worker(stage: str, setting: Setting, folder: Path) -> dict[str, Any]:
    """What one process found. Raises DidNotRun."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(setting.threads))
    environment["OMP_WAIT_POLICY"] = "passive"  # On a busy machine, threads that spin while they wait stall each other.
    if setting.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [setting.python or sys.executable, "-m", "utils.crosscheck.worker", stage, setting.name, str(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        raise DidNotRun(f"{command[0]} cannot be started ({error.strerror})") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise DidNotRun(_reason(said))
    result: dict[str, Any] = json.loads((folder / f"{stage}_{setting.name}.json").read_bytes())
    return result


def _reason(lines: list[str]) -> str:
    """The line of a process's last words that names its error: compilers add advice below it."""
    errors = [line for line in lines if line[:1].isalpha() and "rror" in line.split(":")[0]]
    return (errors or lines)[-1].removeprefix("error: ")[:500]


def _environment(outcome: Outcome, setting: Setting, found: dict[str, Any] | None) -> None:
    """Keep what a setting ran in, and check that it is what the setting stands for."""
    if found is None or setting.name in outcome.environments:
        return
    outcome.environments[setting.name] = {key: found[key] for key in ("torch", "python", "threads", "device")}
    if found["threads"] != setting.threads:
        outcome.failures.append(f"{setting.name} ran with {found['threads']} threads instead of {setting.threads}")
    here = version("torch").split("+")[0]
    if setting.python is not None and found["torch"].split("+")[0] == here:
        outcome.failures.append(f"{setting.name} is no other release: {setting.python} has torch {here} as well")


def _compare(outcome: Outcome, receiver: str, records: list[dict[str, Any]]) -> None:
    for record in records:
        number = record["number"]
        if number not in outcome.encoded:  # Its sender died after writing it: a failure, but no file of the check.
            continue
        cell = outcome.sender(number), receiver
        outcome.decodes[cell] = outcome.decodes.get(cell, 0) + 1
        wrong = record["detail"]
        if not wrong and record["sha256"] != outcome.encoded[number]["sha256"]:
            wrong = "the sender's digest is another"
        if wrong:
            outcome.mismatches.append((number, receiver, wrong))


def _pictures(outcome: Outcome, folder: Path, first: dict[str, Any], again: dict[str, Any]) -> None:
    for name in first.keys() & again.keys():
        digests = [{r["number"]: r["sha256"] for r in found[name]["pictures"]} for found in (first, again)]
        pictures = Pictures(len(digests[0]))
        pictures.changed = [number for number, digest in digests[0].items() if digests[1].get(number) != digest]
        if REFERENCE in first:
            pictures.largest = max((_difference(folder, name, number) for number in digests[0]), default=None)
        outcome.pictures[name] = pictures


def _difference(folder: Path, name: str, number: int) -> int:
    """Grey levels, at most, between a setting's picture and the reference's."""
    one, other = (np.load(folder / "pictures" / "decode" / n / f"{number}.npy") for n in (REFERENCE, name))
    return int(np.abs(one.astype(np.int16) - other).max())
