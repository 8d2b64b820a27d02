"""Metrics of a set of images, computed from features that were kept for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.metrics import effnet
from utils.metrics.bootstrap import ClusterBootstrap
from utils.metrics.statistics import PairedKernelDistance, frechet_distance, kernel_distance_subsets

Features = Mapping[str, NDArray[np.floating]]
"""Kind of feature -> array of one image."""
Arrays = list[NDArray[np.floating]]
KID_SUBSET_SIZE = 1000
"""KID's subsets hold this many images, or all there are."""
MIN_IMAGES = 10
"""Images below which FID and KID are not reported: of so few, one vector each, 2048 variances say nothing."""
REFERENCE = "the originals of the same images"


@dataclass(frozen=True)
class SetMetric:
    """A metric on one kind of `features` of at least `least` images.

    `compute(reference arrays, hat arrays, bootstrap)` gives its entry.
    """

    features: str
    least: int
    compute: Callable[[Arrays, Arrays, ClusterBootstrap], dict[str, Any]]

    def summarise(
        self, references: Sequence[Features], hats: Sequence[Features], bootstrap: ClusterBootstrap
    ) -> dict[str, Any]:
        """The entry of the summary, {"unavailable": ...} if features are missing or too few."""
        if any(self.features not in item for item in (*references, *hats)):
            reason = f"Features ({self.features}) of some images were not stored: evaluate again into a new folder."
            return {"unavailable": reason}
        if (n := len(references)) < self.least:
            return {"unavailable": f"It takes at least {self.least} images, and n is {n}: evaluate more."}
        x = [np.asarray(item[self.features]) for item in references]
        y = [np.asarray(item[self.features]) for item in hats]
        if not all(np.isfinite(array).all() for array in (*x, *y)):
            reason = f"Features ({self.features}) of some images are not finite numbers: look at the reconstructions."
            return {"unavailable": reason}
        return self.compute(x, y, bootstrap)


def _fid(x: Arrays, y: Arrays, bootstrap: ClusterBootstrap) -> dict[str, Any]:
    return {"value": frechet_distance(np.stack(x), np.stack(y)), "n": len(x), "reference": REFERENCE}


def _kid(x: Arrays, y: Arrays, bootstrap: ClusterBootstrap) -> dict[str, Any]:
    size = min(KID_SUBSET_SIZE, len(x))
    value = kernel_distance_subsets(np.stack(x), np.stack(y), size)
    return {"value": value, "n": len(x), "subset_size": size, "reference": REFERENCE}


def _kd_effnet(x: Arrays, y: Arrays, bootstrap: ClusterBootstrap) -> dict[str, Any]:
    if _vectors(x) < effnet.MIN_VECTORS:
        return _too_few(x)
    distance = PairedKernelDistance(x, y)
    interval = bootstrap.statistic(distance)
    return {
        "value": distance(),
        "ci95": list(interval) if interval else None,
        "n": len(x),
        "groups": bootstrap.groups,
        "vectors": _vectors(x),
        "layer": effnet.DESCRIPTION,
    }


def _fd_effnet(x: Arrays, y: Arrays, bootstrap: ClusterBootstrap) -> dict[str, Any]:
    # No interval: every bootstrap replicate has fewer distinct vectors, which biases a Fréchet distance upward.
    if _vectors(x) < effnet.MIN_VECTORS:
        return _too_few(x)
    value = frechet_distance(np.concatenate(x), np.concatenate(y))
    return {"value": value, "n": len(x), "vectors": _vectors(x), "layer": effnet.DESCRIPTION}


def _vectors(x: Arrays) -> int:
    return sum(len(features) for features in x)


def _too_few(x: Arrays) -> dict[str, Any]:
    return {
        "unavailable": (
            f"{len(x)} images give {_vectors(x)} feature vectors; 5 times the dimension, {effnet.MIN_VECTORS}, are "
            f"needed: evaluate more or larger images."
        )
    }


SET_METRICS: dict[str, SetMetric] = {
    "fid": SetMetric("inception", MIN_IMAGES, _fid),
    "kid": SetMetric("inception", MIN_IMAGES, _kid),
    "kd_effnet": SetMetric("effnet", 2, _kd_effnet),
    "fd_effnet": SetMetric("effnet", 2, _fd_effnet),
}
"""Set-level metrics by name."""
