"""LPIPS (Zhang et al. 2018, arXiv 1801.03924, version 0.1 of the package `lpips`) with proved convolutions.

The linear layers come with the package. The convolutions are torchvision's ImageNet AlexNet or VGG16
(`modules/pretrained/weights.py`), instead of the package's own download, which neither checks nor times out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modules.pretrained.frozen import freeze
from modules.pretrained.weights import load

TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}
"""LPIPS variant -> name of its convolutions' weights."""


def build_lpips(net: str, weights_dir: str | Path | None = None) -> nn.Module:
    """The frozen LPIPS network `net` ("alex" or "vgg"): called with images in [-1, 1], returns (B, 1, 1, 1).

    No dropout layers, no parameters (see `freeze`). Leaves the global random state as it was. Raises WeightsError if
    the convolutions cannot be had.
    """
    tensors = load(TRUNKS[net], weights_dir)
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision with retired arguments
        # pnet_rand: the package must not download; the convolutions are set below.
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    # Without its dropout the package gives its linear layers other names and loads none of them, in silence.
    for layer in model.lins:
        layer.model = nn.Sequential(layer.model[-1])
    set_convolutions([getattr(model.net, f"slice{i}") for i in range(1, 6)], tensors)
    return freeze(model)


def set_convolutions(slices: list[Any], tensors: Mapping[str, Tensor]) -> None:
    """Copies torchvision's `features.N.weight` and `.bias` into `slices`, Sequentials whose members are named N."""
    with torch.no_grad():
        for part in slices:
            for name, layer in part.named_children():
                for key, parameter in layer.named_parameters():
                    parameter.copy_(tensors[f"features.{name}.{key}"])
