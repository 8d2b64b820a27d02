"""Evaluate checkpoints from real files, beside JPEG, WebP and AVIF. `python evaluate.py --ckpt X` is enough.

    python evaluate.py --ckpt checkpoints/small                     # the data set stored with the checkpoint
    python evaluate.py --ckpt checkpoints/small_kitti --steps 1 4 --gamma 0 0.5    # four curves of the same files
    python evaluate.py --ckpt checkpoints/small --rates 0.5 --side correct none jpeg:10 shift:2 light:-30 occluded:50
    torchrun --standalone --nproc_per_node 2 evaluate.py --ckpt checkpoints/small

The same command again continues an interrupted evaluation. Results: report.html, summary.json, images.csv,
rd_<metric>.png, bitstreams/ and reconstructions/ in the output folder.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import get_args

from config import Source
from utils.cli import Parser, run
from utils.evaluation.anchors import DEFAULT, NAMES
from utils.evaluation.side import USAGE


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; None: not given."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--ckpt", nargs="+", required=True, metavar="PATH", help="runs, checkpoint folders or model files")
    add(
        "--dataset", choices=get_args(Source),
        help="photos: single pictures, decoded without a side image (default: the checkpoint's)",
    )  # fmt: skip
    add("--data-root", metavar="DIR", help="default: the checkpoint's")
    add(
        "--split", choices=("train", "val", "test"), default="val",
        help="default: val, on which decisions are made; test is for a checkpoint about to be released",
    )  # fmt: skip
    add("--size", choices=("protocol", "full"), default="protocol", help="full: the original resolution")
    add(
        "--rates", nargs="+", type=float, metavar="R",
        help="0 smallest file to 1 largest (default: five, evenly over the rates that were trained)",
    )  # fmt: skip
    add("--steps", nargs="+", type=int, metavar="N", help="decoding steps (default: the checkpoint's)")
    add(
        "--gamma", nargs="+", type=float, metavar="G",
        help="noise that decoding starts from, 0 to 1 (default: the checkpoint's)",
    )  # fmt: skip
    add(
        "--side", nargs="+", metavar="SIDE",
        help=f"the decoder's side images, each at every rate: {USAGE}, for example shift:2 light:-30 occluded:50 "
        "(default: correct, and at the middle rate none and shuffled besides)",
    )  # fmt: skip
    add("--anchors", nargs="+", choices=(*NAMES, "none"), default=DEFAULT, help="default: the first three")
    add("--metrics", nargs="+", default="all", metavar="NAME", help="psnr, lpips_alex, fid, ... (default: all)")
    add("--limit", type=int, metavar="N", help="only the first N pairs")
    add("--out", metavar="DIR", help="default: results/NAME-DATASET-SPLIT-XXXXXX, the end made from the settings")
    add("--weights-dir", metavar="DIR", help="pretrained weights of metrics, prepared by scripts/fetch_weights.py")
    add("--tile-rows", type=int, metavar="N", help="rows of an image coded at a time, at least 192 (default: 1024)")
    add(
        "--precision", choices=("no", "bf16", "auto"), default="no",
        help="of the decoder's networks: bf16, or auto for it where the device has it (default: no, float32)",
    )  # fmt: skip
    add("--device", metavar="DEVICE", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    return parser.parse_args(arguments)


def command_line() -> str:
    """The command that made the report, as one would type it."""
    processes = os.environ.get("WORLD_SIZE", "1")
    launched = processes != "1" and "LOCAL_RANK" in os.environ
    launcher = f"torchrun --standalone --nproc_per_node {processes}" if launched else "python"
    return f"{launcher} evaluate.py {shlex.join(sys.argv[1:])}"


def main() -> None:
    """Evaluate; raises ProjectError with what to do."""
    options = parse()
    from utils.evaluation.pipeline import evaluate

    out = evaluate(options, command_line())
    if out is not None:
        print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    run(main)
