"""Does a file decode to the same y_hat everywhere? Encodes under each setting, decodes every file under all of them.

    python scripts/cross_check.py --ckpt checkpoints/small --data-root DIR --python /other/environment/bin/python

Each setting runs in processes of its own: 1 and 2 threads, bfloat16 autocast, channels_last, batched analysis,
torch.compile, a GPU where there is one, and other releases of torch (--python). Half of the files hold a part of their
image, from 16x16 pixels up. What must agree, bit for bit, is the y_hat that the sender computed and the one that each
receiver decodes. --pictures are reconstructed too: twice under the same setting with equal floats, and between 1 and 2
threads within one grey level. Prints Markdown and, as the last line, JSON; the exit status is 1 if anything differed or
a setting could not run.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.crosscheck.settings import SETTINGS, other

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    add("--dataset", default="folder", choices=("kitti", "cityscapes", "folder", "synthetic", "builtin"))
    add("--data-root", metavar="DIR")
    add("--split", default="val", choices=("train", "val", "test"))
    add("--limit", type=int, metavar="N", help="use the first N pairs only")
    add("--files", type=int, default=1000, metavar="N", help="files in all (default: 1000)")
    add("--rates", type=float, nargs="+", metavar="R", help="0 smallest file to 1 largest (default: 0 0.25 0.5 0.75 1)")
    add(
        "--settings", nargs="+", choices=tuple(SETTINGS), metavar="NAME",
        help=f"of {', '.join(SETTINGS)} (default: all, cuda where there is a GPU)",
    )  # fmt: skip
    add(
        "--python", action="append", default=[], metavar="PATH",
        help="interpreter of an environment with another release of torch; may be given several times",
    )  # fmt: skip
    add("--pictures", type=int, default=20, metavar="N", help="files that are also reconstructed (default: 20)")
    add("--steps", type=int, metavar="N", help="decoding steps of pictures (default: the model's)")
    add("--gamma", type=float, metavar="G", help="realism of pictures, 0 to 1 (default: the model's)")
    add("--seed", type=int, default=0, metavar="S", help="which parts of the images are coded (default: 0)")
    add("--work", type=Path, metavar="DIR", help="keep files, latents and pictures in this new folder")
    add("--out", type=Path, metavar="FILE", help="write the Markdown here too")
    return parser.parse_args()


def plan_of(arguments: argparse.Namespace) -> Any:
    """The plan that the command line asks for. Raises ConfigError, CheckpointError, DataError."""
    import torch

    from utils.checkpoint import load_checkpoint
    from utils.crosscheck.plan import Data, Plan, assign

    names = arguments.settings or [name for name in SETTINGS if name != "cuda" or torch.cuda.is_available()]
    settings = [SETTINGS[name] for name in dict.fromkeys(names)]
    settings += [other(number, python) for number, python in enumerate(arguments.python, 1)]
    checkpoint = load_checkpoint(arguments.ckpt)
    rates = rates_of(arguments, checkpoint.codec.variable_rate)
    check_numbers(arguments, len(settings))
    root = arguments.data_root and str(Path(arguments.data_root).expanduser().resolve())
    data = Data(arguments.dataset, arguments.split, root, arguments.limit)
    files = assign(data.open(), settings, rates, arguments.files, arguments.seed)
    pictures = tuple(i * len(files) // arguments.pictures for i in range(arguments.pictures))
    return Plan(
        str(checkpoint.path.resolve()), data, tuple(settings), files, pictures, arguments.steps, arguments.gamma
    )


def rates_of(arguments: argparse.Namespace, variable: bool) -> list[float | None]:
    """The rates to encode at. Raises ConfigError for values out of range, and for any with a fixed-rate model."""
    from utils.errors import ConfigError

    if not variable:
        if arguments.rates:
            raise ConfigError(f"--rates does not apply to {arguments.ckpt}: it is a fixed-rate model; leave it out.")
        return [None]
    rates = list(dict.fromkeys(arguments.rates or RATES))
    for rate in rates:
        if not 0 <= rate <= 1:
            raise ConfigError(f"--rates has {rate:g}; a rate lies in 0 (smallest file) to 1 (largest).")
    return rates


def check_numbers(arguments: argparse.Namespace, settings: int) -> None:
    """Raises ConfigError for numbers out of range, and for a folder in use."""
    from utils.errors import ConfigError

    if arguments.files < settings:
        raise ConfigError(f"--files is {arguments.files}; each of the {settings} settings must encode at least one.")
    if not 0 <= arguments.pictures <= arguments.files:
        raise ConfigError(f"--pictures is {arguments.pictures}; it lies in 0 to the number of files.")
    if arguments.seed < 0:
        raise ConfigError(f"--seed is {arguments.seed}; it must be at least 0.")
    if arguments.steps is not None and arguments.steps < 1:
        raise ConfigError(f"--steps is {arguments.steps}; decoding takes at least one.")
    if arguments.gamma is not None and not 0 <= arguments.gamma <= 1:
        raise ConfigError(f"--gamma is {arguments.gamma:g}; it lies in 0 (mean-like) to 1 (realistic).")
    if arguments.work is not None and arguments.work.exists():
        raise ConfigError(f"--work {arguments.work} exists already; name a new folder.")


def main() -> int:
    """Check; the exit status."""
    arguments = parse()
    from utils.crosscheck import report, session
    from utils.files import write_whole, writing
    from utils.outputs import refuse_overwriting

    refuse_overwriting([arguments.out], [arguments.ckpt, arguments.data_root])
    plan = plan_of(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        outcome = session.check(plan, folder, lambda line: print(line, file=sys.stderr, flush=True))
    text = report.markdown(outcome, f"python {shlex.join(sys.argv)}")
    print(text)
    if arguments.out is not None:
        with writing(arguments.out):
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.out, text.encode())
    print(report.summary(outcome))
    return 0 if outcome.passed() else 1


if __name__ == "__main__":
    from utils.cli import run

    run(main)
