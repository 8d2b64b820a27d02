"""The run folder: runs/<name>/{config.json, init.json, environment.json, log.txt, metrics.jsonl, checkpoints/, …}."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from config import Config
from utils.configio import read_config
from utils.configrules import differences, effective
from utils.errors import ConfigError
from utils.files import sha256, write_json, write_whole, writing
from utils.outputs import refuse_foreign_folder

FREE_TO_CHANGE = (
    *("train.steps", "train.decay", "train.log_every", "train.val_every", "train.save_every", "train.keep"),
    *("train.accumulation", "train.compile", "data.root", "data.kitti_root", "data.cityscapes_root"),
    *("data.folder_root", "data.workers", "data.cache", "data.val_limit"),
)
"""Fields that may differ when a run is resumed."""


LIBRARIES = (
    *("torch", "torchvision", "accelerate", "numpy", "scipy", "pillow", "scikit-image", "compressai", "constriction"),
    *("pytorch-msssim", "lpips", "torchmetrics", "torch-fidelity", "cvvdp"),
)
"""Libraries that read, code, train or measure; an evaluation never mixes rows of two versions of one."""


def environment() -> dict[str, Any]:
    """What a result depends on besides code and data: versions, processor, devices, threads, git commit."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in LIBRARIES},
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.check_output(
            command, cwd=Path(__file__).resolve().parents[1], stderr=subprocess.DEVNULL, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.strip() or None


def refuse_losses(run: Path, reads: Iterable[Path | str | None], *, writes: bool) -> None:
    """Raise ConfigError if a training that reads `reads` would overwrite them, or what no training made, in `run`."""
    if writes:
        names = ("init.json", "environment.json", "log.txt", "metrics.jsonl", "checkpoints/best")
        refuse_foreign_folder(run, "config.json", names, [path or None for path in reads])


class RunFolder:
    """One experiment's folder. Only the main process makes one with `writes=True`; the others' calls do nothing.

    What writes raises OutputError if the disk is full.
    """

    def __init__(self, root: Path, config: Config, writes: bool) -> None:
        self.path = root / config.name
        self.writes = writes
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self._events: Any = None
        known = self.path / "config.json"
        if known.is_file():
            self._check_same(known, config)
        if not writes:
            return
        with writing(self.path):
            for folder in (self.path, self.checkpoints, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
        write_json(known, asdict(config))
        write_json(self.path / "environment.json", environment())

    def _check_same(self, known: Path, new: Config) -> None:
        try:
            old = read_config(json.loads(known.read_text()), str(known))
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{known} is damaged ({error}); restore it, or delete the folder to start afresh."
            ) from error
        # What nothing reads changes no experiment, and earlier versions let it be anything.
        before_and_now = differences(effective(old), effective(new))
        changed = {k: v for k, v in before_and_now.items() if k not in FREE_TO_CHANGE}
        if changed:
            field, (before, now) = next(iter(changed.items()))
            raise ConfigError(
                f"The run {self.path} was started with {field} = {before}, and now it is {now}; give the run another "
                "name (--name), or delete the folder to start afresh."
            )

    def started_from(self, checkpoint: Path | None) -> None:
        """Record in init.json the model file that the first weights are from (None: fresh ones).

        Raises ConfigError if the run has begun, and from others: resumed, it would not use these.
        """
        known = self.path / "init.json"
        now = None if checkpoint is None else sha256(checkpoint)
        if known.is_file():
            try:
                before = json.loads(known.read_text())
                same = before["sha256"] == now
                origin = before["checkpoint"] or "fresh weights"
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{known} is damaged ({error}); restore it, or delete it to go on.") from None
            if not same:
                raise ConfigError(
                    f"The run {self.path} was started from {origin}, and now --init gives "
                    f"{checkpoint or 'none'}{', whose weights are others' if checkpoint and before['sha256'] else ''}; "
                    "give the run another name (--name), or delete the folder to start afresh."
                )
        elif self.writes:
            write_json(known, {"checkpoint": None if checkpoint is None else str(checkpoint), "sha256": now})

    def log(self, message: str) -> None:
        """A line to log.txt and to the terminal."""
        if self.writes:
            line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
            print(line, file=sys.stderr, flush=True)
            self._append("log.txt", line)

    def open_events(self, step: int) -> None:
        """From here on `metrics` also writes TensorBoard events; earlier events of later steps than `step` are void."""
        from torch.utils.tensorboard import SummaryWriter

        if self.writes:
            with writing(self.path):
                self._events = SummaryWriter(str(self.path), purge_step=step + 1 if step else None)

    def close_events(self) -> None:
        """Write what TensorBoard's writer still holds."""
        if self._events is not None:
            with writing(self.path):
                self._events.close()

    def rewind(self, step: int) -> None:
        """Drop what metrics.jsonl says about later steps: a run that was killed goes on from its last checkpoint."""
        path = self.path / "metrics.jsonl"
        if self.writes and path.is_file():
            lines = path.read_bytes().splitlines(keepends=True)
            write_whole(path, b"".join(line for line in lines if _step_of(line) <= step))

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """A line to metrics.jsonl, and TensorBoard events: the optimizer step and the values."""
        if self.writes:
            self._append("metrics.jsonl", json.dumps({"step": step, **values}))
        if self._events is not None:
            with writing(self.path):
                for name, value in values.items():
                    self._events.add_scalar(name, value, step)

    def _append(self, name: str, line: str) -> None:
        with writing(self.path / name), (self.path / name).open("ab") as file:
            file.write((line + "\n").encode("utf-8", "surrogateescape"))


def _step_of(line: bytes) -> float:
    """The step of a line of metrics.jsonl; infinity for one that was cut short when the run was killed."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
