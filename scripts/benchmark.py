"""Speed of our codec beside the published distributed codec, JPEG, WebP and AVIF, timed in turn in one process.

    python scripts/benchmark.py --ckpt checkpoints/small --json results/speed.json

Prints a table, and ratios with their targets. Training is timed as `--preset` trains. Leave the machine alone
meanwhile; its load is in the JSON.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--ckpt", metavar="C", help="run, checkpoint folder or model file (default: fresh weights of --preset)")
    add("--preset", default="small", help="ours without --ckpt, and how ours is trained (default: small)")
    add("--rate", type=float, default=0.5, metavar="R", help="0 smallest file to 1 largest (default: 0.5)")
    add("--steps", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="our decoding steps (default: 1 2 4)")
    add("--dataset", choices=("synthetic", "builtin"), default="synthetic", help="builtin: a real photograph's crops")
    add(
        "--sizes", nargs="+", metavar="HxW",
        help="pixels; the published codec and training at the first (default: 128x256, and 1080x1920 on CUDA)",
    )  # fmt: skip
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    add("--threads", type=int, metavar="N", help="of PyTorch on the CPU (default: PyTorch's choice)")
    add("--turns", type=int, metavar="N", help="times each operation is timed (default: 15; 5 for training)")
    add(
        "--budget", type=float, default=600.0, metavar="S",
        help="seconds of the whole: what does not fit is left out, and named (default: 600)",
    )  # fmt: skip
    add("--batch", type=int, metavar="N", help="pairs of a training step (default: 4)")
    add(
        "--paper-steps", type=int, metavar="N",
        help="the published codec's decoding steps that are run; the others are multiplied (default: 5; 200: all)",
    )  # fmt: skip
    add("--quality", type=int, default=30, metavar="Q", help="of JPEG, WebP and AVIF, 1 to 100 (default: 30)")
    add("--compile", action="store_true", help="time our encoding and decoding with torch.compile too")
    add("--skip", nargs="+", choices=("paper", "anchors", "training"), default=[], help="do not measure these")
    add("--quick", action="store_true", help="two turns of single calls, 2 published steps, batch 1: no true figures")
    add("--profile", action="store_true", help="print the top operators of our encode and decode instead")
    add("--json", type=Path, metavar="FILE", help="write rows, ratios and machine here")
    return parser.parse_args()


def size_of(text: str) -> tuple[int, int]:
    """ "128x256" -> (128, 256), height and width. Raises ConfigError."""
    from utils.errors import ConfigError

    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--sizes has {text!r}; a size is written as height x width, for example 128x256.")
    return int(parts[0]), int(parts[1])


def settings_of(arguments: argparse.Namespace) -> Any:
    """The session that the command line asks for. Raises ConfigError for values out of range."""
    import torch

    from utils.benchmark.session import Settings
    from utils.benchmark.timing import Turns
    from utils.errors import ConfigError

    for name in ("turns", "batch", "threads", "paper_steps"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")
    if not arguments.budget > 0:
        raise ConfigError(f"--budget is {arguments.budget:g}; give a positive number of seconds.")
    if not 0 <= arguments.rate <= 1:
        raise ConfigError(f"--rate is {arguments.rate:g}; it lies in 0 (smallest file) to 1 (largest).")
    if not 1 <= arguments.quality <= 100:
        raise ConfigError(f"--quality is {arguments.quality}; it lies in 1 to 100.")
    if min(arguments.steps) < 1 or len(set(arguments.steps)) < len(arguments.steps):
        raise ConfigError(f"--steps has {arguments.steps}; give different numbers of at least 1.")
    try:
        device = torch.device(arguments.device)
    except RuntimeError:
        raise ConfigError(f"There is no device {arguments.device!r}; choose cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"--device {arguments.device} cannot be used here; choose cpu, or cuda where there is a GPU.")
    sizes = arguments.sizes or ["128x256", *(["1080x1920"] if device.type == "cuda" else [])]
    quick = arguments.quick
    turns = arguments.turns or (2 if quick else 15)
    return Settings(
        device=device,
        sizes=tuple(size_of(size) for size in dict.fromkeys(sizes)),
        turns=Turns(turns, shortest=0.0 if quick else 0.1),
        # Several short steps to a turn: how many samples are denoised twice is drawn at random.
        training_turns=Turns(arguments.turns or (1 if quick else 5), shortest=0.0 if quick else 3.0),
        steps=tuple(arguments.steps),
        checkpoint=arguments.ckpt,
        preset=arguments.preset,
        rate=arguments.rate,
        dataset=arguments.dataset,
        quality=arguments.quality,
        paper_steps=arguments.paper_steps or (2 if quick else 5),
        batch=arguments.batch or (1 if quick else 4),
        skip=tuple(arguments.skip),
        compiled=arguments.compile,
        budget=math.inf if quick else arguments.budget,
    )


def main() -> None:
    """Measure or profile; raises ProjectError with what to do."""
    arguments = parse()
    from tqdm import tqdm

    from utils.benchmark import results, session
    from utils.benchmark.profile import top_operators
    from utils.outputs import refuse_overwriting
    from utils.run import write_json

    refuse_overwriting([arguments.json], [arguments.ckpt])
    settings = settings_of(arguments)
    with session.threads(arguments.threads):
        if arguments.profile:
            pair = session.pairs_of(settings, "test", settings.sizes[0], 1)[0]
            subjects = session.our_subjects(settings, session.load_ours(settings), pair)
            for what, operators in top_operators(subjects, settings.device):
                print(f"{what}\n{operators}")
            return
        rows, result = session.measure(settings, lambda line: tqdm.write(line, file=sys.stderr))
    result["command"] = f"python {shlex.join(sys.argv)}"
    machine = result["machine"]
    print(results.table(rows))
    print(
        f"\n{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; {machine['device']}; "
        f"torch {machine['packages']['torch']}; load average {machine['load_average_before']} before, "
        f"{machine['load_average_after']} after"
    )
    for name, codec_of in result["codecs"].items():
        print(f"{name}: {codec_of['parameters'] / 1e6:.2f} M parameters, {codec_of['weights']}")
    print("\n".join(result["notes"]))
    print(results.verdicts(result["verdicts"]))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, result)


if __name__ == "__main__":
    from utils.cli import run

    run(main)
