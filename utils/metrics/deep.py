"""Metrics on pretrained networks whose weights must be fetched: LPIPS and DISTS of an image, features for FID and KID.

Called as metric(x, x_hat) with an original (1, 3, H, W) and B reconstructions of it (B, 3, H, W), uint8; the original
passes through the network once. Constructors raise WeightsError with the remedy.

LPIPS-VGG and DISTS both use VGG16's convolutions, but they share no pass: DISTS pools by L2 norm where LPIPS takes
maxima, so only the first of five stages would be the same.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modules.pretrained.frozen import freeze
from modules.pretrained.inception import build_inception
from modules.pretrained.lpips_net import build_lpips, set_convolutions
from modules.pretrained.weights import load
from utils.errors import WeightsError
from utils.metrics.image import batches


class _Distance:
    """A distance of deep features: subclasses say what the features are and how they are compared."""

    _network: Any

    def __call__(self, x: Tensor, x_hat: Tensor) -> list[float]:
        """Values for one original x (1, 3, H, W) and x_hat (B, 3, H, W), uint8."""
        original = self._features(_prepared(x))
        return [
            value
            for part in batches(x_hat)
            for value in self._compare(original, self._features(_prepared(part))).tolist()
        ]

    def _features(self, images: Tensor) -> list[Tensor]:
        """Features of images (B, 3, H, W) float in [0, 255]."""
        raise NotImplementedError

    def _compare(self, x: list[Tensor], x_hat: list[Tensor]) -> Tensor:
        """Distances (B,) of one original's features from B reconstructions'."""
        raise NotImplementedError


class Lpips(_Distance):
    """LPIPS version 0.1 (Zhang et al. 2018), network "alex" or "vgg", of the package `lpips`, on images in [-1, 1]."""

    def __init__(self, net: str, device: torch.device, weights_dir: str | Path | None = None) -> None:
        self.min_side = {"alex": 31, "vgg": 16}[net]  # what is left after the strides of the trunk
        self._network = _on(device, build_lpips(net, weights_dir))

    def _features(self, images: Tensor) -> list[Tensor]:
        from lpips import normalize_tensor

        scaled = self._network.scaling_layer(images / 127.5 - 1)
        return [normalize_tensor(tap) for tap in self._network.net(scaled)]

    def _compare(self, x: list[Tensor], x_hat: list[Tensor]) -> Tensor:
        # Zhang et al. 2018, eq. 1: squared differences of unit-length channels, weighted by the linear layers,
        # averaged over positions, summed over the taps.
        layers = zip(self._network.lins, x, x_hat, strict=True)
        return torch.stack([lin((a - b).square()).mean((1, 2, 3)) for lin, a, b in layers]).sum(0)


class Dists(_Distance):
    """DISTS (Ding et al. 2020, arXiv 2004.07728) with torchmetrics' network and learned weights, on images in [0, 1].

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
        self._network = _on(device, freeze(network))

    def _features(self, images: Tensor) -> list[Tensor]:
        return list(self._network.forward_once(images / 255))

    def _compare(self, x: list[Tensor], x_hat: list[Tensor]) -> Tensor:
        # Ding et al. 2020, eqs. 3 to 5: per channel, likeness of the means (texture, alpha) and of the variations
        # (structure, beta), weighted by shares that sum to 1 over all channels of the image and the five stages.
        total = self._network.alpha.sum() + self._network.beta.sum()
        alpha, beta = (getattr(self._network, name).flatten() / total for name in ("alpha", "beta"))
        texture, structure = [], []
        for a, b in zip(x, x_hat, strict=True):
            (var_a, mean_a), (var_b, mean_b) = (torch.var_mean(v, dim=(2, 3), correction=0) for v in (a, b))
            covariance = (a * b).mean((2, 3)) - mean_a * mean_b
            texture.append((2 * mean_a * mean_b + 1e-6) / (mean_a.square() + mean_b.square() + 1e-6))
            structure.append((2 * covariance + 1e-6) / (var_a + var_b + 1e-6))
        return 1 - torch.cat(texture, 1) @ alpha - torch.cat(structure, 1) @ beta


class InceptionFeatures:
    """Pooled features (2048) of InceptionV3, with torch-fidelity's own resizing to 299x299."""

    def __init__(self, device: torch.device, weights_dir: str | Path | None = None) -> None:
        self._network = _on(device, build_inception(weights_dir))

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Features (B, 2048) of images (B, 3, H, W) uint8."""
        parts = [self._network(part)[0].float().cpu().numpy() for part in batches(images)]
        return np.concatenate(parts)


def _on(device: torch.device, network: nn.Module) -> nn.Module:
    # With channels last, convolutions take a third less time on a CPU.
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _prepared(images: Tensor) -> Tensor:
    return images.float().contiguous(memory_format=torch.channels_last)
