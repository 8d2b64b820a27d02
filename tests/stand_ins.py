"""Random weights in the libraries' own formats, to test how weights are found, checked and loaded. Never the metric."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import torch

from utils.weights import FILES


def trunk(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """Writes torchvision's `alexnet` or `vgg16` (convolutions only) with random weights and returns its state."""
    from torchvision import models

    with torch.device("meta"):
        layers = getattr(models, name)(weights=None).features.state_dict(prefix="features.")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in layers.items():
        fan_in = value[0].numel() if value.ndim > 1 else 1e4
        state[key] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
    torch.save(state, folder / FILES[name].file)
    return state


def inception(folder: Path) -> Path:
    """Writes torch-fidelity's InceptionV3 with random weights."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with (
        torch.random.fork_rng(),
        patch.object(module, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None),
    ):
        torch.manual_seed(0)
        network = module.FeatureExtractorInceptionV3("stand-in", ["2048"])
    path = folder / FILES["inception"].file
    torch.save(network.state_dict(), path)
    return path
