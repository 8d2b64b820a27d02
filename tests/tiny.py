"""A codec so small that a test can build, train and run it in a moment, and images for it."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from image_files import write_pairs
from torch import Tensor

from config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from modules.codec import Codec, build_codec
from modules.losses import objective
from modules.noise import Draws


def tiny_config(name: str = "tiny", **parts: dict[str, Any]) -> Config:
    """A codec of 0.2 M parameters on 64x64 crops of a folder; `parts` replace fields: model={"fusion": "add"}, ..."""
    config = Config(
        name=name,
        data=DataConfig(dataset="folder", augment=AugmentConfig(height=64, width=64), workers=0, val_limit=1),
        model=ModelConfig(
            fusion="correlation",
            latent=16,
            hyper=8,
            shortcut=True,
            analysis_channels=(16, 24, 32),
            analysis_blocks=(1, 1, 1),
            side_channels=(16, 24, 32),
            side_blocks=(1, 1, 1),
            synthesis_channels=(16, 24, 32),
            unet_channels=(16, 24, 32),
            embedding=16,
        ),
        loss=LossConfig(lambda_min=0.002, lambda_max=0.05),
        train=TrainConfig(
            steps=4, batch_size=4, warmup=2, decay=2, precision="no", log_every=1, val_every=100, save_every=2, keep=5
        ),
    )
    for part, fields in parts.items():
        config = dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **fields)})
    return config


def smooth_pair(height: int = 64, width: int = 64, seed: int = 0, shift: int = 6) -> tuple[Tensor, Tensor]:
    """x and x_side (3, H, W) in [0, 1]: random patterns, shifted along the rows, and one that only x has."""
    generator = torch.Generator().manual_seed(seed)

    def pattern(cell: int, amplitude: float) -> Tensor:
        grid = torch.rand(1, 3, height // cell + 2, (width + shift) // cell + 2, generator=generator) - 0.5
        size = (height, width + shift)
        return amplitude * F.interpolate(grid, size=size, mode="bicubic", align_corners=False)[0]

    scene = 0.5 + pattern(32, 0.6) + pattern(12, 0.3) + pattern(5, 0.2)
    x = scene[:, :, shift:] + pattern(16, 0.5)[:, :, shift:]
    return x.clamp(0, 1).contiguous(), scene[:, :, :width].clamp(0, 1).contiguous()


def batch_of_pairs(count: int, height: int = 64, width: int = 64, first: int = 0) -> tuple[Tensor, Tensor]:
    """(count, 3, H, W) twice."""
    pairs = [smooth_pair(height, width, first + i) for i in range(count)]
    return torch.stack([x for x, _ in pairs]), torch.stack([side for _, side in pairs])


def untrained_codec(seed: int = 0, **parts: Any) -> Codec:
    """A codec of `tiny_config(**parts)` with fresh weights, frozen and in evaluation mode."""
    torch.manual_seed(seed)
    codec = build_codec(tiny_config(**parts))
    codec.freeze()
    return codec.eval()


def train_a_little(config: Config, steps: int, lr: float = 3e-3) -> Codec:
    """A codec after `steps` plain Adam steps on smooth pairs, frozen and in evaluation mode."""
    torch.manual_seed(0)
    codec = build_codec(config)
    with torch.no_grad():  # So few steps would leave the hyper-latent at zero.
        for layer in codec.entropy.h_s.convolutions()[:-1]:
            layer.bias.fill_(0.2)
        for parameter in codec.entropy.h_a.parameters():
            parameter.mul_(2)
    optimizer = torch.optim.Adam(codec.parameters(), lr=lr)
    x, side = batch_of_pairs(16)
    for step in range(steps):
        chosen = [(4 * step + i) % len(x) for i in range(4)]
        output = codec(x[chosen], side[chosen], Draws([Draws.key(0, 4 * step + i) for i in range(4)]))
        loss, _ = objective(output, config.loss, codec.variable_rate, None)
        optimizer.zero_grad()
        (loss + (output.aux if output.aux is not None else 0)).backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
    codec.freeze()
    return codec.eval()


def write_data(root: Path) -> Path:
    """A data set `folder` of 64x64 noise: 6 training pairs, 1 of `val`."""
    write_pairs(root / "train", [f"pair{i}" for i in range(6)], 64, 64)
    write_pairs(root / "val", ["held_out"], 64, 64)
    return root
