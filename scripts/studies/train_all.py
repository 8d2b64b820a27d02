"""Train the methods of `scripts/studies/methods.py` with equal budgets, two at a time with one thread each.

    python scripts/studies/train_all.py --data-root DIR                   # all methods; the same command again goes on
    python scripts/studies/train_all.py ours ndsc --data-root DIR --pairs 8000 --jobs 1
    python scripts/studies/train_all.py --data-root DIR --status          # the table of progress alone
    python scripts/studies/train_all.py --full                            # full-size runs as commands, with their cost

1. Each model is timed alone for TIMED_STEPS steps, with the threads that training gets (times.json).
2. Each method is trained for an eighth of the budget with each learning rate; the best loss on `val` decides
   (learning_rates.json). The loss is bpp + lambda MSE, or lambda bpp + MSE, of real files.
3. Equal pairs (runs NAME-pairs): every model sees as many pairs as every other. Equal time (NAME-seconds): every model
   takes as many steps as fit into the same number of seconds by its time of a step; validation does not count.
4. The commands that evaluate are printed, or run with --evaluate.

DIR has {train,val}/{left,right}/NAME.png (README, Data). The budget is that of a model: a method with four models for
four rates gets it four times. SIGINT or SIGTERM stops the trainings, which save.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.studies.methods import BATCH, METHODS
from utils.cli import Parser, run
from utils.errors import ConfigError, ProjectError
from utils.files import write_json
from utils.outputs import keep_settings
from utils.training.stopping import StopRequest

TRAIN, EVALUATE = ROOT / "train.py", ROOT / "evaluate.py"
TIMED_STEPS, UNTIMED_STEPS = 12, 2
"""Steps of a timing run; the first ones, which warm up, are left out of the mean."""
SHORT = 8
"""How many times shorter the runs that choose the learning rate are."""
TABLES = ("pairs", "seconds")
PAUSE = 0.5
"""Seconds between two looks at what runs."""


@dataclass(frozen=True)
class Task:
    """One training run of a model, which is rate number `rate` of a method."""

    model: str
    kind: str
    method: str
    rate: int
    steps: int
    lr: float

    @property
    def name(self) -> str:
        """Of the run."""
        return f"{self.model}-{self.kind}"


class Study:
    """A folder with the runs of all methods, and what was found on the way."""

    def __init__(self, options: Namespace) -> None:
        self.options, self.folder = options, Path(options.runs)
        self.threads = max(1, (os.cpu_count() or 1) // options.jobs)
        settings = {"pairs": options.pairs, "lrs": options.lrs, "threads": self.threads, "data": options.data_root}
        keep_settings(self.folder, "study.json", settings, writes=not options.status)
        self.times: dict[str, float] = self._known("times.json")
        self.losses: dict[str, dict[str, float]] = self._known("learning_rates.json")

    def _known(self, name: str) -> dict:  # type: ignore[type-arg]
        file = self.folder / name
        return json.loads(file.read_text()) if file.is_file() else {}

    # ---------------------------------------------------------------- what there is to do

    def models(self) -> list[tuple[str, int, str]]:
        """Method, number of the rate and name of every model."""
        return [
            (name, rate, model_name(name, rate))
            for name in self.options.methods
            for rate in range(len(METHODS[name].rates))
        ]

    def timing(self) -> list[Task]:
        """One run a model."""
        middle = self.options.lrs[len(self.options.lrs) // 2]
        return [Task(model, "time", name, rate, TIMED_STEPS, middle) for name, rate, model in self.models()]

    def choosing(self, method: str) -> list[Task]:
        """One run a learning rate, none where there is no choice."""
        steps, rate = max(1, self.options.pairs // SHORT // BATCH), METHODS[method].middle
        lrs = self.options.lrs if len(self.options.lrs) > 1 else []
        return [Task(model_name(method, rate), f"lr{lr:g}", method, rate, steps, lr) for lr in lrs]

    def training(self, table: str) -> list[Task]:
        """One run a model, with the learning rate chosen and the steps that the table's budget allows."""
        return [
            Task(model, table, name, rate, self.steps(model, table), self.chosen(name))
            for name, rate, model in self.models()
        ]

    def seconds(self) -> float:
        """The budget of equal time: as asked, or the mean time of equal pairs, so that both tables take as long."""
        steps = self.options.pairs // BATCH
        times = [self.times[model] for _, _, model in self.models()]
        return self.options.seconds or steps * math.fsum(times) / len(times)

    def steps(self, model: str, table: str) -> int:
        """Steps of a model's run."""
        pairs = self.options.pairs // BATCH
        return max(1, pairs if table == "pairs" else int(self.seconds() / self.times[model]))

    def chosen(self, method: str) -> float:
        """The learning rate with the least loss."""
        losses = self.losses.get(method, {})
        return min(self.options.lrs, key=lambda lr: losses.get(f"{lr:g}", math.inf))

    # ---------------------------------------------------------------- how far it is

    def path(self, task: Task) -> Path:
        """The run's folder."""
        return self.folder / task.name

    def done(self, task: Task) -> bool:
        """Whether a run has its last checkpoint, which train.py writes after validation."""
        return (self.path(task) / "checkpoints" / f"step_{task.steps:08d}").is_dir()

    def diverged(self, task: Task) -> bool:
        """Whether the run of a learning rate ended because its loss was not finite."""
        return math.isinf(self.losses.get(task.method, {}).get(f"{task.lr:g}", 0.0))

    def share(self, tasks: Sequence[Task]) -> float:
        """The share of their steps that runs have taken."""
        taken = [task.steps if self.done(task) or self.diverged(task) else last_step(self.path(task)) for task in tasks]
        return sum(taken) / max(1, sum(task.steps for task in tasks))

    def progress(self) -> str:
        """A row a method: seconds a step, learning rate, share of the steps taken, hours left on all threads."""
        rows, total = ["method          s/step        lr  lr runs    pairs  seconds  hours left"], 0.0
        known = all(model in self.times for _, _, model in self.models())
        for method in self.options.methods:
            own = [model for name, _, model in self.models() if name == method]
            steps = [f"{self.times[model]:.2f}" for model in own if model in self.times]
            parts = {"lr": self.choosing(method)}
            if known:
                parts |= {t: [task for task in self.training(t) if task.method == method] for t in self.options.tables}
            shares = {part: self.share(tasks) if tasks else 1.0 for part, tasks in parts.items()}
            chosen = f"{self.chosen(method):g}" if shares["lr"] == 1 else ""
            left = math.nan
            if known:
                left = sum(
                    (1 - self.share([task])) * task.steps * self.times[task.model]
                    for tasks in parts.values()
                    for task in tasks
                ) / (3600 * self.options.jobs)
            total += left
            percents = [f"{shares[part]:8.0%}" if part in shares else f"{'':8}" for part in ("lr", *TABLES)]
            rows.append(
                f"{method:14}{steps[len(steps) // 2] if steps else '':>8}{chosen:>10} {' '.join(percents)}{left:12.1f}"
            )
        return "\n".join([*rows, f"{'all':14}{total:57.1f}"])

    # ---------------------------------------------------------------- running

    def command(self, task: Task) -> list[str]:
        """The call of train.py."""
        settings = {
            "--name": task.name, "--runs": self.folder, "--data.dataset": "folder",
            "--data.folder-root": self.options.data_root, "--data.val-limit": int(task.kind == "time"),
            "--train.steps": task.steps, "--train.decay": task.steps // 2, "--train.lr": f"{task.lr:g}",
            "--train.log-every": 1 if task.kind == "time" else 10, "--train.val-every": task.steps, "--train.save-every": 100,
        }  # fmt: skip
        words = [str(word) for pair in settings.items() for word in pair]
        return [sys.executable, str(TRAIN), *METHODS[task.method].arguments(task.rate), *words]

    def start(self, command: list[str], output: Path, threads: int) -> subprocess.Popen[bytes]:
        """Print a command and start it, away from the terminal's Ctrl-C, which would reach it twice."""
        print(shlex.join(command), flush=True)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def run(self, tasks: Sequence[Task], jobs: int, stop: StopRequest) -> None:
        """Run what is not done, so many at a time. Raises SystemExit once a signal came and all have saved."""
        waiting = [task for task in tasks if not self.done(task) and not self.diverged(task)]
        running: dict[Task, subprocess.Popen[bytes]] = {}
        shown = time.monotonic()
        try:
            while waiting or running:
                while waiting and len(running) < jobs and stop.received is None:
                    task = waiting.pop(0)
                    running[task] = self.start(self.command(task), self.output(task), self.threads)
                time.sleep(PAUSE)
                ended = [task for task, process in running.items() if process.poll() is not None]
                for task in ended:
                    self.ended(task, running.pop(task).returncode)
                if ended or time.monotonic() - shown > self.options.every:
                    shown = time.monotonic()
                    print(f"\n{self.progress()}\n", flush=True)
                if stop.received is not None:
                    break
        finally:  # Also after an error: nothing goes on unseen.
            for process in running.values():
                process.send_signal(signal.SIGTERM)
            for process in running.values():
                process.wait()
        if stop.received is not None:
            print("stopped; the same command goes on", flush=True)
            raise SystemExit(128 + stop.received)

    def output(self, task: Task) -> Path:
        """Where what a run prints goes."""
        return self.folder / "output" / f"{task.name}.txt"

    def ended(self, task: Task, status: int) -> None:
        """Keep what an ended run found. Raises ProjectError for a failure that is no divergence of a learning rate."""
        choosing = task in self.choosing(task.method)
        last = (self.output(task).read_text(errors="replace").strip().splitlines() or [""])[-1]
        if status and not (choosing and "is not finite" in last):
            raise ProjectError(f"{task.name} ended with exit status {status} ({last}); see {self.output(task)}.")
        if choosing:
            loss = math.inf if status else validation_loss(self.path(task))
            self.losses.setdefault(task.method, {})[f"{task.lr:g}"] = loss
            write_json(self.folder / "learning_rates.json", self.losses)
        if task.kind == "time":
            self.times[task.model] = seconds_per_step(self.path(task))
            write_json(self.folder / "times.json", self.times)

    def train(self) -> None:
        """Everything, in order."""
        with StopRequest(announce=False) as stop:
            for task in [task for task in self.timing() if task.model not in self.times]:
                shutil.rmtree(self.path(task), ignore_errors=True)  # A timing that was interrupted has a gap.
                self.run([task], 1, stop)
            choosing = [task for method in self.options.methods for task in self.choosing(method)]
            self.run(choosing, self.options.jobs, stop)
            for method in self.options.methods:
                if all(self.diverged(task) for task in self.choosing(method)) and len(self.options.lrs) > 1:
                    raise ProjectError(f"{method} diverges with every learning rate: give lower ones with --lrs.")
            longs = [task for table in self.options.tables for task in self.training(table)]
            self.run(longs, self.options.jobs, stop)
            print(self.progress(), flush=True)
            for table in self.options.tables:
                for method in self.options.methods:
                    self.evaluate(table, method, stop)

    def evaluate(self, table: str, method: str, stop: StopRequest) -> None:
        """Print, or run, the evaluation of a method: one folder, in which its models share a curve."""
        runs = [str(self.path(task)) for task in self.training(table) if task.method == method]
        out = Path(self.options.out if table == TABLES[0] else f"{self.options.out}_{table}") / method
        anchors = () if method == self.options.methods[0] else ("--anchors", "none")
        words = ["--dataset", "folder", "--data-root", self.options.data_root, "--split", self.options.split]
        command = [sys.executable, str(EVALUATE), "--ckpt", *runs, *words, *anchors, "--out", str(out)]
        if not self.options.evaluate:
            print(shlex.join(command))
            return
        process = self.start(command, self.folder / "output" / f"{method}-{table}-evaluation.txt", os.cpu_count() or 1)
        while process.poll() is None:
            time.sleep(PAUSE)
            if stop.received is not None:
                process.send_signal(signal.SIGTERM)
                process.wait()
                raise SystemExit(128 + stop.received)
        if process.returncode:
            raise ProjectError(f"The evaluation of {method} failed; see {self.folder / 'output'}.")


def model_name(method: str, rate: int) -> str:
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


def validation_loss(run_folder: Path) -> float:
    """The loss on `val` after the last step; infinite if it is not finite."""
    loss = [line["val/loss"] for line in lines_of(run_folder) if "val/loss" in line][-1]
    return loss if math.isfinite(loss) else math.inf


def seconds_per_step(run_folder: Path) -> float:
    """The mean time of a step in a run that logged each of its steps, by the clock of its TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder))
    events.Reload()
    times = [event.wall_time for event in events.Scalars("train/loss")][UNTIMED_STEPS - 1 :]
    return (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("methods", nargs="*", metavar="METHOD", help=f"default: all, {' '.join(METHODS)}")
    add("--data-root", metavar="DIR", help="pairs, as for --data.folder-root of train.py")
    add("--runs", default="runs/equal", metavar="DIR", help="the study's folder (default: runs/equal)")
    add("--pairs", type=int, default=4000, metavar="N", help="pairs that each model sees (default: 4000)")
    add("--seconds", type=float, metavar="S", help="equal time (default: the mean time of equal pairs)")
    add("--tables", nargs="+", choices=TABLES, default=TABLES, help="which budgets (default: both)")
    add("--lrs", nargs="+", type=float, default=[1e-4, 3e-4, 1e-3], metavar="LR", help="default: 1e-4 3e-4 1e-3")
    add("--jobs", type=int, default=2, metavar="N", help="runs at a time, which share the threads (default: 2)")
    add("--every", type=float, default=60, metavar="S", help="seconds between two tables of progress (default: 60)")
    add("--status", action="store_true", help="print the table of progress and stop")
    add("--evaluate", action="store_true", help="also run the evaluations")
    add("--split", choices=("val", "test"), default="val", help="of the evaluations (default: val)")
    add("--out", default="results/comparison", metavar="DIR", help="default: results/comparison")
    add("--full", action="store_true", help="print the full-size runs of all methods as commands, with their cost")
    options = parser.parse_args()
    options.methods = options.methods or list(METHODS)
    for name in options.methods:
        if name not in METHODS:
            raise ConfigError(f"There is no method {name!r}; the study has {', '.join(METHODS)}.")
    if options.full:
        from scripts.studies.full_size import table

        print(table(options.methods))
        return
    if not options.data_root:
        raise ConfigError("Give the folder of pairs with --data-root DIR.")
    study = Study(options)
    if options.status:
        print(study.progress())
        return
    study.train()


if __name__ == "__main__":
    run(main)
