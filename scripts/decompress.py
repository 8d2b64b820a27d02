"""Decompress a file to a PNG, with the other camera's image as side information.

    python scripts/decompress.py left.bin decoded.png --side right.png --ckpt checkpoints/small
    python scripts/decompress.py FILES_DIR OUT_DIR --side RIGHT_DIR --ckpt checkpoints/small --workers 4

Of a folder, every NAME.bin directly in it becomes OUT_DIR/NAME.png, with the side image RIGHT_DIR/NAME.png (or another
ending). The same command again continues: whole images are kept. Bad files are reported at the end, and the exit status
is then 1.

The same file, side image, checkpoint, steps, gamma, precision and tile rows give the same pixels on the same device,
build and threads.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, bar, run


def main() -> int:
    """Decompress; the exit status. Raises ProjectError with what to do."""
    parser = Parser(__doc__)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="a file that compress.py made with the same checkpoint; or a folder"
    )
    parser.add_argument("out", metavar="OUT.png", type=Path, help="the PNG to write; for a folder, a folder")
    parser.add_argument(
        "--side",
        metavar="IMAGE",
        type=Path,
        help="the other camera's image (of an MPO, its second picture), or their folder; without it, the learned null "
        "input, if the model has one",
    )
    parser.add_argument("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    parser.add_argument("--steps", type=int, metavar="N", help="decoding steps (default: the checkpoint's)")
    parser.add_argument(
        "--gamma", type=float, metavar="G", help="0 faithful to 1 realistic (default: the checkpoint's)"
    )
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", help="refuse files of larger images (default: 8388608, as 4096x2048)"
    )
    parser.add_argument(
        "--tile-rows",
        type=int,
        metavar="N",
        help="rows of an image that are decoded at a time, at least 192: fewer take less memory and more time "
        "(default: 1024)",
    )
    parser.add_argument(
        "--precision",
        choices=("no", "bf16", "auto"),
        default="no",
        help="bf16: networks in bfloat16, faster where the processor has it; auto: only there (default: no, float32)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes for a folder (default: 1), one thread each")
    arguments = parser.parse_args()

    from data.images import read_image
    from data.tensors import to_float, to_uint8
    from modules.bitstream import largest_file
    from modules.codec import MAX_PIXELS
    from utils.checkpoint import find_model_file
    from utils.coding.batch import check_workers
    from utils.coding.batch_coding import decompress_folder, load_decoder
    from utils.errors import BitstreamError, ConfigError
    from utils.files import png_bytes, read_whole, write_whole
    from utils.outputs import ends_like_a_picture, refuse_lost_pictures, refuse_overwriting

    folder = arguments.file.is_dir()
    if folder and arguments.out.suffix.lower() == ".png":
        raise ConfigError(
            f"{arguments.file} is a folder and cannot be read into one PNG; name a file, or a folder for all."
        )
    if not folder and arguments.out.suffix.lower() != ".png":
        raise ConfigError(f"The output {arguments.out} does not end in .png; decoded images are written without loss.")
    if not folder and ends_like_a_picture(arguments.file):
        raise ConfigError(f"{arguments.file} ends like a picture; name a compressed file, as compress.py makes them.")
    if arguments.steps is not None and arguments.steps < 1:
        raise ConfigError(f"--steps is {arguments.steps}; decoding takes at least one.")
    if arguments.gamma is not None and not 0 <= arguments.gamma <= 1:
        raise ConfigError(f"--gamma is {arguments.gamma:g}; it lies in 0 (faithful) to 1 (realistic).")
    if arguments.max_pixels is not None and arguments.max_pixels < 256:
        raise ConfigError(f"--max-pixels is {arguments.max_pixels}; the smallest image has 256.")
    max_pixels = arguments.max_pixels or MAX_PIXELS
    workers = check_workers(arguments.workers, arguments.file)
    options = {"steps": arguments.steps, "gamma": arguments.gamma, "max_pixels": max_pixels}
    coding = {"tile_rows": arguments.tile_rows, "precision": arguments.precision}
    if folder:
        return decompress_folder(
            arguments.file, arguments.out, arguments.side, arguments.ckpt, workers, **options, **coding
        )
    refuse_overwriting([arguments.out], [arguments.file, arguments.side, find_model_file(arguments.ckpt)])
    refuse_lost_pictures([arguments.out])
    data = read_whole(arguments.file, largest_file(max_pixels))
    side = None if arguments.side is None else read_image(arguments.side, side=True)
    codec = load_decoder(arguments.ckpt, arguments.side, **coding)
    codec.walk = bar("decoding", "part")
    try:
        x_hat = codec.decompress(data, None if side is None else to_float(side), **options)
    except BitstreamError as error:
        raise BitstreamError(f"{arguments.file}: {error}") from None
    except ValueError as error:  # a side image of another size than the file's
        raise ConfigError(str(error)) from None
    write_whole(arguments.out, png_bytes(to_uint8(x_hat)))
    without = ", without a side image" if side is None and codec.needs_side else ""
    print(f"{arguments.out}: {x_hat.shape[2]}x{x_hat.shape[1]} from {len(data)} bytes{without}")
    return 0


if __name__ == "__main__":
    run(main)
