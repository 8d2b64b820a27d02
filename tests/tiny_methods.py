"""Every codec of the project by the name of a preset, in a size that a test can build, train and run in a moment."""

from __future__ import annotations

import dataclasses
from typing import Any

from tiny import tiny_config

from config import (
    CamModelConfig,
    Config,
    DsinModelConfig,
    ModelConfig,
    NdicModelConfig,
    NdscModelConfig,
    PaperModelConfig,
)
from utils.configio import preset_named

METHODS = (
    "demo", "dicm_paper", "dicm_no_side", "cdc_eps", "cdc_x", "ndic_bls17", "ndic_bls17_vr", "ndic_bmshj18",
    "ndic_bmshj18_vr", "ndic_cam", "ldmic", "ldmic_vr", "dsin", "ndsc",
)  # fmt: skip
"""To test a new method, add its preset."""
SMALL: dict[type, dict[str, Any]] = {
    ModelConfig: {f.name: getattr(tiny_config().model, f.name) for f in dataclasses.fields(ModelConfig)},
    PaperModelConfig: {"dim": 8, "finest_context": 3},
    NdicModelConfig: {"channels": 8},
    CamModelConfig: {"channels": 8, "height": 64, "width": 64, "attention": 8, "heads": 2},
    DsinModelConfig: {"channels": 8, "code": 4, "refine_channels": 6},
    NdscModelConfig: {"hidden": 8, "code": 8, "residual_layers": 1},
}
"""The fields that make a family's model small."""


def tiny_method(preset: str) -> Config:
    """A preset in its tiny size, on 64x64 crops of a folder, without pretrained networks in its loss."""
    config, tiny = preset_named(preset), tiny_config()
    model = dataclasses.replace(config.model, **SMALL[type(config.model)])
    loss = dataclasses.replace(config.loss, perceptual="none", perceptual_weight=0.0)
    train = dataclasses.replace(tiny.train, ema=config.train.ema)
    return dataclasses.replace(config, data=tiny.data, model=model, loss=loss, train=train)
