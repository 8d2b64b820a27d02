"""LPIPS (Zhang et al. 2018, arXiv 1801.03924, version 0.1 of the package `lpips`) with a verified trunk.

The linear heads come with the package. The trunk is torchvision's ImageNet AlexNet or VGG16, found by `utils.weights`
and checked by hash, instead of the package's own download, which neither checks nor times out.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils.errors import WeightsError
from utils.frozen import freeze
from utils.weights import resolve

TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}
"""LPIPS variant -> name of its trunk's weights in `utils.weights.FILES`."""


def build_lpips(net: str, weights_dir: str | Path | None = None, *, allow_unverified: bool = False) -> nn.Module:
    """The frozen LPIPS network `net` ("alex" or "vgg"): called with images in [-1, 1], returns (B, 1, 1, 1).

    No dropout layers, no parameters (see `freeze`). Leaves the global random state as it was. Raises WeightsError if
    the trunk cannot be had or is not the published one.
    """
    path = resolve(TRUNKS[net], weights_dir, allow_unverified=allow_unverified)
    if find_spec("lpips") is None:
        raise WeightsError("LPIPS needs a package that is not installed: run `pip install lpips`.")
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision with retired arguments
        # pnet_rand: the package must not download; the trunk is loaded below.
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    # Without its dropout the package gives its linear layers other names and loads none of them, in silence.
    for layer in model.lins:
        layer.model = nn.Sequential(layer.model[-1])
    load_trunk([getattr(model.net, f"slice{i}") for i in range(1, 6)], path)
    return freeze(model)


def load_trunk(slices: list[Any], path: Path) -> None:
    """Loads torchvision's `features.N.weight/bias` into `slices`, Sequentials whose members are named N. Strict.

    Raises WeightsError if the file lacks a layer or has another shape.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    for part in slices:
        for name, layer in part.named_children():
            for key, parameter in layer.named_parameters():
                full = f"features.{name}.{key}"
                if full not in state or state[full].shape != parameter.shape:
                    raise WeightsError(
                        f"{path} lacks a {full} of shape {tuple(parameter.shape)}: delete it and run "
                        f"`python scripts/fetch_weights.py DIR` where there is a network."
                    )
                with torch.no_grad():
                    parameter.copy_(state[full])
