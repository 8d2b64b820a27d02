"""Metrics on pretrained networks whose weights must be fetched: LPIPS and DISTS of an image, features for FID and KID.

Called as metric(x, x_hat) with two (1, 3, H, W) uint8 tensors. Constructors raise WeightsError with the remedy.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modules.pretrained.frozen import freeze
from modules.pretrained.inception import build_inception
from modules.pretrained.lpips_net import build_lpips, set_convolutions
from modules.pretrained.weights import load
from utils.errors import WeightsError


class Lpips:
    """LPIPS version 0.1 (Zhang et al. 2018) by the package `lpips`, network "alex" or "vgg", on images in [-1, 1]."""

    def __init__(self, net: str, device: torch.device, weights_dir: str | Path | None = None) -> None:
        self.min_side = {"alex": 31, "vgg": 16}[net]  # what is left after the strides of the trunk
        self._network = build_lpips(net, weights_dir).to(device)

    def __call__(self, x: Tensor, x_hat: Tensor) -> float:
        return float(self._network(x_hat.float() / 127.5 - 1, x.float() / 127.5 - 1))


class Dists:
    """DISTS (Ding et al. 2020, arXiv 2004.07728) by torchmetrics' network and weights, on images in [0, 1].

    torchmetrics' public function builds the network again for every call and downloads the trunk by itself; here its
    network is built once, on a trunk whose hash was checked.
    """

    min_side = 16

    def __init__(self, device: torch.device, weights_dir: str | Path | None = None) -> None:
        tensors = load("vgg16", weights_dir)
        if find_spec("torchmetrics") is None:
            raise WeightsError("DISTS needs a package that is not installed: run `pip install torchmetrics`.")
        from torchmetrics.functional.image import dists
        from torchvision.models import vgg16

        with (
            torch.random.fork_rng(devices=[]),
            patch.object(dists, "vgg16", lambda weights: vgg16(weights=None, init_weights=False)),
        ):
            network = dists.DISTSNetwork()
        set_convolutions([getattr(network, f"stage{i}") for i in range(1, 6)], tensors)
        self._network = freeze(network).to(device)

    def __call__(self, x: Tensor, x_hat: Tensor) -> float:
        return float(self._network(x_hat.float() / 255, x.float() / 255))


class InceptionFeatures:
    """Pooled features (2048) of InceptionV3, with torch-fidelity's own resizing to 299x299."""

    min_side = 1

    def __init__(self, device: torch.device, weights_dir: str | Path | None = None) -> None:
        self._network = build_inception(weights_dir).to(device)

    def features(self, image: Tensor) -> NDArray[np.float32]:
        """Features (2048,) of an image (1, 3, H, W) uint8."""
        return self._network(image)[0][0].float().cpu().numpy()
