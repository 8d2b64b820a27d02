"""For load_test.py: pairs to code, a command that is watched and killed, and checks of what it leaves."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from data.images import read_image
from data.made.synthetic import SyntheticSource
from modules.codec import Codec
from utils.errors import ProjectError
from utils.files import png_bytes, temporary_for
from utils.images import to_float, to_uint8
from utils.resident import group_members, group_resident

CUT_LEFT, CUT_RIGHT, OTHER_SIZE = "left image cut short", "right image cut short", "right image of another size"
KINDS = (CUT_LEFT, CUT_RIGHT, OTHER_SIZE)
POLL = 0.01
PATIENCE = 30.0
"""Seconds for the processes of a killed command to end."""
_COUNTS = re.compile(r": (\d+) done, (\d+) skipped, (\d+) failed, of (\d+)$")


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


@dataclass(frozen=True)
class Load:
    """Pairs in `root`/left and `root`/right by name; `bad` says what is wrong with some of them, one of KINDS."""

    root: Path
    names: list[str]
    bad: dict[str, str]

    def of_kind(self, *kinds: str) -> list[str]:
        """The bad pairs of these kinds."""
        return [name for name, kind in self.bad.items() if kind in kinds]


@dataclass(frozen=True)
class Stage:
    """One direction: a command that makes FOLDER/NAME+ENDING for each good name and reports each bad one."""

    command: list[str]
    folder: Path
    ending: str
    settings: str
    good: list[str]
    bad: list[str]

    def outputs(self) -> list[Path]:
        """What is there so far, whole or not."""
        return sorted(self.folder.glob(f"*{self.ending}"))

    def path(self, name: str) -> Path:
        """The output of this name."""
        return self.folder / (name + self.ending)


def make_load(root: Path, count: int, bad: int, height: int, width: int, seed: int) -> Load:
    """Write `count` synthetic pairs as PNG, `bad` of them spoilt in the ways of KINDS in turn, at random places."""
    names = [f"pair{number:05d}" for number in range(count)]
    chosen = random.Random(seed).sample(names, bad)
    load = Load(root, names, {name: KINDS[place % len(KINDS)] for place, name in enumerate(chosen)})
    for side in ("left", "right"):
        (root / side).mkdir(parents=True)
    source = SyntheticSource(limit=count, seed=seed, height=height, width=width)
    for number, name in enumerate(tqdm(names, unit="pair", disable=None)):
        pair, kind = source[number], load.bad.get(name)
        left = png_bytes(pair.x)
        right = png_bytes(np.ascontiguousarray(pair.x_side[16:]) if kind == OTHER_SIZE else pair.x_side)
        (root / "left" / f"{name}.png").write_bytes(left[: len(left) // 2] if kind == CUT_LEFT else left)
        (root / "right" / f"{name}.png").write_bytes(right[: len(right) // 2] if kind == CUT_RIGHT else right)
    return load


def leave_halves(stage: Stage, rng: random.Random) -> dict[Path, int]:
    """Cut an output in half, as a power failure might, and leave half of one under a temporary name, as a kill might.

    Returns the outputs that are not whole now and their sizes. Needs an output that is there and one that is not.
    """
    victim = rng.choice(stage.outputs())
    half = victim.read_bytes()[: victim.stat().st_size // 2]
    victim.write_bytes(half)
    missing = next(name for name in stage.good if not stage.path(name).exists())
    temporary_for(stage.path(missing)).write_bytes(half)
    return {victim: len(half)}


def check_end(ended: Ended, stage: Stage, kept: int) -> list[str]:
    """What is wrong with how the last run ended, where `kept` outputs were whole before it."""
    problems = []
    status = 1 if stage.bad else 0
    if ended.status != status:
        problems.append(f"the last run ended with exit status {ended.status} instead of {status}: {ended.err[-300:]}")
    closing = _COUNTS.search(ended.out.strip())
    expected = (len(stage.good) - kept, kept, len(stage.bad), len(stage.good) + len(stage.bad))
    if closing is None or tuple(map(int, closing.groups())) != expected:
        problems.append(f"the counts (done, skipped, failed, all) are not {expected} but: {ended.out.strip()[-200:]}")
    reports = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if len(reports) != len(stage.bad):
        problems.append(f"{len(reports)} files were reported instead of {len(stage.bad)}")
    for name in stage.bad:
        if (times := sum(f"{name}." in line for line in reports)) != 1:
            problems.append(f"the bad {name} was reported {times} times")
    return problems


def check_folder(stage: Stage) -> list[str]:
    """What is missing in the output folder, and what should not be there."""
    expected = {stage.path(name).name for name in stage.good} | {stage.settings}
    found = {path.name for path in stage.folder.iterdir()}
    return [f"{name} is missing" for name in sorted(expected - found)] + [
        f"{name} should not be there" for name in sorted(found - expected)
    ]


def check_files(codec: Codec, rate: float | None, load: Load, stage: Stage, chosen: Collection[str]) -> list[str]:
    """Files that cannot be read, and those of the chosen names that differ from what is encoded here and now."""
    problems = []
    for name in stage.good:
        try:
            data = stage.path(name).read_bytes()
            codec.unpack(data)
        except (OSError, ProjectError) as error:
            problems.append(f"{name}{stage.ending}: {error}")
            continue
        if name in chosen and data != codec.compress(_image(load, "left", name), rate):
            problems.append(f"{name}{stage.ending} differs from what is encoded directly")
    return problems


def check_pictures(codec: Codec, load: Load, files: Path, stage: Stage, chosen: Collection[str]) -> list[str]:
    """Pictures that cannot be read or are of a wrong size, and chosen ones that differ from a direct decoding."""
    problems = []
    for name in stage.good:
        try:
            picture = read_image(stage.path(name))
            data = (files / f"{name}.bin").read_bytes()
        except (OSError, ProjectError) as error:
            problems.append(f"{name}{stage.ending}: {error}")
            continue
        stream = codec.unpack(data)
        if picture.shape[:2] != (stream.height, stream.width):
            problems.append(f"{name}{stage.ending} has {picture.shape[1]}x{picture.shape[0]} pixels")
        elif name in chosen and not np.array_equal(
            picture, to_uint8(codec.decompress(data, _image(load, "right", name)))
        ):
            problems.append(f"{name}{stage.ending} differs from what is decoded directly")
    return problems


def choose(names: Sequence[str], count: int, always: Collection[str], rng: random.Random) -> set[str]:
    """Some names at random, and those that are always among them."""
    return {*rng.sample(names, min(count, len(names))), *always}


def _image(load: Load, side: str, name: str) -> Tensor:
    return to_float(read_image(load.root / side / f"{name}.png"))
