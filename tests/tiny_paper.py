"""The published presets with 8 channels where they have 64."""

import dataclasses

from tiny import batch_of_pairs

from config import PRESETS, Config
from modules.noise import Draws

PAPERS = ("dicm_paper", "dicm_no_side", "cdc_eps", "cdc_x")
X, X_SIDE = batch_of_pairs(2)


def tiny_paper(preset: str, **model: object) -> Config:
    """A published preset with 8 channels where it has 64."""
    config = PRESETS[preset]
    finest = min(config.model.finest_context, 8)
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, **{"dim": 8, "finest_context": finest, **model})
    )


def draws(first: int = 0, count: int = 2) -> Draws:
    return Draws([Draws.key(0, first + i) for i in range(count)])
