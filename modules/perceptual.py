"""Perceptual training losses: distances between deep features of x_hat and x.

The networks are frozen, always in evaluation mode, without dropout, and hold no parameters, so they reach neither the
optimizer nor a checkpoint. The metrics on which models are compared use other networks (`utils/metrics`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.pretrained.effnet import EfficientNetFeatures, feature_distance
from modules.pretrained.frozen import FrozenModule
from modules.pretrained.lpips_net import build_lpips

NETWORKS = {"lpips_vgg": "vgg16", "effnet": "efficientnet_lite0"}
"""Loss -> name of the network's weights in `modules.pretrained.weights.WEIGHTS`."""


def build_perceptual(name: str, weights_dir: str | Path | None = None) -> nn.Module | None:
    """The perceptual loss `name` ("lpips_vgg", "effnet"), or None for "none".

    Call it as loss(x_hat, x) with two (B, 3, H, W) RGB batches in [0, 1]; it returns (B,), 0 where they are equal, with
    gradients to x_hat only. Raises WeightsError, with the remedy, if the weights cannot be had: build the loss before
    the first step.
    """
    if name == "none":
        return None
    if name == "effnet":
        return EfficientNetLoss()
    return LpipsLoss(weights_dir)


class EfficientNetLoss(FrozenModule):
    """Feature distance on EfficientNet-Lite0, one tap a resolution (1/2, 1/4, 1/8, 1/16, 1/32). Range [0, 4].

    Unweighted LPIPS form: `modules.pretrained.effnet.feature_distance`. It needs no download.
    """

    network = NETWORKS["effnet"]
    taps = ("stage1", "stage2", "stage3", "stage5", "stage7")

    def __init__(self) -> None:
        super().__init__()
        self.features = EfficientNetFeatures(self.taps)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """x_hat, x (B, 3, H, W) in [0, 1] -> (B,)."""
        _check(x_hat, x)
        with torch.no_grad():
            features = self.features(x)
        return feature_distance(self.features(x_hat), features)


class LpipsLoss(FrozenModule):
    """LPIPS on VGG16 (Zhang et al. 2018), version 0.1. Equals the package `lpips` on images scaled to [-1, 1].

    Written out on the package's network so that features of x need no graph, and so that the gradient stays finite
    where every channel of a feature is zero (the package's square root has an infinite slope there).
    """

    network = NETWORKS["lpips_vgg"]

    def __init__(self, weights_dir: str | Path | None = None) -> None:
        super().__init__()
        self.lpips = build_lpips("vgg", weights_dir)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """x_hat, x (B, 3, H, W) in [0, 1] -> (B,)."""
        _check(x_hat, x)
        lpips: Any = self.lpips
        with torch.no_grad():
            features = lpips.net(lpips.scaling_layer(2 * x - 1))
        features_hat = lpips.net(lpips.scaling_layer(2 * x_hat - 1))
        # Sum over the layers of the mean over positions of w . (f_hat / |f_hat| - f / |f|)^2 (arXiv 1801.03924, eq. 1).
        distance: Tensor | float = 0.0
        for f_hat, f, head in zip(features_hat, features, lpips.lins, strict=True):
            difference = F.normalize(f_hat.float(), dim=1, eps=1e-10) - F.normalize(f.float(), dim=1, eps=1e-10)
            distance = distance + head(difference.square()).float().mean(dim=(1, 2, 3))
        return torch.as_tensor(distance)


def _check(x_hat: Tensor, x: Tensor) -> None:
    if x_hat.ndim != 4 or x_hat.shape[1] != 3 or x_hat.shape != x.shape:
        raise ValueError(f"x_hat {tuple(x_hat.shape)} and x {tuple(x.shape)} must both be (B, 3, H, W).")
