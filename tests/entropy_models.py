"""Entropy models and latents for tests."""

import torch
from torch import Tensor

from modules.entropy import Hyperprior
from modules.integer import IntegerSynthesis, LayerSpec
from modules.transforms import HyperAnalysis

LATENT = 16


def fresh(levels: int = 256) -> Hyperprior:
    """An untrained entropy model with gains 2 to 12."""
    torch.manual_seed(0)
    h_s = IntegerSynthesis(
        [
            LayerSpec(8, 12, upsample=2),
            LayerSpec(12, LATENT, upsample=2),
            LayerSpec(LATENT, 2 * LATENT, 1, activation="none"),
        ],
        levels,
    )
    h_a = HyperAnalysis(LATENT, 8, (LATENT + 8) // 2)
    return Hyperprior(LATENT, 8, h_a, h_s, levels, gains=(2.0, 12.0))


def frozen(levels: int = 256) -> Hyperprior:
    """The same, ready to code."""
    entropy = fresh(levels)
    entropy.freeze()
    return entropy


def latent(batch: int = 4, size: int = 4, spread: float = 1.0) -> Tensor:
    """y of this standard deviation."""
    return spread * torch.randn(batch, LATENT, size, size, generator=torch.Generator().manual_seed(0))
