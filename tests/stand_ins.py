"""Random weights of the right shapes, pinned for the time of a test, to see how weights are found and loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modules.pretrained import weights
from utils.errors import WeightsError


def trunk(name: str, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Writes random convolutions of torchvision's `alexnet` or `vgg16`, which `patch` makes the pinned ones."""
    from torchvision import models

    with torch.device("meta"):
        layers = getattr(models, name)(weights=None).features.state_dict(prefix="features.")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in layers.items():
        fan_in = value[0].numel() if value.ndim > 1 else 1e4
        state[key] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
    spec = replace(weights.WEIGHTS[name], sha256=weights.digest(state))
    patch.setitem(weights.WEIGHTS, name, spec)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / spec.file)
    return state


def require_weights(*names: str) -> None:
    """Skips the test, with the remedy, where the real weights are absent."""
    for name in names:
        try:
            weights.load(name)
        except WeightsError as error:
            pytest.skip(str(error))
