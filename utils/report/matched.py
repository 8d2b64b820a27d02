"""Pictures of several methods at nearly equal bytes: each decoded image, the window that tells most, and its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data import sources
from data.images import read_image
from data.pair import PairSource
from utils.errors import DataError
from utils.evaluation.summary import Results
from utils.report.merge import Evaluation, Merged
from utils.report.pictures import Picture, Scene, address, decoded, embed, main_points, shown, spread
from utils.report.rd import BARE

ERROR_TOP = 64
"""Levels of absolute error that are drawn brightest."""
_PIXELS = 2_000_000
"""Of decoded images on a page: about 5 bytes a pixel are embedded."""


def open_pairs(evaluations: Sequence[Evaluation]) -> PairSource:
    """The pairs that were evaluated. Raises ProjectError if they are not where the first evaluation found them."""
    first = evaluations[0]
    data, ids, where = first.results.summary["dataset"], first.results.ids, first.environment
    row = first.results.rows[first.results.points[0].key][0]
    source = sources.open_source(
        data["name"],
        split=data["split"],
        root=where.get("data_root"),
        size=data["size"],
        protocol=where.get("protocol") or "drive_disjoint",
        limit=len(ids),
        height=row.height,
        width=row.width,
    )
    if list(source.ids) != list(ids):
        raise DataError(f"{where.get('data_root')} holds other pairs than those that {first.folder} evaluated.")
    return source


def matched_scenes(merged: Merged, main: Results, source: PairSource) -> list[Scene]:
    """A few pairs with every method of `main`, at the bytes of the first method's middle rate."""
    codecs = [codec for codec in dict.fromkeys(p.codec for p in main.points) if not codec.endswith(BARE)]
    pixels = shown(source[0].x)[..., 0].size * len(codecs)
    return [_scene(merged, main, source, i, codecs) for i in spread(len(source), min(4, max(1, _PIXELS // pixels)))]


def _scene(merged: Merged, main: Results, source: PairSource, index: int, codecs: Sequence[str]) -> Scene:
    pair = source[index]
    first = main_points(main, codecs[0])
    target = main.rows[first[(len(first) - 1) // 2].key][index].bytes
    # 1. Of each method the file of the nearest size.
    chosen = []
    for codec in codecs:
        files = [(p, main.rows[p.key][index]) for p in main.points if p.codec == codec]
        chosen.append(min(files, key=lambda file: abs(file[1].bytes - target)))
    images = [read_image(merged.reconstruction(point, index)) for point, _ in chosen]
    if any(image.shape != pair.x.shape for image in images):
        raise DataError(
            f"Pair {pair.id} and its decoded images differ in size, so the data are not what was evaluated."
        )
    # 2. The window where the methods' errors differ most; a single method's, where it errs most.
    x = shown(pair.x)
    errors = [np.abs(shown(image).astype(np.float32) - x).mean(axis=2) for image in images]
    top, left, height, width = _window(np.std(errors, axis=0) if len(errors) > 1 else errors[0])
    rows, columns = slice(top, top + height), slice(left, left + width)
    box = f"top:{top / x.shape[0]:.2%};left:{left / x.shape[1]:.2%}"
    box += f";height:{height / x.shape[0]:.2%};width:{width / x.shape[1]:.2%}"
    # 3. The pictures.
    views = [("Original", "what the sender encodes", pair.x)]
    if pair.has_side:
        views.append(("Side image", "what the receiver already has", pair.x_side))
    pictures = [
        Picture(embed(image), title, text, zoom=address(shown(image)[rows, columns]), box=box)
        for title, text, image in views
    ]
    for (point, row), image, error in zip(chosen, images, errors, strict=True):
        picture = decoded(image, point, row, large=row.bytes > 1.25 * target)
        pictures.append(replace(picture, zoom=address(shown(image)[rows, columns]), error=_error_map(error)))
    return Scene(pair.id, pair.group, pictures[0].image, [pictures], min(4, len(pictures)), pictures[0].zoom)


def _window(differences: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window of a third of the sides whose mean is largest."""
    height, width = (max(1, size // 3) for size in differences.shape)
    sums = np.pad(differences, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    means = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(means.argmax()), means.shape)
    return int(top), int(left), height, width


def _error_map(error: np.ndarray) -> str:
    from matplotlib import colormaps

    coloured = colormaps["magma"](np.clip(error / ERROR_TOP, 0, 1), bytes=True)
    return address(coloured[..., :3], lossless=False, quality=80)
