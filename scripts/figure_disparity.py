"""What the attention knows of the geometry: disparity maps that decoding makes, as a figure and a table of errors.

    python scripts/figure_disparity.py --ckpt checkpoints/small --data-root ../shared/kitti/protocol \\
        --out docs/figures/disparity.png

Each pair is coded at one rate; the maps are those of decoding its file. The figure has the first pair of `synthetic`
and of `builtin`, with their ground truth, and of KITTI, where x_side warped by a map is compared with x instead. The
table has the means over more pairs, beside what needs no attention: a disparity of 0, and the best constant for each
pair. Of the heads of a scale, the one shown has the best match on other synthetic scenes (split val). Prints Markdown.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ConfigError
from utils.outputs import refuse_overwriting

if TYPE_CHECKING:
    from modules.codec import Codec
    from utils.disparity import Map, Source
    from utils.disparity_figure import Row
    from utils.disparity_study import Reading

RIGHTS = (
    "KITTI images: Geiger et al. 2012, Menze and Geiger 2015, CC BY-NC-SA 3.0. "
    "Motorcycle: Scharstein et al. 2014 (Middlebury)."
)
NOTE = (
    "Pink: above the scale; grey-blue: negative; white: unknown. Errors over pixels whose point both views show. "
    "dB: PSNR against x."
)
COLUMNS = (
    "disparity",
    *(f"{name}: {what}" for name in ("synthetic", "builtin") for what in ("mean px", "median px", "within 3 px")),
    *("KITTI: x_side warped, dB", "KITTI: r with the column", "KITTI: PSNR lost without, dB"),
)


def parse() -> argparse.Namespace:
    """The command line. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    add("--dataset", choices=("folder", "kitti"), default="folder", help="how KITTI is stored (default: folder)")
    add("--data-root", required=True, metavar="DIR", help="KITTI, or a sample of it")
    add("--split", choices=("train", "val", "test"), default="val", help="of KITTI (default: val)")
    add("--rate", type=float, default=0.5, metavar="R", help="0 smallest file to 1 largest (default: 0.5)")
    add(
        "--pairs", type=int, default=16, metavar="N",
        help="synthetic scenes, and KITTI pairs at most; of builtin all crops of val and test (default: 16)",
    )  # fmt: skip
    add("--out", type=Path, required=True, metavar="PNG", help="the figure to write")
    add("--report", type=Path, metavar="FILE", help="Markdown file to write")
    arguments = parser.parse_args()
    refuse_overwriting([arguments.out, arguments.report], [arguments.ckpt, arguments.data_root])
    if not 1 <= arguments.pairs <= 64:
        raise ConfigError(f"--pairs is {arguments.pairs}; it lies in 1 to 64.")
    if not 0 <= arguments.rate <= 1:
        raise ConfigError(f"--rate is {arguments.rate:g}; it lies in 0 (smallest file) to 1 (largest).")
    return arguments


def table_rows(
    codec: Codec, known: list[list[Reading]], kitti: list[Reading], sources: list[Source]
) -> list[list[str]]:
    """The rows under COLUMNS; `known` are the pairs of each data set with a ground truth."""
    from utils.disparity import average, follows_column
    from utils.disparity_study import loss_without, name_of

    maps = {
        name_of(s): (mean(follows_column(r.maps[s]) for r in kitti), loss_without(codec, kitti, s)) for s in sources
    }
    judged = [[{k: r.errors(e) for k, e in r.estimates(sources).items()} for r in readings] for readings in known]
    warped = [{k: r.warped_psnr(e) for k, e in r.estimates(sources).items()} for r in kitti]
    rows = []
    for name in warped[0]:
        means = [average([pair[name] for pair in pairs]) for pairs in judged]
        cells = [cell for m in means for cell in (f"{m.mean:.2f}", f"{m.median:.2f}", f"{100 * m.within:.0f} %")]
        cells.append(f"{mean(pair[name] for pair in warped):.2f}")
        # Adding 0 turns -0 into 0.
        last = [f"{round(value, 2) + 0.0:.2f}" for value in maps[name]] if name in maps else ["-", "-"]
        rows.append([name, *cells, *last])
    return rows


def figure_row(label: str, reading: Reading, sources: list[Source]) -> Row:
    """Images, ground truth and maps of one pair; x_side warped by the finest match where no ground truth is known."""
    from utils.disparity import warped
    from utils.disparity_figure import Panel, Row

    pair = reading.pair
    truth = pair.disparity

    def score(estimate: Map | float, long: bool) -> str:
        if truth is None:
            return f"x_side warped: {reading.warped_psnr(estimate):.1f} dB"
        errors = reading.errors(estimate)
        share = f"{100 * errors.within:.0f} %"
        if not long:
            return f"{errors.mean:.1f} px, {share}"
        return f"mean {errors.mean:.1f}, median {errors.median:.1f} px\n{share} within 3 px"

    baselines = f"constant 0: {score(0.0, False)}\nbest constant: {score(reading.constant, False)}"
    bpp = 8 * len(reading.data) / (pair.x.shape[0] * pair.x.shape[1])
    panels = [Panel(pair.x, f"{len(reading.data)} bytes\n{bpp:.2f} bits per pixel")]
    if truth is None:
        finest = min((s for s in sources if s.head is not None), key=lambda source: source.stride)
        unwarped, shifted = reading.warped_psnr(0.0), reading.warped_psnr(reading.constant)
        panels.append(
            Panel(pair.x_side, f"as it is: {unwarped:.1f} dB\nshifted by {reading.constant:.0f}: {shifted:.1f} dB")
        )
        moved = warped(pair.x_side, reading.maps[finest])
        panels.append(Panel(moved, f"none; x_side warped\nby the map of 1/{finest.stride}"))
    else:
        panels += [Panel(pair.x_side), Panel(truth, baselines)]
    panels += [Panel(reading.maps[source], score(reading.maps[source], True)) for source in sources]
    return Row(label, panels)


def main() -> None:
    """See the module."""
    arguments = parse()
    # A dependency of CompressAI uses what torch deprecates; stderr is for what the reader can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from data.sources import open_source
    from utils import disparity_study as study
    from utils.checkpoint import load_checkpoint
    from utils.disparity_figure import colour_limit, draw
    from utils.markdown import publish, table

    loaded = load_checkpoint(arguments.ckpt)
    codec = loaded.codec
    rate = arguments.rate if codec.variable_rate else None
    kitti_source = open_source(
        arguments.dataset, split=arguments.split, root=arguments.data_root, limit=arguments.pairs
    )
    scenes, others = (open_source("synthetic", split=split, limit=arguments.pairs) for split in ("test", "val"))
    crops = [open_source("builtin", split=split) for split in ("test", "val")]
    heads = study.best_heads(study.read_all(codec, [others], rate))
    synthetic, builtin, kitti = (study.read_all(codec, part, rate) for part in ([scenes], crops, [kitti_source]))
    sources = study.sources_shown(list(kitti[0].maps), heads)
    titles = ("x", "x_side", "ground truth", *(study.name_of(source) for source in sources))
    labels = ("synthetic", "builtin", "KITTI sample")
    firsts = (synthetic[0], builtin[0], kitti[0])
    rows = [figure_row(label, first, sources) for label, first in zip(labels, firsts, strict=True)]
    limit = colour_limit([first.pair.disparity for first in firsts if first.pair.disparity is not None])
    draw(arguments.out, titles, rows, limit, f"{NOTE}\n{RIGHTS}", RIGHTS)
    publish(
        [
            f"`python {shlex.join(sys.argv)}`, step {loaded.step}",
            "",
            f"Rate {arguments.rate:g}: {len(synthetic)} synthetic scenes (test), {len(builtin)} builtin crops (val and "
            f"test, all of one photograph), {len(kitti)} KITTI pairs ({arguments.split}). Means over pairs. "
            f"Heads chosen on {len(others)} other synthetic scenes.",
            "",
            *table(COLUMNS, table_rows(codec, [synthetic, builtin], kitti, sources)),
        ],
        arguments.report,
    )


if __name__ == "__main__":
    run(main)
