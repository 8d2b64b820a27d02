"""Metrics on EfficientNet-Lite2, which no training loss uses and which needs no download."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modules.pretrained.effnet import CHANNELS, STRIDES, EfficientNetFeatures, feature_distance

TAPS = ("stage1", "stage2", "stage3", "stage5", "stage7")
"""Taps of effnet_dist, one a resolution."""
LAYER = "stage5"
"""Tap of kd_effnet and fd_effnet: 120 channels at 1/16, so 128 vectors for a 128x256 image."""
DIMENSION = CHANNELS["lite2"][LAYER]
MIN_VECTORS = 5 * DIMENSION
"""Vectors below which kd_effnet and fd_effnet are not reported."""
SPATIAL_SAMPLE = 256
"""Vectors kept of one image: all of a small one, a fixed random sample of a large one, in random order."""
SCALE = 1 / 7
"""Factor on the features: their root mean square on photographs is about 7; near 1 the kernel's terms weigh alike."""
DESCRIPTION = f"EfficientNet-Lite2 {LAYER}, 1/{STRIDES[LAYER]}, {DIMENSION} channels, scaled by 1/7"


class EffnetMetrics:
    """`effnet_dist` of a pair of images, and the spatial features of one image for the set-level metrics.

    The taps of the last few images are kept, so that an original is not analysed again for each of its reconstructions.
    """

    min_side = 16

    def __init__(self, device: torch.device, remember: int = 8) -> None:
        self._network = EfficientNetFeatures("lite2", TAPS).to(device)
        self._device = device
        self._remembered: OrderedDict[bytes, dict[str, Tensor]] = OrderedDict()
        self._capacity = remember

    def __call__(self, x: Tensor, x_hat: Tensor) -> float:
        """effnet_dist of x, x_hat (1, 3, H, W) uint8: `feature_distance` over TAPS, in [0, 4]."""
        return float(feature_distance(self._taps(x_hat), self._taps(x)))

    def features(self, image: Tensor) -> NDArray[np.float16]:
        """Spatial features (P, DIMENSION) of an image (1, 3, H, W) uint8, P at most SPATIAL_SAMPLE, times SCALE.

        The positions and their order depend on the image's size only.
        """
        vectors = self._taps(image)[LAYER][0].flatten(1).T * SCALE
        order = np.random.default_rng(0).permutation(len(vectors))[:SPATIAL_SAMPLE]
        return vectors.cpu().numpy()[order].astype(np.float16)

    def _taps(self, image: Tensor) -> dict[str, Tensor]:
        key = repr(tuple(image.shape)).encode() + image.cpu().numpy().tobytes()
        if key in self._remembered:
            self._remembered.move_to_end(key)
        else:
            self._remembered[key] = self._network(image.to(self._device).float() / 255)
            while len(self._remembered) > self._capacity:
                self._remembered.popitem(last=False)
        return self._remembered[key]
