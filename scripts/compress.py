"""Compress an image to a file. The receiver will decode it with the other camera's image, which is not needed here.

python scripts/compress.py left.png left.bin --ckpt checkpoints/small --rate 0.5
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Compress; raises ProjectError with what to do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("image", metavar="IMAGE", help="PNG, JPEG, WebP or BMP, 8-bit RGB, 16 to 4096 pixels a side")
    parser.add_argument("file", metavar="FILE", type=Path, help="the compressed file to write")
    parser.add_argument("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    parser.add_argument(
        "--rate", type=float, metavar="R", help="0 smallest file to 1 largest; fixed-rate models take none"
    )
    arguments = parser.parse_args()

    # A dependency of CompressAI uses what torch deprecates; stderr is for what the reader can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from data.images import read_image
    from utils.checkpoint import load_checkpoint
    from utils.errors import ConfigError
    from utils.files import write_whole
    from utils.validation import to_float

    image = read_image(arguments.image)
    codec = load_checkpoint(arguments.ckpt).codec
    if codec.variable_rate and (arguments.rate is None or not 0 <= arguments.rate <= 1):
        given = "is missing" if arguments.rate is None else f"is {arguments.rate:g}"
        raise ConfigError(f"--rate {given}; this model needs one from 0 (smallest file) to 1 (largest).")
    if not codec.variable_rate and arguments.rate is not None:
        raise ConfigError(f"--rate does not apply to {arguments.ckpt}: it is a fixed-rate model; leave it out.")

    x = to_float(image)
    coded = codec.code(x, arguments.rate)
    data = codec.pack(x, coded, arguments.rate)
    write_whole(arguments.file, data)
    height, width = image.shape[:2]
    pixels = height * width
    print(
        f"{arguments.file}: {len(data)} bytes for {width}x{height}, {8 * len(data) / pixels:.4f} bpp "
        f"(estimated {float(coded.bits) / pixels:.4f})"
    )


if __name__ == "__main__":
    from utils.cli import run

    run(main)
