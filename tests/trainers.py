"""Trainers of a tiny codec, as train.py makes them, and what they leave behind."""

import json
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny import tiny_config
from torch import Tensor

from config import Config
from train import Trainer
from utils.training.checkpoints import STATE_FILE


def config_on(folder: Path, name: str = "run", **parts: dict[str, Any]) -> Config:
    """The tiny configuration on a data set `folder`; `parts` replace fields."""
    return tiny_config(name, data={"folder_root": str(folder)}, **parts)


def trainer(config: Config, runs: Path, init: str = "") -> Trainer:
    """A trainer as a new process would make it: Accelerate keeps its state for the life of a process."""
    AcceleratorState._reset_state(True)
    return Trainer(config, runs, init, cpu=True)


def state(runs: Path, name: str, step: int) -> dict[str, Tensor]:
    """The tensors of a training state."""
    return load_file(runs / name / "checkpoints" / f"step_{step:08d}" / STATE_FILE)


def metrics(runs: Path, name: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Equal names and bits."""
    assert a.keys() == b.keys()
    different = [name for name in a if a[name].dtype != b[name].dtype or not a[name].equal(b[name])]
    assert not different, f"{len(different)} of {len(a)} tensors differ, for example {different[0]}"
