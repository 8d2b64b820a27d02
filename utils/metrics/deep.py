"""Metrics on pretrained networks whose weights must be fetched: LPIPS and DISTS of an image, features for FID and KID.

Called as metric(x, x_hat) with an original (1, 3, H, W) and B reconstructions of it (B, 3, H, W), uint8; an original
that comes again passes through no network again. Constructors raise WeightsError with the remedy.
"""

from __future__ import annotations

from collections import deque
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

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg16Stage:
    """conv1_1 to relu1_2 of VGG16 on images normalised as for ImageNet, with which LPIPS-VGG and DISTS both begin.

    After it they differ: LPIPS pools by maximum, DISTS by L2 norm. The features of the last two batches are kept: those
    of an original and of its reconstructions.
    """

    def __init__(self, device: torch.device, weights_dir: str | Path | None = None) -> None:
        tensors = load("vgg16", weights_dir)
        stage = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())
        set_convolutions([stage], tensors)
        self._stage = _on(device, freeze(stage))
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        self._kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=2)

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, 64, H, W) of images (B, 3, H, W) uint8."""
        for known, features in self._kept:
            if known is images:
                return features
        features = self._stage((_prepared(images) / 255 - self._mean) / self._std)
        self._kept.append((images, features))
        return features  # type: ignore[no-any-return]


class _Distance:
    """A distance of deep features: subclasses say what the features are and how they are compared."""

    _network: Any
    _original: tuple[Tensor | None, list[Tensor]] = (None, [])

    def __call__(self, x: Tensor, x_hat: Tensor) -> list[float]:
        """Values for one original x (1, 3, H, W) and x_hat (B, 3, H, W), uint8."""
        if self._original[0] is not x:
            self._original = (x, self._features(x))
        return self._compare(self._original[1], self._features(x_hat)).tolist()  # type: ignore[no-any-return]

    def _features(self, images: Tensor) -> list[Tensor]:
        """Features of images (B, 3, H, W) uint8."""
        raise NotImplementedError

    def _compare(self, x: list[Tensor], x_hat: list[Tensor]) -> Tensor:
        """Distances (B,) of one original's features from B reconstructions'."""
        raise NotImplementedError


class Lpips(_Distance):
    """LPIPS version 0.1 (Zhang et al. 2018) of the package `lpips`: on VGG16 with its first stage, else on AlexNet."""

    def __init__(
        self, device: torch.device, weights_dir: str | Path | None = None, first: Vgg16Stage | None = None
    ) -> None:
        self.min_side = 31 if first is None else 16  # what is left after the strides of the trunk
        self._first = first
        self._network = _on(device, build_lpips("alex" if first is None else "vgg", weights_dir))

    def _features(self, images: Tensor) -> list[Tensor]:
        from lpips import normalize_tensor

        network = self._network
        if self._first is None:
            taps = list(network.net(network.scaling_layer(_prepared(images) / 127.5 - 1)))
        else:
            taps = _stages(self._first(images), [getattr(network.net, f"slice{i}") for i in range(2, 6)])
        return [normalize_tensor(tap) for tap in taps]

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

    def __init__(self, device: torch.device, weights_dir: str | Path | None, first: Vgg16Stage) -> None:
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
        self._network, self._first = _on(device, freeze(network)), first

    def _features(self, images: Tensor) -> list[Tensor]:
        stages = [getattr(self._network, f"stage{i}") for i in range(2, 6)]
        return [_prepared(images) / 255, *_stages(self._first(images), stages)]

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
        return self._network(images)[0].float().cpu().numpy()  # type: ignore[no-any-return]


def _on(device: torch.device, network: nn.Module) -> nn.Module:
    # With channels last, convolutions take a third less time on a CPU.
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _prepared(images: Tensor) -> Tensor:
    return images.float().contiguous(memory_format=torch.channels_last)


def _stages(features: Tensor, stages: list[nn.Module]) -> list[Tensor]:
    """`features` and what each stage in turn makes of them."""
    taps = [features]
    for stage in stages:
        taps.append(stage(taps[-1]))
    return taps
