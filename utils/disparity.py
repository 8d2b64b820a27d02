"""What a codec's fusion knows of the geometry: the matches that it finds as disparity maps, and their errors.

A disparity map (H, W) float32 is in pixels of the image: the point at column u of x lies at column u - disparity of
x_side, as in `data/pair.py`. Fusion counts offsets to the right in positions of its scale, so the sign turns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from modules.codec import Codec
from modules.fusion import Fuse, FusionSynthesis, Matches, warp
from modules.transforms import PATCH
from utils.errors import ConfigError
from utils.images import to_float

Map = NDArray[np.float32]
WITHIN = 3.0
"""Pixels: the tolerance of the share of good pixels."""
HIDES = 1.0
"""A surface hides another if its disparity is larger by more than so many pixels."""


@dataclass(frozen=True)
class Source:
    """Where a map comes from: the scale 1/`stride`, and there the match that this head of the attention finds.

    Head None: the warp, that is the offset by which the side features of a scale without attention are warped.
    """

    stride: int
    head: int | None = None


@dataclass(frozen=True)
class Errors:
    """Of a map against the ground truth over some pixels, in pixels; `within` is the share with at most WITHIN."""

    mean: float
    median: float
    within: float


def fuses(codec: Codec) -> dict[int, Fuse]:
    """The fusion at each scale by its stride, coarse to fine. Raises ConfigError if none of them attends."""
    g_s = getattr(codec, "g_s", None)
    layers = list(g_s.fuse) if isinstance(g_s, FusionSynthesis) else []
    found = {PATCH << scale: layer for scale, layer in reversed(list(enumerate(layers))) if isinstance(layer, Fuse)}
    if not any(layer.attention for layer in found.values()):
        raise ConfigError(
            f"The codec {codec.name} of this checkpoint has no row attention and so no disparity; give one whose "
            "model.fusion is pixel_aligned, aligned, both or row_attention."
        )
    return found


def read_maps(codec: Codec, data: bytes, x_side: Tensor) -> tuple[Tensor, dict[Source, Map]]:
    """A file and x_side (3, H, W) in [0, 1] -> x_hat (3, H, W), and every disparity map that decoding it made.

    Raises ConfigError for an image that is decoded in strips.
    """
    size = x_side.shape[1], x_side.shape[2]
    maps: dict[Source, Map] = {}

    def keep(source: Source, offset: Tensor) -> None:
        if source in maps:
            raise ConfigError(
                f"The image has {size[0]} rows and is decoded in strips of {codec.tile_rows}; give a smaller one."
            )
        maps[source] = _to_pixels(offset, source.stride)[: size[0], : size[1]]

    def hook(stride: int) -> Any:
        def after(layer: Fuse, inputs: tuple[Any, ...], output: tuple[Tensor, Matches | None]) -> None:
            matches = output[1]
            for head, offset in enumerate(matches.offset[0] if matches is not None else ()):
                keep(Source(stride, None if layer.attention is None else head), offset)

        return after

    with contextlib.ExitStack() as hooks:
        for stride, layer in fuses(codec).items():
            handle = layer.register_forward_hook(hook(stride))
            hooks.callback(handle.remove)
        x_hat = codec.decompress(data, x_side)
    return x_hat, maps


def _to_pixels(offset: Tensor, stride: int) -> Map:
    """Offsets (h, w) to the right, in positions of `stride` pixels -> disparity (h * stride, w * stride)."""
    fine = F.interpolate(offset[None, None].float(), scale_factor=stride, mode="bilinear", align_corners=False)
    result: Map = (-stride * fine[0, 0]).cpu().numpy()
    return result


@contextlib.contextmanager
def silenced(codec: Codec, source: Source) -> Iterator[None]:
    """The codec without what this head, or the warp, brings from the side image. Raises ValueError for neither."""
    fuse = fuses(codec)[source.stride]
    layers: list[nn.Conv2d] = []
    columns = slice(None)
    if source.head is None:
        layers = [layer for layer in (fuse.project_warped, fuse.project_picture) if layer is not None]
    elif fuse.attention is not None:
        layers = [fuse.attention.out]
        width = layers[0].in_channels // fuse.attention.heads
        columns = slice(source.head * width, (source.head + 1) * width)
    if not layers:
        what = "warp" if source.head is None else "attention"
        raise ValueError(f"At 1/{source.stride} of this codec there is no {what} to silence.")
    kept = [layer.weight.detach().clone() for layer in layers]
    with torch.no_grad():
        for layer in layers:
            layer.weight[:, columns] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.weight.copy_(weight)


def visible(disparity: Map) -> NDArray[np.bool_]:
    """Ground truth (H, W), NaN where unknown -> the pixels of x whose point x_side shows too.

    Left out are unknown pixels, points beside x_side, points behind a nearer one there, and infinitely far ones
    (disparity 0): the sky has no texture to match, and KITTI's ground truth has none either.
    """
    height, width = disparity.shape
    column = np.arange(width) - disparity
    with np.errstate(invalid="ignore"):
        inside = (disparity > 0) & (column >= 0) & (column <= width - 1)
    row = np.nonzero(inside)[0]
    low, high = (f(column[inside]).astype(np.intp) for f in (np.floor, np.ceil))
    nearest = np.zeros((height, width), np.float32)
    # A point covers both columns that it lies between: surfaces stretched in x_side have no holes.
    for place in (low, high):
        np.maximum.at(nearest, (row, place), disparity[inside])
    result = inside.copy()
    result[inside] = np.minimum(nearest[row, low], nearest[row, high]) <= disparity[inside] + HIDES
    return result


def judge(disparity: Map | float, truth: Map, valid: NDArray[np.bool_]) -> Errors:
    """Errors of a map, or of one value for every pixel, over the valid pixels (at least one)."""
    error = np.abs(np.broadcast_to(disparity, truth.shape)[valid] - truth[valid])
    return Errors(float(error.mean()), float(np.median(error)), float((error <= WITHIN).mean()))


def average(errors: Sequence[Errors]) -> Errors:
    """The mean of each figure over pairs."""
    return Errors(*(float(np.mean([getattr(e, f.name) for e in errors])) for f in fields(Errors)))


def warped(image: NDArray[np.uint8], disparity: Map | float) -> NDArray[np.uint8]:
    """x_side (H, W, 3) as it would be seen from x if this were the disparity; the border is repeated."""
    offset = -torch.from_numpy(np.broadcast_to(disparity, image.shape[:2]).astype(np.float32))
    moved = warp(to_float(image)[None], offset[None, None])[0]
    return torch.round(255 * moved).to(torch.uint8).permute(1, 2, 0).numpy()


def best_shift(x: NDArray[np.uint8], x_side: NDArray[np.uint8]) -> int:
    """The disparity, in whole pixels up to a quarter of the width, that makes x_side most similar to x as a whole."""
    return max(range(x.shape[1] // 4 + 1), key=lambda shift: psnr(x, warped(x_side, shift)))


def psnr(x: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Of two images, in dB."""
    return float(10 * np.log10(255**2 / max(1e-10, np.square(x.astype(np.float64) - other).mean())))


def follows_column(disparity: Map) -> float:
    """Correlation of a map with the column number: 1 for a match at the same column of x_side from everywhere in a row.

    Attention that is even over the row matches its middle from everywhere; its offset only tells where a position is.
    """
    columns = np.broadcast_to(np.arange(disparity.shape[1]), disparity.shape)
    return float(np.corrcoef(columns.ravel(), disparity.ravel())[0, 1])
