"""Is there a gap between rates? The files of every rate level of a variable-rate checkpoint, from true bytes.

    python scripts/study_rates.py --ckpt checkpoints/small --data-root ../shared/kitti/protocol

Prints, in Markdown, the mean bpp of some levels, and how much larger the next level's files are: on average, and of the
image in which a single step is largest.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ConfigError

SHOWN = (0, 51, 102, 153, 204, 255)


def main() -> None:
    """See the module. Raises ConfigError for a fixed-rate checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    parser.add_argument(
        "--dataset", default="folder", choices=("kitti", "cityscapes", "folder", "synthetic", "builtin")
    )
    parser.add_argument("--data-root", default=None, metavar="DIR")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="only the first N pairs")
    args = parser.parse_args()
    # A dependency of CompressAI uses what torch deprecates; stderr is for what the reader can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")

    import numpy as np

    from data.sources import open_source
    from modules.codec import LEVELS
    from utils.checkpoint import load_checkpoint
    from utils.images import to_float
    from utils.markdown import table

    codec = load_checkpoint(args.ckpt).codec
    if not codec.variable_rate:
        raise ConfigError(f"{args.ckpt} is a fixed-rate model: it has one level, and no gap between levels.")
    source = open_source(args.dataset, split=args.split, root=args.data_root, limit=args.limit)
    if len(source) > LEVELS:
        raise ConfigError(f"{len(source)} pairs at {LEVELS} levels take long; say how many with --limit N.")
    images = [to_float(source[index].x) for index in range(len(source))]
    bits = np.array([[8 * len(codec.compress(x, level / (LEVELS - 1))) for x in images] for level in range(LEVELS)])
    bpp = bits / np.array([x.shape[1] * x.shape[2] for x in images])
    mean = bpp.mean(axis=1)
    steps, steps_of_images = mean[1:] / mean[:-1] - 1, bpp[1:] / bpp[:-1] - 1
    largest, of_image = int(steps.argmax()), np.unravel_index(steps_of_images.argmax(), steps_of_images.shape)
    print(f"`python {shlex.join(sys.argv)}`, {len(images)} images\n")
    print("\n".join(table(["rate level", "mean bpp"], [[str(level), f"{mean[level]:.4f}"] for level in SHOWN])))
    print(
        f"\nFrom one of the {LEVELS} levels to the next, files grow by {100 * steps.mean():.2f} % on average and by "
        f"{100 * steps[largest]:.2f} % at most (level {largest} to {largest + 1}), those of a single image by "
        f"{100 * steps_of_images.max():.2f} % at most (level {of_image[0]} to {of_image[0] + 1}); they shrink in "
        f"{int((steps < 0).sum())} of {LEVELS - 1} steps."
    )


if __name__ == "__main__":
    run(main)
