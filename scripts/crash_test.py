"""Kill a command with SIGKILL at random moments, give it again, and compare the outcome with a run in one go.

    python scripts/crash_test.py                 # a tiny training run on the CPU: weights must be equal bit for bit
    python scripts/crash_test.py --evaluation    # an evaluation of it: figures and files must be equal

After each kill, a copy of what it left is given the command once more and goes to its end: a result for each kill. The
killed run itself is killed again and again until it ends between two kills; it is compared too, and the next begins. A
run must equal the one in one go, and must do again no more than was done since the last save. Prints a Markdown table
by what was under way when the kill came; the last line is the result as JSON; the exit status is 1 if a run failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ProjectError

if TYPE_CHECKING:
    from utils.crasher import Kill, Outcome
    from utils.crashes import Subject

ROOT = Path(__file__).resolve().parents[1]
QUIET = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": str(ROOT),
    # Of killed processes' semaphores, and of a dependency that uses what torch deprecates.
    "PYTHONWARNINGS": "ignore:resource_tracker,ignore::FutureWarning",
}


def crash(subject: Subject, work: Path, kills: int, seed: int) -> tuple[list[tuple[Kill, Outcome]], list[str | None]]:
    """Do it, a line a kill: every kill with its outcome, and where each run that ended by itself differs."""
    from utils.crasher import Crasher

    whole = work / "whole"
    command = [sys.executable, f"{subject.module}.py", *subject.arguments(whole)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProjectError(f"The run in one go failed: {done.stderr.strip().splitlines()[-1]}")
    crasher = Crasher(subject, work, whole, time.monotonic() - begun, seed)
    crasher.warm_up()
    say(f"in one go: {crasher.seconds:.1f} s after imports")
    results: list[tuple[Kill, Outcome]] = []
    ended: list[str | None] = []
    while len(results) < kills:
        out = work / f"run {len(ended) + 1}"
        while len(results) < kills and (kill := crasher.strike(out)) is not None:
            outcome = crasher.outcome(out, kill)
            results.append((kill, outcome))
            moment = f"after {kill.seconds:.2f} s{' (with imports)' * kill.cold}, {kill.phase}"
            work_done = f"{kill.done} {subject.unit} done, {outcome.repeated} again"
            verdict = outcome.difference or "identical"
            say(f"kill {len(results)}: run {len(ended) + 1}, {moment}, {work_done}: {verdict}")
        if len(results) == kills:
            crasher.finish(out)
        ended.append(subject.difference(whole, out))
        say(f"run {len(ended)} ended: {ended[-1] or 'identical'}")
        if ended[-1] is None:
            shutil.rmtree(out)
    return results, ended


def say(message: str) -> None:
    """Progress, at once."""
    print(message, file=sys.stderr, flush=True)


def table(subject: Subject, results: list[tuple[Kill, Outcome]]) -> list[str]:
    """Markdown: kills, identical results and repeated work by phase."""
    lines = [f"| killed while | kills | identical results | most {subject.unit} done again |", "|---|---|---|---|"]
    for phase in (*subject.phases, "all"):
        of_phase = [outcome for kill, outcome in results if phase in (kill.phase, "all")]
        identical = sum(outcome.difference is None for outcome in of_phase)
        most = max((outcome.repeated for outcome in of_phase), default="-")
        lines.append(f"| {phase} | {len(of_phase)} | {identical} | {most} |")
    return lines


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
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from utils.crashes import Evaluation, Training

    os.environ |= QUIET
    work = Path(tempfile.mkdtemp(prefix="crash_test_")) if args.work is None else args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    report = None if args.out is None else args.out.resolve()
    os.chdir(ROOT)
    begun = time.monotonic()
    subject = Evaluation(work) if args.evaluation else Training()
    results, ended = crash(subject, work, args.kills, args.seed)
    summary: dict[str, Any] = {
        "subject": "evaluation" if args.evaluation else "training",
        "kills": len(results),
        "identical": sum(outcome.difference is None for _, outcome in results),
        "with_imports": sum(kill.cold for kill, _ in results),
        f"most_{subject.unit}_done_again": max(outcome.repeated for _, outcome in results),
        "allowed": subject.allowed,
        "runs_ended": len(ended),
        "runs_identical": ended.count(None),
        "phases": {phase: sum(kill.phase == phase for kill, _ in results) for phase in subject.phases},
        "seed": args.seed,
        "seconds": round(time.monotonic() - begun),
    }
    most = max(outcome.repeated for _, outcome in results)
    good = summary["identical"] == len(results) and not any(ended) and most <= subject.allowed
    lines = [
        f"`python {shlex.join(sys.argv)}`",
        "",
        f"{len(results)} kills gave {summary['identical']} identical results: after each, the command was given once "
        f"more and went to its end. {len(ended)} runs ended after all the kills that they had, {ended.count(None)} of "
        f"them identical. Compared with a run in one go: {subject.compared}. The start after a kill did at most {most} "
        f"{subject.unit} again; {subject.allowed} are allowed. {summary['with_imports']} kills hit the command itself, "
        "with its imports, the others its main function.",
        "",
        *table(subject, results),
    ]
    print("\n".join(lines))
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text("\n".join(lines) + "\n")
    print(json.dumps(summary))
    if good and args.work is None:
        shutil.rmtree(work)
    elif not good:
        say(f"what differs is kept in {work}")
    return 0 if good else 1


if __name__ == "__main__":
    run(main)
