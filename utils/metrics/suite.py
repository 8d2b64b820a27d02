"""All metrics behind one object: measure each image, keep features for the set, then summarise with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modules.losses import ms_ssim_window
from utils.errors import ConfigError, WeightsError
from utils.metrics.bootstrap import ClusterBootstrap
from utils.metrics.deep import Dists, InceptionFeatures, Lpips
from utils.metrics.effnet import EffnetMetrics
from utils.metrics.image import CVVDP_DISPLAY, ColorVideoVdp, ImageMetric, MsSsimDb, Psnr, Ssim
from utils.metrics.info import METRICS
from utils.metrics.sets import SET_METRICS, Features

Image = NDArray[np.uint8]
WINDOW = "ms_ssim_window"
"""Key of a row that is not a metric: the window of its MS-SSIM, which depends on the image's size."""


class MetricSuite:
    """Metrics by name, each network built once.

    ```
    suite = MetricSuite("all", weights_dir=None)
    row = suite.measure(x, x_hat)                        # {"psnr": 31.2, ...}: one image, one row
    reference, hat = suite.features(x, x_hat)            # arrays to keep for the set-level metrics
    suite.summarise(rows, groups, references, hats)      # {"psnr": {"mean": 31.0, "ci95": [30.2, 31.9], ...}, ...}
    ```
    Rows are floats and features are small NumPy arrays (60 kB an image at most), so an interrupted sweep can store both
    and summarise later, in another process, with the same result.

    `names`: "all", "offline" (those that need no download) or metric names (ConfigError for an unknown one). A metric
    whose weights cannot be had is in `unavailable` (name -> reason and remedy) and so reported by `summarise`; it is
    never replaced.
    """

    def __init__(
        self,
        names: str | Sequence[str] = "all",
        device: str | torch.device = "cpu",
        weights_dir: str | Path | None = None,
    ) -> None:
        self.names = _select(names)
        self.unavailable: dict[str, str] = {}
        self._device = torch.device(device)
        self._image: dict[str, ImageMetric] = {}
        self._features: dict[str, EffnetMetrics | InceptionFeatures] = {}
        builders: dict[str, Callable[[], ImageMetric]] = {
            "psnr": Psnr,
            "ssim": Ssim,
            "ms_ssim_db": MsSsimDb,
            "lpips_alex": lambda: Lpips("alex", self._device, weights_dir),
            "lpips_vgg": lambda: Lpips("vgg", self._device, weights_dir),
            "dists": lambda: Dists(self._device, weights_dir),
            "cvvdp": lambda: ColorVideoVdp(self._device),
        }
        for name in self.names:
            if name in builders:
                self._try([name], partial(self._build_image, name, builders[name]))
        effnet = [name for name in self.names if METRICS[name].network == "efficientnet_lite2"]
        if effnet:
            self._try(effnet, lambda: self._features.update(effnet=EffnetMetrics(self._device)))
            if "effnet_dist" in effnet and "effnet" in self._features:
                self._image["effnet_dist"] = self._features["effnet"]  # type: ignore[assignment]
        inception = [name for name in self.names if METRICS[name].network == "inception"]
        if inception:
            self._try(inception, lambda: self._features.update(inception=InceptionFeatures(self._device, weights_dir)))
        self._needs_features = {SET_METRICS[name].features for name in self.names if name in SET_METRICS}

    @torch.inference_mode()
    def measure(self, x: Image, x_hat: Image) -> dict[str, float]:
        """The per-image metrics of a reconstruction: x, x_hat (H, W, 3) uint8 -> {name: value}.

        Metrics that are unavailable, not defined for so small an image, or not finite are left out. Raises ValueError
        on another type or shape.
        """
        a, b = self._tensor(x), self._tensor(x_hat)
        if a.shape != b.shape:
            raise ValueError(f"x is {x.shape} and x_hat {x_hat.shape}; they must be equally large.")
        height, width = x.shape[:2]
        usable = {name: metric for name, metric in self._image.items() if min(height, width) >= metric.min_side}
        values = {name: metric(a, b) for name, metric in usable.items()}
        row = {name: value for name, value in values.items() if math.isfinite(value)}
        if "ms_ssim_db" in row:
            row[WINDOW] = float(ms_ssim_window(height, width))
        return row

    @torch.inference_mode()
    def features(self, *images: Image) -> list[Features]:
        """For each image (H, W, 3) uint8 its arrays for the set-level metrics, by kind of feature.

        "effnet" (P, 120) float16, P at most 256, and, if its weights are there, "inception" (2048,) float32.
        """
        wanted = {kind: network for kind, network in self._features.items() if kind in self._needs_features}
        return [{kind: network.features(self._tensor(image)) for kind, network in wanted.items()} for image in images]

    def summarise(
        self,
        rows: Sequence[Mapping[str, float]],
        groups: Sequence[str],
        references: Sequence[Features],
        hats: Sequence[Features],
        *,
        trained_on: str = "",
        seed: int = 0,
    ) -> dict[str, dict[str, Any]]:
        """One entry for each metric of the suite, in its order; every argument has one item an image, in one order.

        Image metrics: {"mean", "ci95": [low, high] or None with one group, "n", "groups"}, over the n images that have
        a value; where that is not all, also {"of": all images, "left_out": why}. Set metrics: {"value", "n", ...}. What
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
        bootstrap = ClusterBootstrap(groups, seed=seed)
        result: dict[str, dict[str, Any]] = {}
        for name in self.names:
            if name in self.unavailable:
                result[name] = {"unavailable": self.unavailable[name]}
            elif name in SET_METRICS:
                result[name] = SET_METRICS[name].summarise(references, hats, bootstrap)
            else:
                result[name] = self._summarise_image(name, rows, groups, bootstrap)
            if trained_on and METRICS[name].network == trained_on:
                result[name]["note"] = f"The model was trained with {trained_on}, so this metric does not judge it."
        return result

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
            bootstrap = bootstrap.of([groups[i] for i in defined])
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

    def _tensor(self, image: Image) -> Tensor:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"Metrics take uint8 images of shape (H, W, 3), not {image.dtype} {image.shape}.")
        return torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)[None].contiguous().to(self._device)

    def _build_image(self, name: str, build: Callable[[], ImageMetric]) -> None:
        self._image[name] = build()

    def _try(self, names: Sequence[str], build: Callable[[], None]) -> None:
        try:
            build()
        except WeightsError as error:
            self.unavailable.update(dict.fromkeys(names, str(error)))
        except ImportError as error:
            reason = f"A package is missing or damaged ({error}): run `pip install -r requirements.txt`."
            self.unavailable.update(dict.fromkeys(names, reason))


def _select(names: str | Sequence[str]) -> list[str]:
    if names == "all":
        return list(METRICS)
    if names == "offline":
        return [name for name, info in METRICS.items() if not info.needs_download]
    chosen = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in chosen if name not in METRICS]
    if unknown:
        raise ConfigError(f"Unknown metrics {unknown}; choose from {list(METRICS)}, or `all` or `offline`.")
    return [name for name in METRICS if name in chosen]
