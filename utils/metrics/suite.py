"""All metrics behind one object: measure each image, keep features for the set, then summarise with intervals."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modules.losses import ms_ssim_window
from utils.errors import ConfigError, WeightsError
from utils.metrics.bootstrap import ClusterBootstrap
from utils.metrics.deep import Dists, InceptionFeatures, Lpips, Vgg16Stage
from utils.metrics.image import CVVDP_DISPLAY, ColorVideoVdp, ImageMetric, MsSsimDb, Psnr, Ssim
from utils.metrics.info import METRICS
from utils.metrics.sets import Features, summarise_set

Image = NDArray[np.uint8]
BATCH_PIXELS = 4 * 128 * 256
"""Pixels that are measured together, at least one image: more gains nothing on a CPU."""
WINDOW = "ms_ssim_window"
"""Key of a row that is not a metric: the window of its MS-SSIM, which depends on the image's size."""


class MetricSuite:
    """Metrics by name, each network built once.

    ```
    suite = MetricSuite(["psnr", "fid"], weights_dir=None)
    rows = suite.measure(x, [x_hat, ...])                # [{"psnr": 31.2}, ...]: a row a reconstruction of x
    reference, *hats = suite.features([x, x_hat, ...])   # arrays to keep for the set-level metrics
    suite.summarise(rows, groups, references, hats)      # {"psnr": {"mean": 31.0, "ci95": [30.2, 31.9], ...}, ...}
    ```
    Rows are floats and features are small NumPy arrays (8 kB an image), so an interrupted sweep can store both and
    summarise later, in another process, with the same result. `seconds` says how long each network or metric took.

    `names`: metric names, or "all" (ConfigError for an unknown one). A metric whose weights cannot be had is in
    `unavailable` (name -> reason and remedy) and so reported by `summarise`; it is never replaced.
    """

    def __init__(
        self,
        names: str | Sequence[str] = "all",
        device: str | torch.device = "cpu",
        weights_dir: str | Path | None = None,
    ) -> None:
        self.names = select(names)
        self.unavailable: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self._device = torch.device(device)
        self._image: dict[str, ImageMetric] = {}
        self._inception: InceptionFeatures | None = None
        first = functools.cache(lambda: Vgg16Stage(self._device, weights_dir))
        builders: dict[str, Callable[[], ImageMetric]] = {
            "psnr": Psnr,
            "ssim": Ssim,
            "ms_ssim_db": MsSsimDb,
            "lpips_alex": lambda: Lpips(self._device, weights_dir),
            "lpips_vgg": lambda: Lpips(self._device, weights_dir, first()),
            "dists": lambda: Dists(self._device, weights_dir, first()),
            "cvvdp": lambda: ColorVideoVdp(self._device),
        }
        for name in self.names:
            try:
                if METRICS[name].scope == "image":
                    self._image[name] = builders[name]()
                elif self._inception is None:
                    self._inception = InceptionFeatures(self._device, weights_dir)
            except WeightsError as error:
                self.unavailable[name] = str(error)
            except ImportError as error:
                reason = f"A package is missing or damaged ({error}): run `pip install -r requirements.txt`."
                self.unavailable[name] = reason

    @torch.inference_mode()
    def measure(self, x: Image, x_hats: Sequence[Image]) -> list[dict[str, float]]:
        """The per-image metrics of reconstructions of one original, (H, W, 3) uint8 each: a {name: value} for each.

        Metrics that are unavailable, not defined for so small an image, or not finite are left out. Raises ValueError
        on another type or shape.
        """
        images = self._tensor([x, *x_hats])
        original, decoded = images[:1], images[1:]
        height, width = x.shape[:2]
        rows: list[dict[str, float]] = [{} for _ in x_hats]
        defined = {name: metric for name, metric in self._image.items() if min(height, width) >= metric.min_side}
        # Batch by batch, so that a network that two metrics share runs once on each.
        size = _batch_size(height, width)
        for start in range(0, len(rows), size):
            part = decoded[start : start + size]
            for name, metric in defined.items():
                with self._timed(name):
                    values = metric(original, part)
                for row, value in zip(rows[start : start + size], values, strict=True):
                    if math.isfinite(value):
                        row[name] = value
                        if name == "ms_ssim_db":
                            row[WINDOW] = float(ms_ssim_window(height, width))
        return rows

    @torch.inference_mode()
    def features(self, images: Sequence[Image]) -> list[Features]:
        """What the set-level metrics need of each image (H, W, 3) uint8, all of one size."""
        if self._inception is None:
            return [None] * len(images)
        size = _batch_size(*images[0].shape[:2])
        with self._timed("fid and kid"):
            return [
                vector
                for start in range(0, len(images), size)
                for vector in self._inception(self._tensor(images[start : start + size]))
            ]

    def summarise(
        self,
        rows: Sequence[Mapping[str, float]],
        groups: Sequence[str],
        references: Sequence[Features],
        hats: Sequence[Features],
        *,
        trained_on: str = "",
    ) -> dict[str, dict[str, Any]]:
        """One entry for each metric of the suite, in its order; every argument has one item an image, in one order.

        Image metrics: {"mean", "ci95": [low, high] or None with one group, "n", "groups"}, over the n images that have
        a value; where that is not all, also {"of": all images, "left_out": why}. Set metrics: `summarise_set`. What
        cannot be had: {"unavailable": reason and remedy}; no figure is NaN or infinite. `ci95` is a cluster bootstrap
        over `groups`.
        `trained_on` names the network of the model's training loss (modules/pretrained/weights.py): metrics on that
        network then carry a "note" that they do not judge this model.
        """
        if not len(rows) == len(groups) == len(references) == len(hats) or not rows:
            raise ValueError(
                f"rows, groups, references and hats must be equally many and at least one, not "
                f"{len(rows)}, {len(groups)}, {len(references)}, {len(hats)}."
            )
        bootstrap = ClusterBootstrap(groups)
        result: dict[str, dict[str, Any]] = {}
        for name in self.names:
            if name in self.unavailable:
                result[name] = {"unavailable": self.unavailable[name]}
            elif METRICS[name].scope == "set":
                result[name] = summarise_set(name, references, hats, bootstrap)
            else:
                result[name] = self._summarise_image(name, rows, groups, bootstrap)
            if trained_on and METRICS[name].network == trained_on:
                result[name]["note"] = f"The model was trained with {trained_on}, so this metric does not judge it."
        return result

    def shares(self) -> str:
        """How the time of measuring was spent, for a log: "12 s: lpips_vgg 40 %, dists 38 %, ..."."""
        total = sum(self.seconds.values())
        spent = sorted(self.seconds.items(), key=lambda item: -item[1])
        return f"{total:.1f} s: " + ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in spent)

    def _summarise_image(
        self, name: str, rows: Sequence[Mapping[str, float]], groups: Sequence[str], bootstrap: ClusterBootstrap
    ) -> dict[str, Any]:
        defined = [i for i, row in enumerate(rows) if math.isfinite(row.get(name, math.nan))]
        missing = len(rows) - len(defined)
        left_out = (
            f"{missing} of {len(rows)} images {'has' if missing == 1 else 'have'} no value, which takes both sides of "
            f"at least {self._image[name].min_side} pixels and a finite result"
        )
        if not defined:
            return {"unavailable": f"{left_out}: evaluate larger images."}
        if missing:
            bootstrap = ClusterBootstrap([groups[i] for i in defined])
        values = np.array([float(rows[i][name]) for i in defined])
        interval = bootstrap.mean(values)
        entry: dict[str, Any] = {
            "mean": float(values.mean()),
            "ci95": list(interval) if interval else None,
            "n": len(values),
            "groups": bootstrap.groups,
        }
        if missing:
            entry |= {"of": len(rows), "left_out": f"{left_out}; the mean is over the others."}
        if name == "ms_ssim_db":
            windows = sorted({int(rows[i][WINDOW]) for i in defined})
            entry["window"] = windows[0] if len(windows) == 1 else windows
        if name == "cvvdp":
            entry["display"] = CVVDP_DISPLAY
        return entry

    def _tensor(self, images: Sequence[Image]) -> Tensor:
        """(B, 3, H, W) uint8 on the device."""
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != images[0].shape:
                raise ValueError(f"Metrics take uint8 images of one shape (H, W, 3), not {image.dtype} {image.shape}.")
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().to(self._device)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def _batch_size(height: int, width: int) -> int:
    """Images that are measured together: at most BATCH_PIXELS pixels, at least one image."""
    return max(1, BATCH_PIXELS // (height * width))


def select(names: str | Sequence[str]) -> list[str]:
    """The metrics that `names` ("all" or a list) stands for, in the order of METRICS. Raises ConfigError."""
    chosen = list(METRICS) if names == "all" else [names] if isinstance(names, str) else list(names)
    unknown = [name for name in chosen if name not in METRICS]
    if unknown:
        raise ConfigError(f"There is no metric {', '.join(unknown)}; choose from {', '.join(METRICS)}, or all.")
    return [name for name in METRICS if name in chosen]
