"""Decompress a file to a PNG, with the other camera's image as side information.

    python scripts/decompress.py left.bin decoded.png --side right.png --ckpt checkpoints/small

The same file, side image, checkpoint, steps and gamma give the same pixels on the same device, build and threads.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Decompress; raises ProjectError with what to do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a file that compress.py made with the same checkpoint")
    parser.add_argument("out", metavar="OUT.png", type=Path, help="the PNG to write")
    parser.add_argument(
        "--side",
        metavar="IMAGE",
        help="the other camera's image; without it, the learned null input, if the model has one",
    )
    parser.add_argument("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    parser.add_argument("--steps", type=int, metavar="N", help="decoding steps (default: the checkpoint's)")
    parser.add_argument(
        "--gamma", type=float, metavar="G", help="0 faithful to 1 realistic (default: the checkpoint's)"
    )
    arguments = parser.parse_args()

    # A dependency of CompressAI uses what torch deprecates; stderr is for what the reader can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from data.images import read_image
    from utils.checkpoint import load_checkpoint
    from utils.errors import BitstreamError, ConfigError
    from utils.files import png_bytes, read_whole, write_whole
    from utils.validation import to_float, to_uint8

    if arguments.out.suffix.lower() != ".png":
        raise ConfigError(f"The output {arguments.out} does not end in .png; decoded images are written without loss.")
    if arguments.steps is not None and arguments.steps < 1:
        raise ConfigError(f"--steps is {arguments.steps}; decoding takes at least one.")
    if arguments.gamma is not None and not 0 <= arguments.gamma <= 1:
        raise ConfigError(f"--gamma is {arguments.gamma:g}; it lies in 0 (faithful) to 1 (realistic).")
    data = read_whole(arguments.file)
    side = None if arguments.side is None else read_image(arguments.side)
    codec = load_checkpoint(arguments.ckpt).codec
    if side is None and codec.needs_side and not codec.accepts_no_side:
        raise ConfigError("--side is missing, and this model was trained without side dropout: give the side image.")
    try:
        x_hat = codec.decompress(
            data, None if side is None else to_float(side), steps=arguments.steps, gamma=arguments.gamma
        )
    except BitstreamError as error:
        raise BitstreamError(f"{arguments.file}: {error}") from None
    except ValueError as error:  # a side image of another size than the file's
        raise ConfigError(str(error)) from None
    write_whole(arguments.out, png_bytes(to_uint8(x_hat)))
    without = ", without a side image" if side is None and codec.needs_side else ""
    print(f"{arguments.out}: {x_hat.shape[2]}x{x_hat.shape[1]} from {len(data)} bytes{without}")


if __name__ == "__main__":
    from utils.cli import run

    run(main)
