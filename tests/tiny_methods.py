"""Every codec of the project by the name of a preset, in a size that a test can build, train and run in a moment."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from tiny import batch_of_pairs, tiny_config

from config import (
    CamModelConfig,
    Config,
    DsinModelConfig,
    ModelConfig,
    NdicModelConfig,
    NdscModelConfig,
    PaperDiffusionConfig,
    PaperModelConfig,
)
from modules.codec import Codec, build_codec
from modules.losses import objective
from modules.noise import Draws
from utils.configio import preset_named

METHODS = (
    "demo", "dicm_paper", "dicm_paper_vr", "dicm_no_side", "cdc_eps", "cdc_x", "ndic_bls17", "ndic_bls17_vr",
    "ndic_bmshj18", "ndic_bmshj18_vr", "ndic_cam", "ldmic", "ldmic_vr", "dsin", "ndsc", "ndsc_prior",
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
SIZE = (64, 64)


def tiny_method(preset: str) -> Config:
    """A preset in its tiny size, on 64x64 crops of a folder, in few steps, without pretrained networks in its loss."""
    config, tiny = preset_named(preset), tiny_config()
    model = dataclasses.replace(config.model, **SMALL[type(config.model)])
    loss = dataclasses.replace(config.loss, perceptual="none", perceptual_weight=0.0)
    train = dataclasses.replace(tiny.train, ema=config.train.ema)
    diffusion = config.diffusion
    if isinstance(diffusion, PaperDiffusionConfig):
        diffusion = dataclasses.replace(diffusion, steps=2)
    return dataclasses.replace(config, data=tiny.data, model=model, diffusion=diffusion, loss=loss, train=train)


def train_a_step(config: Config, steps: int = 1) -> tuple[Codec, list[float]]:
    """A codec after some steps on one batch with fixed noise, in training mode, and the loss at each."""
    torch.manual_seed(0)
    codec = build_codec(config).train()
    optimizer = torch.optim.Adam(codec.parameters(), lr=1e-3)
    x, side = batch_of_pairs(2, *SIZE)
    losses = []
    for _ in range(steps):
        output = codec(x, side, Draws([Draws.key(0, i) for i in range(2)]))
        loss, _ = objective(output, config.loss, codec.variable_rate, None)
        optimizer.zero_grad()
        (loss + (output.aux if output.aux is not None else 0)).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return codec, losses
