"""What a study of equal budgets trains, how far it is, and what its runs have found (`train_all.py`)."""

from __future__ import annotations

import json
import math
import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.studies.methods import BATCH, METHODS
from utils.files import write_json
from utils.outputs import keep_settings

TIMED_STEPS, UNTIMED_STEPS = 12, 2
"""Steps of a timing run; the first ones, which warm up, are left out of the mean."""
SHORT = 8
"""How many times shorter the runs that choose the learning rate are."""
COMMON_LAMBDA = 0.0016
"""The middle of the range of lambda for which the variable-rate methods are trained."""
TABLES = ("pairs", "seconds")


@dataclass(frozen=True)
class Task:
    """One training run of a model, which is rate number `rate` of a method."""

    model: str
    kind: str
    """`time`, `lr...`, or one of TABLES."""
    method: str
    rate: int
    steps: int
    lr: float

    @property
    def name(self) -> str:
        """Of the run."""
        return f"{self.model}-{self.kind}"


class Study:
    """A folder with the runs of all methods. `options` are the command line's.

    times.json has the seconds a step of each model, learning_rates.json the loss of each method's learning rates, null
    where it diverged.
    """

    def __init__(self, options: Namespace) -> None:
        self.options, self.folder = options, Path(options.runs)
        self.threads = max(1, (os.cpu_count() or 1) // options.jobs)
        settings = {"pairs": options.pairs, "lrs": options.lrs, "threads": self.threads, "data": options.data_root}
        keep_settings(self.folder, "study.json", settings, writes=not options.status)
        self.times: dict[str, float] = self._known("times.json")
        self.losses: dict[str, dict[str, float | None]] = self._known("learning_rates.json")

    def _known(self, name: str) -> dict:  # type: ignore[type-arg]
        file = self.folder / name
        return json.loads(file.read_text()) if file.is_file() else {}

    # ---------------------------------------------------------------- what there is to do

    def models(self) -> list[tuple[str, str, int]]:
        """Name, method and number of the rate of every model."""
        methods = self.options.methods
        return [(model_of(name, rate), name, rate) for name in methods for rate in range(len(METHODS[name].rates))]

    def timing(self) -> list[Task]:
        """One run a model."""
        lr = self.options.lrs[len(self.options.lrs) // 2]
        return [Task(model, "time", name, rate, TIMED_STEPS, lr) for model, name, rate in self.models()]

    def choosing(self, method: str) -> list[Task]:
        """One run a learning rate; none where there is no choice."""
        steps, rate = max(1, self.options.pairs // SHORT // BATCH), METHODS[method].middle
        lrs = self.options.lrs if len(self.options.lrs) > 1 else []
        return [Task(model_of(method, rate), f"lr{lr:g}", method, rate, steps, lr) for lr in lrs]

    def training(self, table: str, method: str | None = None) -> list[Task]:
        """One run a model, with the chosen learning rate and the steps that the table's budget allows."""
        return [
            Task(model, table, name, rate, self.steps(model, table), self.chosen(name) or self.options.lrs[0])
            for model, name, rate in self.models()
            if method in (None, name)
        ]

    def seconds(self) -> float:
        """The budget of equal time: as asked, or the mean time of equal pairs, so that both tables take as long."""
        times = [self.times[model] for model, _, _ in self.models()]
        return self.options.seconds or self.options.pairs // BATCH * math.fsum(times) / len(times)

    def steps(self, model: str, table: str) -> int:
        """Steps of a model's run."""
        return max(1, self.options.pairs // BATCH if table == "pairs" else int(self.seconds() / self.times[model]))

    def chosen(self, method: str) -> float | None:
        """The learning rate with the least loss; None if all diverged, or not all have been tried."""
        if len(self.options.lrs) == 1:
            return float(self.options.lrs[0])
        losses = self.losses.get(method, {})
        found = {lr: losses[f"{lr:g}"] for lr in self.options.lrs if f"{lr:g}" in losses}
        finite = {lr: loss for lr, loss in found.items() if loss is not None}
        return min(finite, key=finite.__getitem__) if finite and len(found) == len(self.options.lrs) else None

    # ---------------------------------------------------------------- how far it is

    def path(self, task: Task) -> Path:
        """The run's folder."""
        return self.folder / task.name

    def done(self, task: Task) -> bool:
        """Whether a run has its last checkpoint, which follows its validation, or has diverged."""
        diverged = self.losses.get(task.method, {}).get(task.kind.removeprefix("lr"), 0) is None
        return diverged or (self.path(task) / "checkpoints" / f"step_{task.steps:08d}").is_dir()

    def left(self, tasks: Sequence[Task]) -> float:
        """Seconds that runs still take, one after the other; NaN before all are timed."""
        steps = {task: 0 if self.done(task) else max(0, task.steps - last_step(self.path(task))) for task in tasks}
        return math.fsum(n * self.times.get(task.model, math.nan) for task, n in steps.items())

    def progress(self) -> str:
        """A row a method: seconds a step, learning rate, share of each kind's time that is over, hours left in all."""
        heads = ("method", "s/step", "lr", "lr runs", *TABLES, "hours left")
        rows, total = [heads], 0.0
        timed = all(model in self.times for model, _, _ in self.models())
        for method in self.options.methods:
            own = [self.times[model] for model, name, _ in self.models() if name == method and model in self.times]
            parts = {"lr runs": self.choosing(method)}
            if timed:
                parts |= {table: self.training(table, method) for table in self.options.tables}
            whole = {part: sum(task.steps * self.times.get(task.model, 1) for task in parts[part]) for part in parts}
            left = {part: self.left(tasks) for part, tasks in parts.items()}
            over = {part: f"{1 - left[part] / whole[part]:.0%}" for part in parts if timed and whole[part]}
            hours = sum(left.values()) / 3600 / self.options.jobs if timed else math.nan
            total += hours
            shown = [f"{max(own):.2f}" if own else "", f"{self.chosen(method) or ''}"]
            rows.append((method, *shown, *(over.get(part, "") for part in heads[3:6]), f"{hours:.1f}"))
        rows.append(("all", "", "", "", "", "", f"{total:.1f}"))
        return "\n".join(f"{row[0]:14}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows)

    # ---------------------------------------------------------------- what runs have found

    def keep(self, task: Task, diverged: bool) -> None:
        """Write down what an ended run was for: the loss of a learning rate, or the time of a step."""
        if task in self.choosing(task.method):
            loss = None if diverged else validation_loss(self.path(task))
            self.losses.setdefault(task.method, {})[f"{task.lr:g}"] = loss
            write_json(self.folder / "learning_rates.json", self.losses)
        if task.kind == "time":
            self.times[task.model] = seconds_per_step(self.path(task))
            write_json(self.folder / "times.json", self.times)


def model_of(method: str, rate: int) -> str:
    """The method's name, with the number of the rate where each has a model of its own."""
    return method if len(METHODS[method].rates) == 1 else f"{method}_{rate}"


def lines_of(run_folder: Path) -> list[dict[str, float]]:
    """The complete lines of a run's metrics.jsonl."""
    file = run_folder / "metrics.jsonl"
    text = file.read_text() if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def last_step(run_folder: Path) -> int:
    """The last step that a run has logged."""
    return max((int(line["step"]) for line in lines_of(run_folder)), default=0)


def validation_loss(run_folder: Path) -> float | None:
    """bpp + lambda MSE of real files of `val` after the last step, the mean over rates; None if it is not finite.

    Lambda is the method's own, or COMMON_LAMBDA where the method's is not for the squared error.
    """
    line = [line for line in lines_of(run_folder) if "val/loss" in line][-1]
    loss = line["val/loss"]
    if json.loads((run_folder / "config.json").read_text())["loss"]["distortion"] != "mse":
        bpp = {name.removeprefix("val/bpp"): value for name, value in line.items() if name.startswith("val/bpp")}
        mse = [255**2 * 10 ** (-line[f"val/psnr{rate}"] / 10) for rate in bpp]
        loss = (math.fsum(bpp.values()) + COMMON_LAMBDA * math.fsum(mse)) / len(bpp)
    return loss if math.isfinite(loss) else None


def seconds_per_step(run_folder: Path) -> float:
    """The mean time of a step in a run that logged each of its steps, by the clock of its TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder))
    events.Reload()
    times = [event.wall_time for event in events.Scalars("train/loss")][UNTIMED_STEPS - 1 :]
    return float((times[-1] - times[0]) / (len(times) - 1))
