"""Kill a command with SIGKILL at random moments, give it again until it ends, and compare with a run in one go.

    python scripts/stress/kill.py training       # weights, optimizer state and metrics, bit for bit
    python scripts/stress/kill.py evaluation     # figures, files and decoded images
    python scripts/stress/kill.py folder         # compress.py and decompress.py of a folder, two processes each

Each run is killed --per-run times (all its processes) and then goes to its end; what it leaves must be what the run in
one go left. Progress is on stderr; the last line is the result as JSON; the exit status is 1 if a run differs.
"""

from __future__ import annotations

import csv
import json
import os
import random
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

from utils.cli import Parser, run
from utils.errors import ConfigError, ProjectError

ROOT = Path(__file__).resolve().parents[2]
TRAINING = (
    "train.py --preset demo --cpu --data.augment.height 64 --data.augment.width 64 --data.val-limit 1 --train.steps 12 "
    "--train.batch-size 2 --train.precision no --train.log-every 1 --train.val-every 5 --train.save-every 2"
)
EVALUATION = "evaluate.py --dataset builtin --split val --limit 2 --rates 0 1 --anchors jpeg --metrics psnr ssim"
NOT_COMPARED = ("log.txt", "environment.json", "manifest.json", "events.out", "rows-", "report.html", "results_")
"""Beginnings of file names: they hold times, or follow from files that are compared."""
PAIRS = 24


def commands(subject: str, work: Path, out: Path) -> list[list[str]]:
    """What is run one after the other, and writes below `out`; `work` holds what it reads."""
    script = [sys.executable, str(ROOT / "scripts" / "compress.py")]
    unscript = [sys.executable, str(ROOT / "scripts" / "decompress.py")]
    options = ["--ckpt", str(ROOT / "checkpoints" / "small"), "--workers", "2"]
    if subject == "training":
        return [[sys.executable, *TRAINING.split(), "--runs", str(out)]]
    if subject == "evaluation":
        return [[sys.executable, *EVALUATION.split(), "--ckpt", str(work / "run" / "demo"), "--out", str(out)]]
    return [
        [*script, str(work / "left"), str(out / "files"), "--rate", "0.5", *options],
        [*unscript, str(out / "files"), str(out / "pictures"), "--side", str(work / "right"), *options],
    ]


def prepare(subject: str, work: Path) -> None:
    """Write what the commands read: a trained run, or a folder of pairs."""
    if subject == "evaluation":
        finish(commands("training", work, work / "run"), work)
    if subject == "folder":
        from data.made.builtin import BuiltinSource
        from utils.files import png_bytes

        source = BuiltinSource("train", limit=PAIRS)
        for view in ("left", "right"):
            (work / view).mkdir()
        for pair in (source[number] for number in range(PAIRS)):
            (work / "left" / f"{pair.id}.png").write_bytes(png_bytes(pair.x))
            (work / "right" / f"{pair.id}.png").write_bytes(png_bytes(pair.x_side))


def started(command: list[str], work: Path) -> subprocess.Popen[bytes]:
    """A command in a process group of its own; its output goes to WORK/output.txt."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (work / "output.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def finish(given: list[list[str]], work: Path) -> None:
    """Run the commands to their end. Raises ProjectError if one fails."""
    for command in given:
        if status := started(command, work).wait():
            last = (work / "output.txt").read_text(errors="replace").strip().splitlines()[-1:]
            raise ProjectError(f"{Path(command[1]).name} ended with exit status {status}: {''.join(last)}")


def struck(given: list[list[str]], work: Path, seconds: float) -> bool:
    """Run the commands and kill all processes after `seconds`; False if they ended before."""
    end = time.monotonic() + seconds
    for command in given:
        process = started(command, work)
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    return False


def content(path: Path) -> Any:
    """What must be equal in two files: tensors, rows and points without their milliseconds, else the bytes."""
    if path.suffix == ".safetensors":
        from utils.checkpoint import read_tensors

        metadata, tensors = read_tensors(path)
        return metadata, {name: (str(t.dtype), t.numpy().tobytes()) for name, t in sorted(tensors.items())}
    if path.name == "images.csv":
        with path.open(newline="") as file:
            return [_timeless(row) for row in csv.DictReader(file)]
    if path.name == "summary.json":
        return [_timeless(point) for point in json.loads(path.read_text())["points"]]
    return path.read_bytes()


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.endswith("_ms")}


def difference(whole: Path, out: Path) -> str | None:
    """None if two finished runs left the same, else where they differ."""
    names = []
    for folder in (whole, out):
        files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(NOT_COMPARED))
        names.append({path.relative_to(folder).as_posix() for path in files})
    if names[0] != names[1]:
        return f"{min(names[0] ^ names[1])} is only in one of them"
    for name in sorted(names[0]):
        if content(whole / name) != content(out / name):
            return f"{name} differs"
    return None


def main() -> int:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("subject", choices=("training", "evaluation", "folder"))
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--per-run", type=int, default=5, metavar="N", help="kills of each run (default: 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default: 0)")
    arguments = parser.parse_args()
    if arguments.runs < 1 or arguments.per_run < 1:
        raise ConfigError("--runs and --per-run must be at least 1.")
    work = Path(tempfile.mkdtemp(prefix="kill_"))
    moments = random.Random(arguments.seed)
    prepare(arguments.subject, work)
    begun = time.monotonic()
    finish(commands(arguments.subject, work, work / "whole"), work)
    seconds = time.monotonic() - begun
    kills, found = 0, []
    for number in tqdm(range(arguments.runs), unit="run"):
        out = work / f"run{number}"
        given = commands(arguments.subject, work, out)
        for _ in range(arguments.per_run):
            kills += struck(given, work, moments.uniform(0, seconds))
        finish(given, work)
        if found_here := difference(work / "whole", out):
            found.append(f"run {number}: {found_here}")
        else:
            shutil.rmtree(out)
    print(*found, sep="\n")
    print(json.dumps({"subject": arguments.subject, "runs": arguments.runs, "kills": kills, "differ": len(found)}))
    if found:
        print(f"what differs is kept in {work}", file=sys.stderr)
    else:
        shutil.rmtree(work)
    return 1 if found else 0


if __name__ == "__main__":
    run(main)
