"""Train the methods of `scripts/studies/methods.py` with equal budgets, two at a time with one thread each.

    python scripts/studies/train_all.py --data-root DIR                   # all methods; the same command again goes on
    python scripts/studies/train_all.py ours ndsc --data-root DIR --pairs 8000 --jobs 1
    python scripts/studies/train_all.py --data-root DIR --status          # the table of progress alone
    python scripts/studies/train_all.py --full                            # full-size runs as commands, with their cost

1. Each model is timed alone for a few steps, with the threads that training gets (times.json).
2. Each method is trained for an eighth of the budget with each learning rate; the least bpp + lambda MSE of real files
   of `val` decides (learning_rates.json).
3. Equal pairs (runs NAME-pairs): every model sees as many pairs as every other. Equal time (NAME-seconds): every model
   takes as many steps as fit into the same number of seconds by its time of a step; validation does not count.
4. The commands that evaluate are printed, or run with --evaluate.

DIR has {train,val}/{left,right}/NAME.png (README, Data). The budget is that of one model: a method with four models for
four rates gets it four times. SIGINT or SIGTERM stops the trainings, which save.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.studies.methods import METHODS
from scripts.studies.study import TABLES, Study, Task
from utils.cli import Parser, run
from utils.errors import ConfigError, ProjectError
from utils.training.stopping import StopRequest

ROOT = Path(__file__).resolve().parents[2]
TRAIN, EVALUATE = ROOT / "train.py", ROOT / "evaluate.py"
PAUSE = 0.5
"""Seconds between two looks at what runs."""


def training_command(study: Study, task: Task) -> list[str]:
    """The call of train.py."""
    timing = task.kind == "time"
    settings = {
        "--name": task.name, "--runs": study.folder, "--data.dataset": "folder",
        "--data.folder-root": study.options.data_root, "--data.val-limit": int(timing),
        "--train.steps": task.steps, "--train.decay": task.steps // 2, "--train.lr": f"{task.lr:g}",
        "--train.log-every": 1 if timing else 10, "--train.val-every": task.steps, "--train.save-every": 100,
    }  # fmt: skip
    words = [str(word) for pair in settings.items() for word in pair]
    return [sys.executable, str(TRAIN), *METHODS[task.method].arguments(task.rate), *words]


def evaluation_command(study: Study, table: str, method: str) -> list[str]:
    """The call of evaluate.py: one folder a method, in which its models share a curve; anchors beside the first."""
    options = study.options
    runs = [str(study.path(task)) for task in study.training(table, method)]
    out = Path(options.out if table == TABLES[0] else f"{options.out}_{table}") / method
    anchors = () if method == options.methods[0] else ("--anchors", "none")
    words = ["--dataset", "folder", "--data-root", options.data_root, "--split", options.split, "--out", str(out)]
    return [sys.executable, str(EVALUATE), "--ckpt", *runs, *words, *anchors]


class Pool:
    """Commands as processes, which end when the study ends: by itself, by an error or by a signal."""

    def __init__(self, study: Study, stop: StopRequest) -> None:
        self.study, self.stop = study, stop
        self.shown = time.monotonic()

    def output(self, name: str) -> Path:
        """The file of what a command prints."""
        return self.study.folder / "output" / f"{name}.txt"

    def start(self, name: str, command: list[str], threads: int) -> subprocess.Popen[bytes]:
        """Print a command and start it, out of reach of the terminal's Ctrl-C, which would be a second signal to it."""
        print(shlex.join(command), flush=True)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.output(name).parent.mkdir(parents=True, exist_ok=True)
        with self.output(name).open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def train(self, tasks: Sequence[Task], jobs: int) -> None:
        """Run what is not done, so many at a time. Raises SystemExit when a signal came and all have saved."""
        study = self.study
        waiting = [task for task in tasks if not study.done(task)]
        running: dict[Task, subprocess.Popen[bytes]] = {}
        try:
            while (waiting or running) and self.stop.received is None:
                while waiting and len(running) < jobs:
                    task = waiting.pop(0)
                    running[task] = self.start(task.name, training_command(study, task), study.threads)
                time.sleep(PAUSE)
                ended = [task for task, process in running.items() if process.poll() is not None]
                for task in ended:
                    self.ended(task, running.pop(task).returncode)
                if ended or time.monotonic() - self.shown > study.options.every:
                    self.shown = time.monotonic()
                    print(f"\n{study.progress()}\n", flush=True)
        finally:
            finish(running.values())
        self.heed()

    def heed(self) -> None:
        """Raise SystemExit if a signal came."""
        if self.stop.received is not None:
            print("stopped; the same command goes on", flush=True)
            raise SystemExit(128 + self.stop.received)

    def ended(self, task: Task, status: int) -> None:
        """Keep what a run found. Raises ProjectError for a failure that is no divergence of a learning rate."""
        last = (self.output(task.name).read_text(errors="replace").strip().splitlines() or [""])[-1]
        diverged = status != 0 and task.kind.startswith("lr") and "is not finite" in last
        if status and not diverged and self.stop.received is None:
            raise ProjectError(f"{task.name} ended with exit status {status}: {last} See {self.output(task.name)}.")
        if self.study.done(task) or diverged:
            self.study.keep(task, diverged)

    def evaluate(self, name: str, command: list[str]) -> None:
        """Run an evaluation, which continues an interrupted one, with all threads."""
        process = self.start(name, command, os.cpu_count() or 1)
        try:
            while process.poll() is None and self.stop.received is None:
                time.sleep(PAUSE)
        finally:
            finish([process])
        self.heed()
        if process.returncode:
            raise ProjectError(f"The evaluation {name} ended with {process.returncode}; see {self.output(name)}.")


def finish(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and wait until they have saved."""
    left = [process for process in processes if process.poll() is None]
    for process in left:
        process.send_signal(signal.SIGTERM)
    for process in left:
        process.wait()


def train_all(study: Study) -> None:
    """Everything, in order; what is done already is left out."""
    options = study.options
    with StopRequest(announce=False) as stop:
        pool = Pool(study, stop)
        for task in study.timing():
            if task.model not in study.times:
                shutil.rmtree(study.path(task), ignore_errors=True)  # A timing that was interrupted has a gap.
                pool.train([task], 1)
        pool.train([task for method in options.methods for task in study.choosing(method)], options.jobs)
        for method in options.methods:
            if study.chosen(method) is None:
                raise ProjectError(f"{method} diverges with every learning rate: start afresh with lower --lrs.")
        pool.train([task for table in options.tables for task in study.training(table)], options.jobs)
        for table in options.tables:
            for method in options.methods:
                command = evaluation_command(study, table, method)
                if options.evaluate:
                    pool.evaluate(f"{method}-{table}-evaluation", command)
                else:
                    print(shlex.join(command))


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
    add("--out", default="results/comparison", metavar="DIR", help="of the evaluations (default: results/comparison)")
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
    train_all(study)


if __name__ == "__main__":
    run(main)
