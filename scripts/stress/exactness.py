"""What do exact integers cost? The codec with the integers that feed its coder, and with the same network in floats.

Both code the same latents y. The floats round nothing but the symbols: no fixed point in weights, activations, means
and gains, no table of 64 scales, no integer probabilities. Prints a Markdown table, the difference in BD-rate
(positive: lost by the integers), and the bound that makes the integers exact; Ctrl-C ends with the rates so far. The
last line is the result as JSON; the exit status is 1 if more than --allowed percent is lost.

    python scripts/stress/exactness.py --ckpt runs/small --data-root DIR --split val
    python scripts/stress/exactness.py --ckpt checkpoints/small --bounds    # only the bound, which needs no data
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.cli import run
from utils.errors import ConfigError
from utils.markdown import publish, table
from utils.outputs import refuse_overwriting

if TYPE_CHECKING:
    from modules.codec import Codec
    from scripts.stress.float_entropy import Loss, Measured

COLUMNS = (
    "rate", "float bpp", "integer bpp", "lost", "file bpp", "float PSNR dB", "integer PSNR dB", "lost dB",
    "other symbols of y",
)  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--ckpt", required=True, metavar="PATH", help="a run or checkpoint folder, or a model file")
    parser.add_argument(
        "--dataset", default="folder", choices=["kitti", "cityscapes", "folder", "synthetic", "builtin"]
    )
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--limit", type=int, default=None, help="only the first pairs")
    parser.add_argument("--allowed", type=float, default=1.0, metavar="PERCENT", help="of BD-rate lost (default: 1)")
    parser.add_argument("--bounds", action="store_true", help="only the bound on the integers' sums")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="Markdown file to write")
    return parser.parse_args()


def main() -> int:
    """See the module."""
    args = parse()
    refuse_overwriting([args.out], [args.ckpt])
    from utils.checkpoint import load_checkpoint

    loaded = load_checkpoint(args.ckpt)
    lines = [f"`python {shlex.join(sys.argv)}`, step {loaded.step}", ""]
    bound_lines, result = bounds(loaded.codec)
    status = 0
    if not args.bounds:
        report, measured, status = study(args, loaded.codec, loaded.path)
        lines += [*report, ""]
        result = measured | result
    publish([*lines, *bound_lines], args.out)
    print(json.dumps(result))
    return status


def bounds(codec: Codec) -> tuple[list[str], dict[str, Any]]:
    """The largest magnitude that a sum of each layer can reach, as Markdown and for JSON."""
    sums = codec.entropy.h_s.largest_sums()
    rows = [[str(i), f"{s} = 2^{math.log2(s):.2f}", f"{2**53 / s:.0f}"] for i, s in enumerate(sums)]
    return table(["layer of h_s", "largest sum", "below 2^53 by a factor of"], rows), {
        "largest_sums": sums,
        "exact_limit": 2**53,
    }


def study(args: argparse.Namespace, codec: Codec, file: Path) -> tuple[list[str], dict[str, Any], int]:
    """Markdown lines, what JSON tells, and the exit status."""
    from tqdm import tqdm

    from data.sources import open_source
    from scripts.stress import float_entropy

    if args.allowed < 0:
        raise ConfigError(f"--allowed is {args.allowed}; it must be at least 0.")
    source = open_source(args.dataset, split=args.split, root=args.data_root, limit=args.limit)
    unrounded = float_entropy.unrounded_weights(codec, file)
    rates = sorted(set(args.rates)) if codec.variable_rate else [None]
    points: list[Measured] = []
    try:
        for rate in tqdm(rates, unit="rate", disable=None):
            points.append(float_entropy.measure(codec, unrounded, source, rate))
    except KeyboardInterrupt:
        print(f"stopped by SIGINT after {len(points)} of {len(rates)} rates", file=sys.stderr)
        if not points:
            raise
    losses = {name: float_entropy.loss(points, list(source.groups), name == "files") for name in ("ideal", "files")}
    weights = (
        "Float weights as trained, before their rounding to integers."
        if unrounded is not None
        else "No training state lies beside the checkpoint, so the floats have the integers' weights: **the rounding "
        "of weights is not included**."
    )
    lines = [
        f"{source.name}, split {args.split}, {len(source)} pairs in {len(set(source.groups))} groups, "
        f"steps {codec.default_steps}, gamma {codec.default_gamma:g}. {weights} Both code the same y; bpp is the ideal "
        "code length, `file bpp` that of true bytes.",
        "",
        *table(COLUMNS, [row(point) for point in points]),
        "",
        f"BD-rate of the integers' ideal code length against the floats': {say(losses['ideal'])}.",
        f"BD-rate of true files, with header, integer probabilities and coder, against the floats' ideal code length: "
        f"{say(losses['files'])}.",
    ]
    result = {
        "pairs": len(source),
        "rounding_of_weights_included": unrounded is not None,
        "points": [point.means() for point in points],
        "bd_rate_percent": {name: value.rate for name, value in losses.items()},
        "bd_rate_ci95": {name: value.interval for name, value in losses.items()},
        "allowed_percent": args.allowed,
    }
    lost = losses["ideal"].rate
    if lost is not None and lost > args.allowed:
        lines.append(f"**That is more than the {args.allowed:g} % allowed.**")
        return lines, result, 1
    return lines, result, 0 if len(points) == len(rates) else 128 + signal.SIGINT


def row(point: Measured) -> list[str]:
    """The cells under COLUMNS."""
    ideal, integer, file = (float(bpp.mean()) for bpp in (point.bpp_float, point.bpp_integer, point.bpp_file))
    before, after = float(point.psnr_float.mean()), float(point.psnr_integer.mean())
    return [
        "-" if point.rate is None else f"{point.rate:g}",
        f"{ideal:.5f}",
        f"{integer:.5f}",
        f"{100 * (integer / ideal - 1):+.3f} %",
        f"{file:.5f}",
        f"{before:.4f}",
        f"{after:.4f}",
        f"{before - after:+.4f}",
        f"{100 * float(point.other_symbols.mean()):.3f} %",
    ]


def say(loss: Loss) -> str:
    """A figure with its interval, or the reason why there is none."""
    if loss.rate is None:
        return f"none ({loss.reason})"
    interval = f" (95 % over groups: {loss.interval[0]:+.3f} to {loss.interval[1]:+.3f})" if loss.interval else ""
    return f"**{loss.rate:+.3f} %**{interval}"


if __name__ == "__main__":
    run(main)
