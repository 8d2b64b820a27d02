"""What steps and gamma do to the same files: checkpoints x steps x gamma at a rate, with 95 % intervals over groups.

Quality, realism, high-frequency energy, and how far two seeds differ. Prints a Markdown table and writes it, with the
command, to OUT.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.outputs import refuse_overwriting

METRICS = ("psnr", "cvvdp", "effnet_dist", "kd_effnet")
COLUMNS = ("checkpoint", "steps", "gamma", *METRICS, "high-frequency energy", "difference of two seeds / 255")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ckpt", required=True, nargs="+", metavar="PATH")
    parser.add_argument(
        "--dataset", default="folder", choices=["kitti", "cityscapes", "folder", "synthetic", "builtin"]
    )
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument(
        "--rate", type=float, nargs="+", default=[0.5], help="0 (smallest file) to 1; one, or one for each checkpoint"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 25])
    parser.add_argument("--gamma", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="Markdown file to write")
    args = parser.parse_args()
    refuse_overwriting([args.out], args.ckpt)
    if len(args.rate) not in (1, len(args.ckpt)):
        parser.error(f"--rate has {len(args.rate)} values for {len(args.ckpt)} checkpoints; give one, or one for each.")

    import numpy as np

    from data.sources import open_source
    from modules.diffusion_codec import DiffusionCodec
    from utils.checkpoint import load_checkpoint
    from utils.images import to_float, to_uint8
    from utils.markdown import publish, table
    from utils.metrics import MetricSuite

    source = open_source(args.dataset, split=args.split, root=args.data_root, limit=args.limit)
    pairs = [source[i] for i in range(len(source))]
    suite = MetricSuite(METRICS)
    references = [suite.features(pair.x)[0] for pair in pairs]
    energy = np.mean([high_frequency_energy(pair.x) for pair in pairs])

    rows, rates = [], []
    for path, rate in zip(args.ckpt, args.rate * (len(args.ckpt) // len(args.rate)), strict=True):
        codec = load_checkpoint(path).codec
        files = [codec.compress(to_float(pair.x), rate if codec.variable_rate else None) for pair in pairs]
        bpp = np.mean([8 * len(f) / (p.x.shape[0] * p.x.shape[1]) for f, p in zip(files, pairs, strict=True)])
        rates.append(f"{Path(path).name} {bpp:.4f}")
        for steps in args.steps:
            # Without noise the first estimate of x0 is the last.
            x0 = isinstance(codec, DiffusionCodec) and codec.process.prediction == "x0"
            once = x0 and steps > min(args.steps)
            for gamma in [g for g in args.gamma if g > 0 or not once]:
                seeds = [
                    [
                        to_uint8(codec.decompress(f, to_float(p.x_side), steps=steps, gamma=gamma, seed=seed))
                        for f, p in zip(files, pairs, strict=True)
                    ]
                    for seed in (1, 2)
                ]
                hats = seeds[0]
                measured = [suite.measure(pair.x, hat) for pair, hat in zip(pairs, hats, strict=True)]
                features = [suite.features(hat)[0] for hat in hats]
                summary = suite.summarise(measured, source.groups, references, features)
                difference = np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(*seeds, strict=True)])
                rows.append(
                    (
                        Path(path).name,
                        str(steps),
                        f"{gamma:g}",
                        *(_with_interval(summary[name]) for name in METRICS),
                        f"{np.mean([high_frequency_energy(hat) for hat in hats]) / energy:.3f}",
                        f"{difference:.2f}",
                    )
                )
    lines = [
        f"{source.name}, split {args.split}, {len(pairs)} pairs; bpp of true file bytes: {', '.join(rates)}."
        " High-frequency energy: relative to the originals', luma, frequencies above half of Nyquist. In brackets: 95 %"
        " intervals over groups. A codec whose image at gamma 0 is the same for all numbers of steps has it once.",
        "",
        f"`python {shlex.join(sys.argv)}`",
        "",
        *table(COLUMNS, rows),
    ]
    publish(lines, args.out)


def high_frequency_energy(image):  # type: ignore[no-untyped-def]
    """Energy of an image's luma (uint8 (H, W, 3)) at frequencies above half of Nyquist in either direction."""
    import numpy as np

    luma = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    spectrum = np.abs(np.fft.fft2(luma - luma.mean())) ** 2 / luma.size
    rows, columns = np.abs(np.fft.fftfreq(luma.shape[0])), np.abs(np.fft.fftfreq(luma.shape[1]))
    return float(spectrum[np.maximum(rows[:, None], columns[None, :]) > 0.25].sum())


def _with_interval(entry):  # type: ignore[no-untyped-def]
    if "unavailable" in entry:
        return "unavailable"
    value = entry["mean"] if "mean" in entry else entry["value"]
    interval = entry.get("ci95")
    return f"{value:.4g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


if __name__ == "__main__":
    run(main)
