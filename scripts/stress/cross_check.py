"""Does a file decode to the same y_hat everywhere? Encodes under each setting, decodes every file under all of them.

    python scripts/stress/cross_check.py --ckpt checkpoints/small --data-root DIR --python OTHER/bin/python

Each setting runs in processes of its own: 1 and 2 threads, bfloat16 autocast, channels_last, torch.compile, a GPU where
there is one, and other releases of torch (--python). Half of the files hold a random part of their image, from 16x16
pixels up. The y_hat that the sender computed and the one that each receiver decodes must agree bit for bit. Prints a
table of mismatches and, as the last line, JSON; the exit status is 1 if anything differed or a setting could not run.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.cli import Parser, run
from utils.errors import BitstreamError, ConfigError

SETTINGS = {
    "threads1": "float32, 1 thread",
    "threads2": "float32, 2 threads",
    "bf16": "bfloat16 autocast around every call",
    "channels_last": "weights in channels_last",
    "compiled": "torch.compile of every network, whole graphs",
    "cuda": "weights on the first GPU",
}
"""Name -> what it stands for. `other1`, `other2`, ... are the interpreters of --python, in float32 with 2 threads."""
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
CROP_SHARE = 0.5
"""Of the files that hold a part of their image."""
PLAN = "plan.json"


def plan_of(arguments: Any, names: list[str]) -> dict[str, Any]:
    """What all processes read: the checkpoint, the data, and for each file its setting, pair, rate and window."""
    import numpy as np

    from data.pair import MIN_SIDE
    from data.sources import open_source
    from utils.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(arguments.ckpt)
    rates = RATES if checkpoint.codec.variable_rate else (None,)
    root = arguments.data_root and str(Path(arguments.data_root).resolve())
    data = {"name": arguments.dataset, "split": arguments.split, "root": root, "limit": arguments.limit}
    source = open_source(**data)
    files = []
    for number in range(arguments.files):
        turn, place = divmod(number, len(names))
        lap, pair = divmod(turn, len(source))
        height, width = source[pair].x.shape[:2]
        rng = np.random.default_rng([arguments.seed, number])
        rows, columns = height, width
        if rng.random() < CROP_SHARE:
            rows, columns = (int(rng.integers(MIN_SIDE, edge + 1)) for edge in (height, width))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        files.append([names[place], pair, rates[(turn + lap) % len(rates)], top, left, rows, columns])
    return {"ckpt": str(checkpoint.path.resolve()), "data": data, "files": files}


def codec_as(setting: str, ckpt: str) -> Any:
    """The codec as a process of this setting runs it. Raises ConfigError for a GPU that is not there."""
    import torch

    from utils.checkpoint import load_checkpoint

    torch.set_num_threads(1 if setting == "threads1" else 2)
    if setting == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"The setting cuda needs a GPU that torch {torch.__version__} can use.")
    codec = load_checkpoint(ckpt, "cuda" if setting == "cuda" else "cpu").codec
    if setting == "channels_last":
        codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if setting == "compiled":
        torch._dynamo.config.cache_size_limit = 64  # Latents of different shapes each have their own graph.
        networks = [child for child in codec.children() if child is not codec.entropy]
        for network in (*networks, *codec.entropy.networks()):  # The entropy coder is no work of torch.
            network.compile(fullgraph=True, dynamic=True)
        h_s = codec.entropy.h_s
        h_s.integer_forward = torch.compile(h_s.integer_forward, fullgraph=True, dynamic=True)  # type: ignore
    return codec


def worker(stage: str, setting: str, folder: Path) -> None:
    """A process of its own. `encode`: NUMBER.bin of this setting's files. `decode`: all files. Then STAGE_SETTING.json
    has the SHA-256 of each y_hat, or the reason why a file was refused."""
    import torch

    from data.sources import open_source
    from data.tensors import to_float

    plan = json.loads((folder / PLAN).read_text())
    codec = codec_as(setting, plan["ckpt"])
    device = "cuda" if setting == "cuda" else "cpu"
    source = open_source(**plan["data"])
    found = {}
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=setting == "bf16"):
        for number, (sender, pair, rate, top, left, rows, columns) in enumerate(plan["files"]):
            path = folder / f"{number}.bin"
            if stage == "encode" and sender == setting:
                x = to_float(source[pair].x[top : top + rows, left : left + columns])
                coded = codec.code(x, rate)
                path.write_bytes(codec.pack(x, coded, rate))
                found[number] = digest(coded.y_hat)
            elif stage == "decode" and path.is_file():
                try:
                    found[number] = digest(codec.decode_latent(codec.unpack(path.read_bytes())))
                except BitstreamError as error:
                    found[number] = f"refused: {error}"
    if setting == "compiled" and not torch._dynamo.utils.counters["stats"]["unique_graphs"]:
        raise ConfigError("torch.compile compiled nothing; an environment variable may disable it.")
    (folder / f"{stage}_{setting}.json").write_text(json.dumps({"torch": torch.__version__, "found": found}))


def digest(y_hat: Any) -> str:
    """SHA-256 over type, shape and bytes of a latent."""
    array = y_hat.cpu().contiguous().numpy()
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def start(stage: str, setting: str, python: str, folder: Path) -> dict[str, Any] | str:
    """What a worker found, or its last words if it failed."""
    threads = "1" if setting == "threads1" else "2"
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    command = [python, str(Path(__file__).resolve()), "--worker", stage, setting, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    result: dict[str, Any] = json.loads((folder / f"{stage}_{setting}.json").read_text())
    return result


def check(names: dict[str, str], plan: dict[str, Any], folder: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Run all settings, {name: interpreter}: what differed, what could not run, and each setting's release of torch."""
    from tqdm import tqdm

    (folder / PLAN).write_text(json.dumps(plan))
    sent: dict[str, str] = {}
    differed, failures, releases = [], [], {}
    stages = [(stage, name) for stage in ("encode", "decode") for name in names]
    for stage, name in tqdm(stages, unit="process"):
        outcome = start(stage, name, names[name], folder)
        if isinstance(outcome, str):
            failures.append(f"{stage} {name}: {outcome}")
            continue
        releases[name] = outcome["torch"]
        if stage == "encode":
            sent |= outcome["found"]
            continue
        for number, found in outcome["found"].items():
            if number in sent and found != sent[number]:
                sender = plan["files"][int(number)][0]
                differed.append(f"file {number} of {sender} in {name}: {found if ':' in found else 'another y_hat'}")
    return differed, failures, releases


def main() -> int:
    """Check; the exit status."""
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
        return 0
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    add("--dataset", default="folder", help="default: folder")
    add("--data-root", metavar="DIR")
    add("--split", default="val", choices=("train", "val", "test"))
    add("--limit", type=int, metavar="N", help="use the first N pairs only")
    add("--files", type=int, default=1000, metavar="N", help="files in all (default: 1000)")
    add("--settings", nargs="+", choices=tuple(SETTINGS), metavar="NAME", help=f"of {', '.join(SETTINGS)}")
    add("--python", action="append", default=[], metavar="PATH", help="interpreter with another release of torch")
    add("--seed", type=int, default=0, metavar="S", help="which parts of the images are coded (default: 0)")
    arguments = parser.parse_args()

    import torch

    chosen = arguments.settings or [name for name in SETTINGS if name != "cuda" or torch.cuda.is_available()]
    names = dict.fromkeys(chosen, sys.executable)
    names |= {f"other{number}": python for number, python in enumerate(arguments.python, 1)}
    if arguments.files < len(names):
        raise ConfigError(f"--files is {arguments.files}; each of the {len(names)} settings must encode at least one.")
    with tempfile.TemporaryDirectory() as folder:
        differed, failures, releases = check(names, plan_of(arguments, list(names)), Path(folder))
    for name, release in releases.items():
        print(f"{name}: {SETTINGS.get(name, names[name])}, torch {release}")
    print(*differed[:20], *failures, sep="\n")
    outcome = {"files": arguments.files, "decodes": arguments.files * len(names), "mismatches": len(differed)}
    print(json.dumps(outcome | {"did_not_run": failures, "torch": releases}))
    return 1 if differed or failures else 0


if __name__ == "__main__":
    run(main)
