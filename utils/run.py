"""The run folder: runs/<name>/{config.json, environment.json, log.txt, metrics.jsonl, checkpoints/, samples/}."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from config import Config
from utils.configio import differences, from_dict, to_dict
from utils.errors import ConfigError

FREE_TO_CHANGE = (
    "train.steps",
    "train.decay",
    "train.log_every",
    "train.val_every",
    "train.save_every",
    "train.keep",
    "train.accumulation",
    "train.compile",
    "data.kitti_root",
    "data.cityscapes_root",
    "data.folder_root",
    "data.workers",
    "data.val_limit",
)
"""Fields that may differ when a run is resumed."""


def environment() -> dict[str, Any]:
    """What a result depends on besides code and data: versions, processor, devices, threads, git commit."""
    packages = (
        "torch",
        "torchvision",
        "accelerate",
        "compressai",
        "constriction",
        "numpy",
        "pillow",
        "lpips",
        "torchmetrics",
    )
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": versions,
        "commit": _commit(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name, then put it in place."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)


class RunFolder:
    """One experiment's folder. Only the main process makes one with `writes=True`; the others' calls do nothing."""

    def __init__(self, root: Path, config: Config, writes: bool) -> None:
        if config.name in ("", ".", "..") or Path(config.name).name != config.name:
            raise ConfigError(f"The name of a run is {config.name!r}; it must be the name of a folder, without a path.")
        self.path = root / config.name
        self.writes = writes
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        known = self.path / "config.json"
        if known.is_file():
            self._check_same(self._read(known), config)
        if not writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(known, to_dict(config))
        write_json(self.path / "environment.json", environment())
        self.checkpoints.mkdir(exist_ok=True)
        self.samples.mkdir(exist_ok=True)

    @staticmethod
    def _read(known: Path) -> Config:
        try:
            return from_dict(Config, json.loads(known.read_text()), str(known))
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{known} is damaged ({error}); restore it, or delete the folder to start afresh."
            ) from error

    def _check_same(self, old: Config, new: Config) -> None:
        changed = {k: v for k, v in differences(old, new).items() if k not in FREE_TO_CHANGE}
        if changed:
            field, (before, now) = next(iter(changed.items()))
            raise ConfigError(
                f"The run {self.path} was started with {field} = {before}, and now it is {now}; give the run another "
                "name (--name), or delete the folder to start afresh."
            )

    def log(self, message: str) -> None:
        """A line to log.txt and to the terminal."""
        if self.writes:
            line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
            with (self.path / "log.txt").open("a") as file:
                file.write(line + "\n")
            print(line, file=sys.stderr, flush=True)

    def rewind(self, step: int) -> None:
        """Drop what metrics.jsonl says about later steps: a run that was killed goes on from its last checkpoint."""
        path = self.path / "metrics.jsonl"
        if not self.writes or not path.is_file():
            return
        kept = [line for line in path.read_text().splitlines(keepends=True) if _step_of(line) <= step]
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("".join(kept))
        temporary.replace(path)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """A line to metrics.jsonl: the optimizer step and the values."""
        if self.writes:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")  # Cut short when the run was killed.
