"""Pictures unlike any in the training data: what a model makes of them beside JPEG. Drawn by code, the same everywhere.

    python scripts/stress/content.py --ckpt checkpoints/small

One row a picture of 128x256, with itself, moved by four pixels, as side image: its bytes at the rate, and those of the
JPEG of the lowest quality that has at least its PSNR.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.cli import Parser, bar, run

HEIGHT, WIDTH = 128, 256
Image = NDArray[np.uint8]


def pictures() -> dict[str, Image]:
    """Name -> (128, 256, 3) uint8."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3))
    # Letters: random strokes two pixels wide, in cells of 10x8 with gaps between lines and letters.
    strokes = rng.integers(0, 2, (54, 120))
    strokes[::6], strokes[:, ::5] = 0, 0
    text = np.full((HEIGHT, WIDTH), 255)
    text[10:118, 8:248] -= 255 * strokes.repeat(2, axis=0).repeat(2, axis=1)
    # A night street: dark, noise of the sensor, a few lamps.
    night = 6 + 3 * rng.standard_normal((HEIGHT, WIDTH, 3))
    for top, left in ((20, 30), (35, 120), (24, 200)):
        night += 240 * np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / 40)[..., None] * (1, 0.9, 0.6)
    # A cartoon: flat areas of strong colours with black outlines.
    distance = np.hypot(rows - 64, columns - 128)
    cartoon = np.where((distance < 50)[..., None], (255, 220, 40), (90, 180, 255))
    cartoon = np.where((np.abs(distance - 50) < 2)[..., None], 0, cartoon)
    ramp = np.stack([columns, 255 - columns, 2 * rows], axis=-1)
    chequers = 255 * ((rows + columns) % 2)
    drawn = {"text on white": text, "one-pixel chequers": chequers, "night": night, "cartoon": cartoon}
    drawn |= {"noise": noise, "gradients": ramp, "white": np.full((HEIGHT, WIDTH), 255)}
    drawn |= {"flat green": np.broadcast_to((0, 255, 0), (HEIGHT, WIDTH, 3))}
    return {
        name: np.ascontiguousarray(np.broadcast_to(p[..., None] if p.ndim == 2 else p, (HEIGHT, WIDTH, 3)).clip(0, 255))
        .round()
        .astype(np.uint8)
        for name, p in drawn.items()
    }


def psnr(x: Image, x_hat: Image) -> float:
    """In dB; 100 for equal images."""
    error = np.square(x.astype(float) - x_hat).mean()
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))


def main() -> None:
    """Print the table; raises ProjectError with what to do."""
    from data.tensors import to_float, to_uint8
    from utils.checkpoint import load_checkpoint
    from utils.evaluation import anchors

    parser = Parser(__doc__)
    parser.add_argument("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    parser.add_argument("--rate", type=float, default=0.5, metavar="R", help="0 smallest file to 1 (default: 0.5)")
    arguments = parser.parse_args()
    codec = load_checkpoint(arguments.ckpt).codec
    lines = []
    for name, x in bar("coding", "picture")([*pictures().items()]):
        data = codec.compress(to_float(x), arguments.rate)
        x_hat = to_uint8(codec.decompress(data, to_float(np.roll(x, -4, axis=1))))
        quality = psnr(x, x_hat)
        error = np.abs(x.astype(float) - x_hat).reshape(-1, 3)
        files = (anchors.encode("jpeg", x, q) for q in range(1, 101))
        jpeg = next((len(f) for f in files if psnr(x, anchors.decode(f)) >= quality), None)
        means = ", ".join(f"{value:.1f}" for value in error.mean(0))
        lines.append([name, str(len(data)), f"{quality:.1f}", str(jpeg or "-"), means, f"{error.max():.0f}"])
    titles = ["picture", "bytes", "PSNR dB", "JPEG bytes", "mean error R, G, B", "largest error"]
    for cells in (titles, ["---"] * len(titles), *lines):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    run(main)
