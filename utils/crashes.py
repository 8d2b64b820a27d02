"""What scripts/crash_test.py kills: a tiny training run and an evaluation, seconds long on a CPU."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

from utils.checkpoint import MODEL_FILE, read_tensors
from utils.errors import ProjectError
from utils.training_state import STATE_FILE

STEPS = 12
VALIDATE_EVERY = 5
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
    "train.save-every": 2,
}


class Subject(Protocol):
    """A command that is killed and given again. `out` is a folder of its own for each run."""

    module: str
    """The command is `python MODULE.py`."""
    imports: tuple[str, ...]
    """What a process needs before it starts to work."""
    saving: str | None
    """Pattern, relative to `out`, of what exists while a save is under way; None if that is too short to be seen."""

    def arguments(self, out: Path) -> list[str]:
        """The command's arguments."""

    def phase(self, out: Path) -> str:
        """What a killed run was doing, as its files tell."""

    def difference(self, whole: Path, out: Path) -> str | None:
        """None if two finished runs have the same outcome, else where they differ."""


class Training(Subject):
    """`train.py --preset demo`, a few steps: checkpoints every 2, validation every 5."""

    module = "train"
    imports = ("train", "torch.utils.tensorboard", "skimage.data", "utils.configio", "tyro")
    saving = f"{_NAME}/checkpoints/*.tmp"

    def arguments(self, out: Path) -> list[str]:
        """See Subject."""
        fields = [word for name, value in _TRAIN.items() for word in (f"--{name}", str(value))]
        return ["--preset", "demo", "--cpu", "--runs", str(out), *fields]

    def phase(self, out: Path) -> str:
        """See Subject."""
        folder = out / _NAME
        unfinished = [path.name for path in (folder / "checkpoints").glob("*.tmp")]
        if unfinished:
            return f"while {'removing' if 'removed' in unfinished[0] else 'saving'} {unfinished[0].split('.')[0]}"
        lines = _lines(folder / "metrics.jsonl")
        if not lines:
            return "before step 1"
        step = lines[-1]["step"]
        saved = (folder / "checkpoints" / f"step_{step:08d}").is_dir()
        if step % VALIDATE_EVERY == 0 and "val/loss" not in lines[-1]:
            return f"while validating step {step}"
        return f"with step {step} {'saved' if saved else 'logged'}"

    def difference(self, whole: Path, out: Path) -> str | None:
        """Weights, their average, the optimizer's moments, the best checkpoint, and all that was logged."""
        last = f"{_NAME}/checkpoints/step_{STEPS:08d}"
        for file in (f"{last}/{MODEL_FILE}", f"{last}/{STATE_FILE}", f"{_NAME}/checkpoints/best/{MODEL_FILE}"):
            (_, expected), (_, found) = read_tensors(whole / file), read_tensors(out / file)
            if expected.keys() != found.keys():
                return f"{file} has other tensors"
            for name, tensor in expected.items():
                if tensor.dtype != found[name].dtype or not tensor.equal(found[name]):
                    return f"{name} in {file} differs"
        logs = [_lines(folder / _NAME / "metrics.jsonl") for folder in (whole, out)]
        return None if logs[0] == logs[1] else "metrics.jsonl differs"


class Evaluation(Subject):
    """`evaluate.py` of a checkpoint that Training makes in the folder `work`: two rates and JPEG on two pairs."""

    module = "evaluate"
    imports = (
        "evaluate",
        "utils.evaluation.pipeline",
        "utils.report",
        "utils.rd",
        "skimage.data",
        "pycvvdp",
        "torchmetrics.image",
    )
    saving = None

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

    def phase(self, out: Path) -> str:
        """See Subject."""
        rows = sum(len(_lines(path)) for path in (out / "work").glob("rows-*.jsonl"))
        if not rows:
            return "before the first image"
        reported = [name for name in ("summary.json", "report.html", "images.csv") if (out / name).exists()]
        return f"with {rows} images measured" + (f" and {reported[0]} written" if reported else "")

    def difference(self, whole: Path, out: Path) -> str | None:
        """The points of summary.json and the rows of images.csv, without what was measured in milliseconds."""
        points = [_timeless(json.loads((folder / "summary.json").read_text())["points"]) for folder in (whole, out)]
        if points[0] != points[1]:
            return "summary.json differs"
        tables = []
        for folder in (whole, out):
            with (folder / "images.csv").open(newline="") as file:
                tables.append(_timeless(list(csv.DictReader(file))))
        return None if tables[0] == tables[1] else "images.csv differs"


def _timeless(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if not name.endswith("_ms")} for entry in entries]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a killed process may leave half of one."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
