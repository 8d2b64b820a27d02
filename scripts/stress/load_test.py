"""Compress and decompress a folder of many pairs, killed on the way: is nothing lost, and does memory stay constant?

    python scripts/stress/load_test.py --ckpt checkpoints/small --pairs 1000 --workers 2 --out results/load.md

Makes synthetic pairs, some of them bad: images cut short, a right image of another size. Runs compress.py on them, then
decompress.py. Each is killed with SIGKILL twice at random moments (all its processes, then the main one alone) and
given again; after each kill half-written outputs are left besides. Checked: the last run's counts and reports, that all
outputs and nothing else are there, that all can be read, and that random ones equal what is coded directly. Memory is
that resident in all processes together, libraries counted in each; from the first to the last quarter of the last run
it may grow by a tenth. Ctrl-C ends with what has been measured. The last line is the result as JSON; the exit status is
1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.cli import run
from utils.errors import ConfigError
from utils.markdown import publish, table
from utils.outputs import refuse_overwriting

if TYPE_CHECKING:
    from scripts.stress.load_check import Stage

ROOT = Path(__file__).resolve().parents[2]
KILLS = 2
GROWTH = 1.1
MIB = 2**20
COLUMNS = (
    "", "outputs", "bad ones reported", "outputs at each kill", "outputs kept by the last run", "seconds of each run",
    "peak MiB", "first quarter", "last quarter", "compared with direct coding", "failures",
)  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    add("--pairs", type=int, default=1000, metavar="N", help="default: 1000")
    add("--bad", type=int, default=6, metavar="N", help="pairs among them that are bad (default: 6)")
    add("--height", type=int, default=128, metavar="H", help="pixels (default: 128)")
    add("--width", type=int, default=256, metavar="W", help="pixels (default: 256)")
    add("--rate", type=float, default=0.5, metavar="R", help="0 smallest file to 1 largest (default: 0.5)")
    add("--workers", type=int, default=2, metavar="N", help="processes of compress.py and decompress.py (default: 2)")
    add("--check", type=int, default=30, metavar="N", help="outputs that are compared with direct coding (default: 30)")
    add("--seed", type=int, default=0, metavar="N", help="of the pairs and the moments (default: 0)")
    add("--interval", type=float, default=0.25, metavar="S", help="seconds between two samples (default: 0.25)")
    add("--work", type=Path, metavar="DIR", help="a new folder that is kept (default: a temporary one)")
    add("--out", type=Path, metavar="FILE", help="Markdown file to write")
    arguments = parser.parse_args()
    refuse_overwriting([arguments.out], [arguments.ckpt])
    for name in ("workers", "check"):
        if (value := getattr(arguments, name)) < 1:
            raise ConfigError(f"--{name} is {value}; it must be at least 1.")
    if arguments.bad < 0 or arguments.pairs < arguments.bad + 10:
        raise ConfigError(f"--pairs {arguments.pairs} and --bad {arguments.bad}: at least 10 pairs must be good ones.")
    if arguments.interval <= 0:
        raise ConfigError(f"--interval is {arguments.interval:g}; give a positive number of seconds.")
    if arguments.work is not None and arguments.work.exists():
        raise ConfigError(f"--work {arguments.work} exists; name a folder that does not.")
    if not Path("/proc/self/stat").exists():
        raise ConfigError("The memory of processes is read from /proc, which is not there; run this on Linux.")
    return arguments


def strain(stage: Stage, arguments: argparse.Namespace, work: Path, rng: random.Random) -> dict[str, Any]:
    """Run a stage: killed KILLS times, then to its end. What was measured, and what went wrong besides the outputs."""
    from tqdm import tqdm

    from scripts.stress.load_check import Strike, check_end, leave_halves, quarters, watch

    bar = tqdm(total=len(stage.good), unit="file", desc=stage.folder.name, disable=None)
    failures: list[str] = []
    seconds: list[float] = []
    struck: list[int] = []
    halves: dict[Path, int] = {}

    def count() -> int:
        found = len(stage.outputs())
        bar.update(found - bar.n)
        return found

    for number in range(KILLS):
        there, good = count(), len(stage.good)
        outputs = min(good, there + rng.randint(1, max(1, (good - there) // 3)))
        strike = Strike(outputs, rng.random(), main_only=number % 2 == 1)
        ended = watch(stage.command, count, work, arguments.interval, strike)
        seconds.append(round(ended.seconds, 1))
        struck.append(count())
        if ended.status is not None:
            failures.append(f"run {number + 1} ended with {ended.status} before it could be killed: {ended.err[-300:]}")
            break
        if ended.orphans:
            failures.append(f"{ended.orphans} processes outlived the main one")
        if struck[-1] < good:
            halves |= leave_halves(stage, rng)
        bar.write(f"{stage.folder.name}: killed with {struck[-1]} of {good} there", file=sys.stderr)
    kept = count() - sum(path.stat().st_size == size for path, size in halves.items())
    ended = watch(stage.command, count, work, arguments.interval)
    seconds.append(round(ended.seconds, 1))
    bar.close()
    failures += check_end(ended, stage, kept)
    memory = quarters(ended.samples)
    if memory is not None and memory[1] > GROWTH * memory[0]:
        failures.append(f"memory grew from {memory[0] // MIB} to {memory[1] // MIB} MiB")
    return {
        "outputs": count(),
        "bad": len(stage.bad),
        "killed_at": struck,
        "kept": kept,
        "seconds": seconds,
        "peak_mib": max(sample.resident for sample in ended.samples) // MIB,
        "first_quarter_mib": None if memory is None else memory[0] // MIB,
        "last_quarter_mib": None if memory is None else memory[1] // MIB,
        "halved": sorted(path.stem for path in halves),
        "failures": failures,
    }


def load_test(arguments: argparse.Namespace, work: Path, result: dict[str, Any]) -> None:
    """Both directions, one after the other; `result` gets what each gave as soon as it is there."""
    import torch

    from scripts.stress import load_check
    from utils.checkpoint import load_checkpoint

    torch.set_num_threads(1)  # As the processes of a folder have it.
    codec = load_checkpoint(arguments.ckpt).codec
    rate = arguments.rate if codec.variable_rate else None
    rng = random.Random(arguments.seed)
    load = load_check.make_load(
        work / "pairs", arguments.pairs, arguments.bad, arguments.height, arguments.width, arguments.seed
    )
    files, pictures = work / "files", work / "pictures"
    left, right = work / "pairs" / "left", work / "pairs" / "right"

    def command(script: str, *words: object) -> list[str]:
        options = ("--ckpt", Path(arguments.ckpt).resolve(), "--workers", arguments.workers)
        return [sys.executable, str(ROOT / "scripts" / script), *map(str, (*words, *options))]

    unreadable, undecodable = (
        load.of_kind(load_check.CUT_LEFT),
        load.of_kind(load_check.CUT_RIGHT, load_check.OTHER_SIZE),
    )
    encoded = [name for name in load.names if name not in unreadable]
    stage = load_check.Stage(
        command("compress.py", left, files, *(() if rate is None else ("--rate", rate))),
        *(files, ".bin", "compress.json", encoded, unreadable),
    )
    compressed = strain(stage, arguments, work, rng)
    chosen = load_check.choose(encoded, arguments.check, compressed["halved"], rng)
    compressed["compared"] = len(chosen)
    compressed["failures"] += load_check.check_folder(stage)
    compressed["failures"] += load_check.check_files(codec, rate, load, stage, chosen)
    result["compress"] = compressed

    decoded = [name for name in encoded if name not in undecodable]
    stage = load_check.Stage(
        command("decompress.py", files, pictures, "--side", right),
        *(pictures, ".png", "decompress.json", decoded, undecodable),
    )
    decompressed = strain(stage, arguments, work, rng)
    chosen = load_check.choose(decoded, arguments.check, decompressed["halved"], rng)
    decompressed["compared"] = len(chosen)
    decompressed["failures"] += load_check.check_folder(stage)
    decompressed["failures"] += load_check.check_pictures(codec, load, files, stage, chosen)
    result["decompress"] = decompressed


def cells(name: str, stage: dict[str, Any]) -> list[str]:
    """A row under COLUMNS."""
    quarters = (stage["first_quarter_mib"], stage["last_quarter_mib"])
    return [
        *(name, str(stage["outputs"]), str(stage["bad"])),
        ", ".join(map(str, stage["killed_at"])),
        str(stage["kept"]),
        ", ".join(f"{seconds:g}" for seconds in stage["seconds"]),
        str(stage["peak_mib"]),
        *("too short" if size is None else str(size) for size in quarters),
        *(str(stage["compared"]), str(len(stage["failures"]))),
    ]


def main() -> int:
    """See the module; the exit status."""
    arguments = parse()
    # So that what runs in a group of its own is ended too when this is told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="load_test_")) if arguments.work is None else arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    result: dict[str, Any] = {"pairs": arguments.pairs}
    stopped = False
    try:
        load_test(arguments, work, result)
    except KeyboardInterrupt:
        stopped = True
    parts = [part for part in ("compress", "decompress") if part in result]
    result["seconds"] = round(time.monotonic() - begun, 1)
    failures = [f"{part}: {text}" for part in parts for text in result[part]["failures"]]
    failures += ["stopped before the end"] * stopped
    lines = [
        f"`python {shlex.join(sys.argv)}`",
        "",
        f"{arguments.pairs} pairs of {arguments.width}x{arguments.height}, {arguments.bad} of them bad; "
        f"{arguments.workers} processes; {result['seconds']:g} s in all.",
        "",
        *table(COLUMNS, [cells(part, result[part]) for part in parts]),
        "",
        *(failures or ["Nothing was lost, and memory stayed constant."]),
    ]
    publish(lines, arguments.out)
    print(json.dumps(result))
    if not failures and arguments.work is None:
        shutil.rmtree(work)
    return 128 + signal.SIGINT if stopped else int(bool(failures))


if __name__ == "__main__":
    run(main)
