"""Kill a command with SIGKILL at random moments, give it again, and compare the outcome with a run in one go.

    python scripts/stress/crash_test.py                # a tiny training run: weights must be equal bit for bit
    python scripts/stress/crash_test.py --evaluation   # an evaluation of it: figures and files must be equal

After each kill, a copy of what it left is given the command once more and goes to its end: a result for each kill. The
killed run itself is killed again and again until it ends between two kills; it is compared too, and the next begins. A
run must equal the one in one go, and must do again no more than was done since the last save. Prints a Markdown table
by what was under way when the kill came, after Ctrl-C of the kills so far; the last line is the result as JSON; the
exit status is 1 if a run failed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tqdm import tqdm

from scripts.stress.crashes import (
    Crasher,
    Kill,
    Outcome,
    Subject,
    files_below,
    other_file,
    other_tensor,
    read_lines,
    timeless,
    touched,
)
from utils.cli import run
from utils.errors import ProjectError
from utils.markdown import publish, table

ROOT = Path(__file__).resolve().parents[2]
QUIET = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": str(ROOT),
    # Of killed processes' semaphores, and of a dependency that uses what torch deprecates.
    "PYTHONWARNINGS": "ignore:resource_tracker,ignore::FutureWarning",
}
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
        fields = [word for name, value in _TRAIN.items() for word in (f"--{name}", str(value))]
        return ["--preset", "demo", "--cpu", "--runs", str(out), *fields]

    def under_way(self, phase: str, out: Path, since: float) -> bool:
        folder = out / _NAME
        if phase == self.aims[0]:
            lines = read_lines(folder / "metrics.jsonl")
            step = lines[-1]["step"] if lines else 1
            return (step % VALIDATE_EVERY == 0 or step == STEPS) and "val/loss" not in lines[-1]
        unfinished = [path for pattern in ("*.tmp", "best/*.tmp") for path in (folder / "checkpoints").glob(pattern)]
        return any(("removed" in path.name) == (phase == self.aims[2]) and touched(path, since) for path in unfinished)

    def phase(self, whole: Path, out: Path, since: float) -> str:
        folder = out / _NAME
        if not touched(folder / "metrics.jsonl", since) or self.done(out) <= self._resumed(out):
            return STARTING
        for phase in reversed(self.aims):  # Validation also writes the best checkpoint.
            if self.under_way(phase, out, since):
                return phase
        return self.phases[-1] if (folder / "checkpoints" / f"step_{STEPS:08d}").is_dir() else self.phases[1]

    def done(self, out: Path) -> int:
        """The last step that was logged."""
        lines = read_lines(out / _NAME / "metrics.jsonl")
        return int(lines[-1]["step"]) if lines else 0

    @staticmethod
    def _resumed(out: Path) -> int:
        """The step after which the last start that resumed went on."""
        log = out / _NAME / "log.txt"
        words = [line.split() for line in log.read_text().splitlines()] if log.is_file() else []
        return next((int(w[w.index("step") + 1]) for w in reversed(words) if w[2:4] == ["resumed", "after"]), 0)

    def repeated(self, out: Path, done: int) -> int:
        return max(0, done - self._resumed(out))

    def difference(self, whole: Path, out: Path) -> str | None:
        names = [files_below(folder, leave=("events.out.tfevents.",)) for folder in (whole, out)]
        if names[0] != names[1]:
            return f"{min(names[0] ^ names[1])} is only in one of them"
        for name in sorted(names[0]):
            if name.endswith(".safetensors") and (part := other_tensor(whole / name, out / name)):
                return f"{part} in {name} differs"
        # The order of a safetensors file's metadata varies, and so do the hashes in the manifest.
        others = ("log.txt", "environment.json", "manifest.json", ".safetensors")
        return other_file(whole, out, (name for name in names[0] if not name.endswith(others)))


class Evaluation(Subject):
    """`evaluate.py` of a checkpoint that Training makes in the folder `work`: two rates and JPEG on two pairs."""

    module = "evaluate"
    imports = (
        "evaluate", "utils.evaluation.pipeline", "utils.report", "skimage.data", "pycvvdp",
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
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise ProjectError(f"The checkpoint could not be trained: {done.stderr.strip().splitlines()[-1]}")

    def arguments(self, out: Path) -> list[str]:
        fields = "--dataset builtin --split val --limit 2 --rates 0 1 --anchors jpeg --device cpu"
        return ["--ckpt", str(self._run / _NAME), "--out", str(out), *fields.split()]

    def under_way(self, phase: str, out: Path, since: float) -> bool:
        return any(touched(path, since) for path in out.glob("*.*"))

    def phase(self, whole: Path, out: Path, since: float) -> str:
        starting, model, jpeg, writing = self.phases
        if self.under_way(writing, out, since):
            return writing
        if not touched(out / "work" / "rows-0.jsonl", since):
            return starting
        if self.done(out) == self.done(whole):
            return writing
        return jpeg if (out / "work" / "anchors.json").is_file() else model

    def done(self, out: Path) -> int:
        """The images measured: whole lines of the log, one each."""
        return len(read_lines(out / "work" / "rows-0.jsonl"))

    def repeated(self, out: Path, done: int) -> int:
        """Images measured more than once, by this start or one before it."""
        rows = [(row["point"], row["index"]) for row in read_lines(out / "work" / "rows-0.jsonl")]
        return len(rows) - len(set(rows))

    def difference(self, whole: Path, out: Path) -> str | None:
        points = [timeless(json.loads((folder / "summary.json").read_text())["points"]) for folder in (whole, out)]
        if points[0] != points[1]:
            return "summary.json differs"
        tables = []
        for folder in (whole, out):
            with (folder / "images.csv").open(newline="") as file:
                tables.append(timeless(list(csv.DictReader(file))))
        if tables[0] != tables[1]:
            return "images.csv differs"
        names = [files_below(folder) for folder in (whole, out)]
        if names[0] != names[1]:
            return f"{min(names[0] ^ names[1])} is only in one of them"
        exact = (n for n in names[0] if n.startswith(("bitstreams/", "reconstructions/", "work/features/")))
        return other_file(whole, out, exact)


Result = tuple[Kill, Outcome]


def crash(subject: Subject, work: Path, kills: int, seed: int, results: list[Result], ended: list[str | None]) -> None:
    """Fill in every kill with its outcome, and where each run that ended by itself differs; a line on stderr a kill."""
    whole = work / "whole"
    command = [sys.executable, f"{subject.module}.py", *subject.arguments(whole)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProjectError(f"The run in one go failed: {done.stderr.strip().splitlines()[-1]}")
    crasher = Crasher(subject, work, whole, time.monotonic() - begun, seed)
    crasher.warm_up()
    with tqdm(total=kills, unit="kill", disable=None) as bar:
        bar.write(f"in one go: {crasher.seconds:.1f} s after imports", file=sys.stderr)
        while len(results) < kills:
            out = work / f"run {len(ended) + 1}"
            while len(results) < kills and (kill := crasher.strike(out)) is not None:
                outcome = crasher.outcome(out, kill)
                results.append((kill, outcome))
                moment = f"after {kill.seconds:.2f} s{' (with imports)' * kill.cold}, {kill.phase}"
                work_done = f"{kill.done} {subject.unit} done, {outcome.repeated} again"
                verdict = outcome.difference or "identical"
                line = f"kill {len(results)}: run {len(ended) + 1}, {moment}, {work_done}: {verdict}"
                bar.write(line, file=sys.stderr)
                bar.update()
            if len(results) == kills:
                crasher.finish(out)
            ended.append(subject.difference(whole, out))
            bar.write(f"run {len(ended)} ended: {ended[-1] or 'identical'}", file=sys.stderr)
            if ended[-1] is None:
                shutil.rmtree(out)


def rows(subject: Subject, results: list[Result]) -> list[list[str]]:
    """Kills, identical results and repeated work by phase."""
    found = []
    for phase in (*subject.phases, "all"):
        of_phase = [outcome for kill, outcome in results if phase in (kill.phase, "all")]
        identical = sum(outcome.difference is None for outcome in of_phase)
        most = max((outcome.repeated for outcome in of_phase), default="-")
        found.append([phase, str(len(of_phase)), str(identical), str(most)])
    return found


def main() -> int:
    """See the module; returns 0 if every run that ended is identical and none lost more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="default: 50")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default: 0)")
    parser.add_argument("--evaluation", action="store_true", help="kill evaluate.py instead of train.py")
    parser.add_argument("--work", type=Path, metavar="DIR", help="a new folder that is kept (default: a temporary one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Markdown file to write")
    args = parser.parse_args()
    if args.kills < 1:
        raise ProjectError(f"--kills is {args.kills}; it must be at least 1.")
    if args.work is not None and args.work.exists():
        raise ProjectError(f"--work {args.work} exists; name a folder that does not.")
    os.environ |= QUIET
    work = Path(tempfile.mkdtemp(prefix="crash_test_")) if args.work is None else args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    report = None if args.out is None else args.out.resolve()
    os.chdir(ROOT)
    begun = time.monotonic()
    subject = Evaluation(work) if args.evaluation else Training()
    results: list[Result] = []
    ended: list[str | None] = []
    stopped = False
    try:
        crash(subject, work, args.kills, args.seed, results, ended)
    except KeyboardInterrupt:
        if not results:
            raise
        stopped = True
        print(f"stopped by SIGINT after {len(results)} of {args.kills} kills", file=sys.stderr)
    most = max(outcome.repeated for _, outcome in results)
    summary: dict[str, Any] = {
        "subject": "evaluation" if args.evaluation else "training",
        "kills": len(results),
        "identical": sum(outcome.difference is None for _, outcome in results),
        "with_imports": sum(kill.cold for kill, _ in results),
        f"most_{subject.unit}_done_again": most,
        "allowed": subject.allowed,
        "runs_ended": len(ended),
        "runs_identical": ended.count(None),
        "phases": {phase: sum(kill.phase == phase for kill, _ in results) for phase in subject.phases},
        "seed": args.seed,
        "seconds": round(time.monotonic() - begun),
    }
    good = summary["identical"] == len(results) and not any(ended) and most <= subject.allowed
    columns = ["killed while", "kills", "identical results", f"most {subject.unit} done again"]
    text = [
        f"`python {shlex.join(sys.argv)}`",
        "",
        f"{len(results)} kills gave {summary['identical']} identical results: after each, the command was given once "
        f"more and went to its end. {len(ended)} runs ended after all the kills that they had, {ended.count(None)} of "
        f"them identical. Compared with a run in one go: {subject.compared}. The start after a kill did at most {most} "
        f"{subject.unit} again; {subject.allowed} are allowed. {summary['with_imports']} kills hit the command itself, "
        "with its imports, the others its main function.",
        "",
        *table(columns, rows(subject, results)),
    ]
    publish(text, report)
    print(json.dumps(summary))
    if good and args.work is None:
        shutil.rmtree(work)
    elif not good:
        print(f"what differs is kept in {work}", file=sys.stderr)
    if stopped:
        return 128 + signal.SIGINT
    return 0 if good else 1


if __name__ == "__main__":
    run(main)
