"""Compress an image to a file. The receiver will decode it with the other camera's image, which is not needed here.

    python scripts/compress.py left.png left.bin --ckpt checkpoints/small --rate 0.5
    python scripts/compress.py left.png left.bin --ckpt checkpoints/small --bytes 400
    python scripts/compress.py LEFT_DIR OUT_DIR --ckpt checkpoints/small --bpp 0.1 --workers 4

With --bytes or --bpp the file is never larger than that: the highest of the 256 rate levels is taken that fits. Sizes
rise with the level but for a few bytes, and the three levels above the one taken are tried too.

Of a folder, every image directly in it becomes OUT_DIR/NAME.bin. The same command again continues: whole files are
kept. Bad images are reported at the end, and the exit status is then 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, bar, run


def main() -> int:
    """Compress; the exit status. Raises ProjectError with what to do."""
    parser = Parser(__doc__)
    parser.add_argument(
        "image",
        metavar="IMAGE",
        type=Path,
        help="8-bit PNG, JPEG, WebP, BMP, TIFF, AVIF or MPO (its first picture), 16 to 4096 pixels a side; or a folder",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the compressed file to write; for a folder, a folder")
    parser.add_argument("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--rate", type=float, metavar="R", help="0 smallest file to 1 largest; fixed-rate models take none"
    )
    size.add_argument("--bytes", type=int, metavar="N", help="instead of --rate: the largest file of at most N bytes")
    size.add_argument(
        "--bpp", type=float, metavar="B", help="instead of --rate: at most B bits a pixel, header included"
    )
    parser.add_argument(
        "--tile-rows",
        type=int,
        metavar="N",
        help="rows of an image that are encoded at a time, at least 192: fewer take less memory and more time "
        "(default: 1024)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes for a folder (default: 1), one thread each")
    arguments = parser.parse_args()

    from data.images import read_image
    from data.tensors import to_float
    from modules.budget import TRIES
    from utils.checkpoint import find_model_file
    from utils.coding.batch import check_workers
    from utils.coding.batch_coding import RateChoice, compress_folder, load_encoder
    from utils.errors import ConfigError
    from utils.files import MANIFEST, write_whole
    from utils.outputs import ends_like_a_picture, refuse_lost_pictures, refuse_overwriting

    choice = RateChoice(arguments.rate, arguments.bytes, arguments.bpp)
    workers = check_workers(arguments.workers, arguments.image)
    if ends_like_a_picture(arguments.file) and not arguments.file.is_dir():
        raise ConfigError(
            f"The output {arguments.file} ends like a picture, which a compressed file is not; name it "
            f"{arguments.file.with_suffix('.bin').name}, for example."
        )
    if arguments.image.is_dir():
        return compress_folder(
            arguments.image, arguments.file, arguments.ckpt, choice, workers, tile_rows=arguments.tile_rows
        )
    model = find_model_file(arguments.ckpt)
    refuse_overwriting([arguments.file], [arguments.image, model, model.with_name(MANIFEST)])
    refuse_lost_pictures([arguments.file])
    image = read_image(arguments.image)
    codec = load_encoder(arguments.ckpt, choice, arguments.tile_rows)
    codec.walk = bar("encoding", "strip")
    height, width = image.shape[:2]
    pixels = height * width
    x = to_float(image)
    if choice.has_budget:
        with bar("rate levels", "level")(total=TRIES) as tries:
            data = choice.compress(codec, x, tries.update)
        note = f"rate level {codec.unpack(data, pixels).level} of 255"
    else:
        coded = codec.code(x, arguments.rate)
        data = codec.pack(x, coded, arguments.rate)
        note = f"estimated {float(coded.bits) / pixels:.4f}"
    write_whole(arguments.file, data)
    print(f"{arguments.file}: {len(data)} bytes for {width}x{height}, {8 * len(data) / pixels:.4f} bpp ({note})")
    return 0


if __name__ == "__main__":
    run(main)
