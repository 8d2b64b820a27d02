"""InceptionV3 of FID and KID (2015-12-05), by torch-fidelity's port of the original TensorFlow network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modules.pretrained.frozen import freeze
from modules.pretrained.weights import load

DIMENSION = 2048


def _network() -> Any:
    """torch-fidelity's network, up to the pooled features, with fresh weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]
        """The package's constructor always loads a file; this one is given an empty one and ignores it."""

        def load_state_dict(self, state: Any, *_: Any, **__: Any) -> None:
            """Keep the fresh weights."""

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng(devices=[]):
        return Unloaded("inception-v3-compat", [str(DIMENSION)], feature_extractor_weights_path=empty)


def layer_names() -> list[str]:
    """The 94 convolutions with batch norm, in the order of the network."""
    return [name.removesuffix(".conv") for name, _ in _network().named_modules() if name.endswith(".conv")]


def build_inception(weights_dir: str | Path | None = None) -> nn.Module:
    """The frozen network: called with (B, 3, H, W) uint8, returns a list with the pooled features (B, 2048).

    It resizes to 299x299 by itself. Raises WeightsError, with the remedy, if the weights cannot be had.
    """
    tensors = load("inception", weights_dir)
    network = _network()
    parameters: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for name, value in tensors.items():
            parameters[name].copy_(value)
        for name in layer_names():
            parameters[f"{name}.bn.weight"].fill_(1.0)
    return freeze(network)
