"""What scripts/crash_test.py kills: a tiny training run and an evaluation, seconds long on a CPU."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from utils.checkpoint import read_tensors
from utils.errors import ProjectError

STEPS = 12
VALIDATE_EVERY = 5
SAVE_EVERY = 2
_NAME = "tiny"
_TRAIN = {
    "name": _NAME,
    "data.augment.height": 64,
    "data.augment.width": 64,
    "data.val-limit": 1,
    "train.steps": STEPS,
    "train.batch-size": 2,
    "train.precision": "no",
    "train.log-every": 1,
    "train.val-every": VALIDATE_EVERY,
    "train.save-every": SAVE_EVERY,
}
STARTING = "starting up"


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


class Training(Subject):
    """`train.py --preset demo`, a few steps: checkpoints every 2, validation every 5."""

    module = "train"
    imports = ("train", "torch.utils.tensorboard", "skimage.data", "utils.configio", "tyro")
    phases = (STARTING, "training", "validating", "writing a checkpoint", "removing an old checkpoint", "ending")
    aims = phases[2:5]
    unit, allowed = "steps", SAVE_EVERY
    compared = (
        "the final checkpoint's weights and training state (weights, their average, the optimizers' moments), the best "
        "checkpoint, metrics.jsonl and the sample images, bit for bit; and that the folder holds the same files"
    )

    def arguments(self, out: Path) -> list[str]:
        """See Subject."""
        fields = [word for name, value in _TRAIN.items() for word in (f"--{name}", str(value))]
        return ["--preset", "demo", "--cpu", "--runs", str(out), *fields]

    def under_way(self, phase: str, out: Path, since: float) -> bool:
        """See Subject."""
        folder = out / _NAME
        if phase == self.aims[0]:
            lines = _lines(folder / "metrics.jsonl")
            step = lines[-1]["step"] if lines else 1
            return (step % VALIDATE_EVERY == 0 or step == STEPS) and "val/loss" not in lines[-1]
        unfinished = [path for pattern in ("*.tmp", "best/*.tmp") for path in (folder / "checkpoints").glob(pattern)]
        return any(("removed" in path.name) == (phase == self.aims[2]) and _touched(path, since) for path in unfinished)

    def phase(self, whole: Path, out: Path, since: float) -> str:
        """See Subject."""
        folder = out / _NAME
        if not _touched(folder / "metrics.jsonl", since) or self.done(out) <= self._resumed(out):
            return STARTING
        for phase in reversed(self.aims):  # Validation also writes the best checkpoint.
            if self.under_way(phase, out, since):
                return phase
        return self.phases[-1] if (folder / "checkpoints" / f"step_{STEPS:08d}").is_dir() else self.phases[1]

    def done(self, out: Path) -> int:
        """The last step that was logged."""
        lines = _lines(out / _NAME / "metrics.jsonl")
        return int(lines[-1]["step"]) if lines else 0

    @staticmethod
    def _resumed(out: Path) -> int:
        """The step after which the last start that resumed went on."""
        log = out / _NAME / "log.txt"
        words = [line.split() for line in log.read_text().splitlines()] if log.is_file() else []
        return next((int(w[w.index("step") + 1]) for w in reversed(words) if w[2:4] == ["resumed", "after"]), 0)

    def repeated(self, out: Path, done: int) -> int:
        """See Subject."""
        return max(0, done - self._resumed(out))

    def difference(self, whole: Path, out: Path) -> str | None:
        """See `compared`."""
        names = [_files(folder, leave=("events.out.tfevents.",)) for folder in (whole, out)]
        if names[0] != names[1]:
            return f"{min(names[0] ^ names[1])} is only in one of them"
        for name in sorted(names[0]):
            if name.endswith(".safetensors") and (part := _other_tensor(whole / name, out / name)):
                return f"{part} in {name} differs"
        # The order of a safetensors file's metadata varies, and so do the hashes in the manifest.
        others = ("log.txt", "environment.json", "manifest.json", ".safetensors")
        return _other_file(whole, out, (name for name in names[0] if not name.endswith(others)))


class Evaluation(Subject):
    """`evaluate.py` of a checkpoint that Training makes in the folder `work`: two rates and JPEG on two pairs."""

    module = "evaluate"
    imports = (
        "evaluate", "utils.evaluation.pipeline", "utils.report", "utils.rd", "skimage.data", "pycvvdp",
        "torchmetrics.image",
    )  # fmt: skip
    phases = (STARTING, "measuring the model", "measuring JPEG", "writing the results")
    aims = phases[3:]
    unit, allowed = "images", 0
    compared = (
        "every point of summary.json and row of images.csv except the milliseconds, and every bitstream, decoded image "
        "and feature file, bit for bit; and that the folder holds the same files"
    )

    def __init__(self, work: Path) -> None:
        self._run = work / "checkpoint"
        command = [sys.executable, "train.py", *Training().arguments(self._run)]
        done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True)
        if done.returncode != 0:
            raise ProjectError(f"The checkpoint could not be trained: {done.stderr.strip().splitlines()[-1]}")

    def arguments(self, out: Path) -> list[str]:
        """See Subject."""
        fields = "--dataset builtin --split val --limit 2 --rates 0 1 --anchors jpeg --device cpu"
        return ["--ckpt", str(self._run / _NAME), "--out", str(out), *fields.split()]

    def under_way(self, phase: str, out: Path, since: float) -> bool:
        """See Subject."""
        return any(_touched(path, since) for path in out.glob("*.*"))

    def phase(self, whole: Path, out: Path, since: float) -> str:
        """See Subject."""
        starting, model, jpeg, writing = self.phases
        if self.under_way(writing, out, since):
            return writing
        if not _touched(out / "work" / "rows-0.jsonl", since):
            return starting
        if self.done(out) == self.done(whole):
            return writing
        return jpeg if (out / "work" / "anchors.json").is_file() else model

    def done(self, out: Path) -> int:
        """The images measured: whole lines of the log, one each."""
        return len(_lines(out / "work" / "rows-0.jsonl"))

    def repeated(self, out: Path, done: int) -> int:
        """Images measured more than once, by this start or one before it."""
        rows = [(row["point"], row["index"]) for row in _lines(out / "work" / "rows-0.jsonl")]
        return len(rows) - len(set(rows))

    def difference(self, whole: Path, out: Path) -> str | None:
        """See `compared`."""
        points = [_timeless(json.loads((folder / "summary.json").read_text())["points"]) for folder in (whole, out)]
        if points[0] != points[1]:
            return "summary.json differs"
        tables = []
        for folder in (whole, out):
            with (folder / "images.csv").open(newline="") as file:
                tables.append(_timeless(list(csv.DictReader(file))))
        if tables[0] != tables[1]:
            return "images.csv differs"
        names = [_files(folder) for folder in (whole, out)]
        if names[0] != names[1]:
            return f"{min(names[0] ^ names[1])} is only in one of them"
        exact = (n for n in names[0] if n.startswith(("bitstreams/", "reconstructions/", "work/features/")))
        return _other_file(whole, out, exact)


def _timeless(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if not name.endswith("_ms")} for entry in entries]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a killed process may leave half of one, and another goes on after it."""
    lines = []
    for line in path.read_text().splitlines(keepends=True) if path.is_file() else []:
        try:
            lines += [json.loads(line)] if line.endswith("\n") else []
        except json.JSONDecodeError:
            continue
    return lines


def _touched(path: Path, since: float) -> bool:
    """Whether a file or folder was made, changed, or renamed at or after this time."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return max(status.st_mtime, status.st_ctime) >= since


def _files(folder: Path, leave: tuple[str, ...] = ()) -> set[str]:
    """The files below a folder, relative to it, but not those whose names begin with one of `leave`."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(leave or "/"))
    return {path.relative_to(folder).as_posix() for path in paths}


def _other_file(whole: Path, out: Path, names: Iterable[str]) -> str | None:
    return next((f"{n} differs" for n in sorted(names) if (whole / n).read_bytes() != (out / n).read_bytes()), None)


def _other_tensor(whole: Path, out: Path) -> str | None:
    """The name of the first tensor that is not the same in two safetensors files, or "metadata"; None if all are."""
    (ours, expected), (theirs, found) = read_tensors(whole), read_tensors(out)
    if ours != theirs:
        return "metadata"
    for name in sorted(expected.keys() | found.keys()):
        own, other = expected.get(name), found.get(name)
        if own is None or other is None or own.dtype != other.dtype or not own.equal(other):
            return name
    return None
