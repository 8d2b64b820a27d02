"""Metrics of one image on pretrained networks whose weights must be downloaded: LPIPS and DISTS.

Called as metric(x, x_hat) with two (1, 3, H, W) uint8 tensors. Constructors raise WeightsError with the remedy.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from utils.errors import WeightsError
from utils.frozen import freeze
from utils.lpips_net import build_lpips, load_trunk
from utils.weights import resolve


class Lpips:
    """LPIPS version 0.1 (Zhang et al. 2018) by the package `lpips`, network "alex" or "vgg", on images in [-1, 1]."""

    def __init__(
        self, net: str, device: torch.device, weights_dir: str | Path | None = None, *, allow_unverified: bool = False
    ) -> None:
        self.min_side = {"alex": 31, "vgg": 16}[net]  # what is left after the strides of the trunk
        self._network = build_lpips(net, weights_dir, allow_unverified=allow_unverified).to(device)

    def __call__(self, x: Tensor, x_hat: Tensor) -> float:
        return float(self._network(x_hat.float() / 127.5 - 1, x.float() / 127.5 - 1))


class Dists:
    """DISTS (Ding et al. 2020, arXiv 2004.07728) by torchmetrics' network and weights, on images in [0, 1].

    torchmetrics' public function builds the network again for every call and downloads the trunk by itself; here its
    network is built once, on a trunk whose hash was checked.
    """

    min_side = 16

    def __init__(
        self, device: torch.device, weights_dir: str | Path | None = None, *, allow_unverified: bool = False
    ) -> None:
        path = resolve("vgg16", weights_dir, allow_unverified=allow_unverified)
        if find_spec("torchmetrics") is None:
            raise WeightsError("DISTS needs a package that is not installed: run `pip install torchmetrics`.")
        from torchmetrics.functional.image import dists
        from torchvision.models import vgg16

        with (
            torch.random.fork_rng(devices=[]),
            patch.object(dists, "vgg16", lambda weights: vgg16(weights=None, init_weights=False)),
        ):
            network = dists.DISTSNetwork()
        load_trunk([getattr(network, f"stage{i}") for i in range(1, 6)], path)
        self._network = freeze(network).to(device)

    def __call__(self, x: Tensor, x_hat: Tensor) -> float:
        return float(self._network(x_hat.float() / 255, x.float() / 255))
