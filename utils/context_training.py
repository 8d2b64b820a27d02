"""Latents of a frozen encoder, and training of a `ContextModel` on them; for `scripts/study_context.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from config import LossConfig
from data.mixture import Mixture, make_loader
from modules.codec import LEVELS, pad
from modules.diffusion_codec import DiffusionCodec
from modules.integer import ACTIVATION_BITS
from modules.losses import lambda_of
from modules.transforms import HYPER_STRIDE
from utils.context_study import ContextModel, Latents
from utils.training_state import STATE_FILE, load_training_state, save_training_state

BATCH = 16
WARMUP = 100
SAVE_EVERY = 100


@dataclass(frozen=True)
class Settings:
    """Optimizer steps, and the peak learning rates of h_s and of the context."""

    steps: int
    lr: float
    context_lr: float


@torch.no_grad()
def analyse(codec: DiffusionCodec, x: Tensor, level: Tensor) -> Latents:
    """What `Hyperprior.quantise` computes from x (B, 3, H, W) in [0, 1], sides multiples of 64, before y is rounded."""
    entropy = codec.entropy
    image = (2 * x - 1).contiguous(memory_format=torch.channels_last)
    y = codec.g_a(image, level.float() / (LEVELS - 1)).float() * entropy.gain(level)
    medians = (entropy.z_medians.float() * 2.0**-ACTIVATION_BITS)[:, None, None]
    return Latents(y.contiguous(), torch.round(entropy.h_a(y) - medians) + medians, level)


def training_latents(codec: DiffusionCodec, mixture: Mixture, crops: int) -> Latents:
    """The first training crops of a run, each at a random rate level."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        analyse(codec, batch["x"].float() / 255, torch.randint(LEVELS, (BATCH,), generator=generator))
        for batch in make_loader(mixture, range(crops), BATCH, workers=1)
    ]
    return joined(parts)


def latents_of_size(codec: DiffusionCodec, images: Sequence[Tensor], size: int) -> tuple[Latents, list[int]]:
    """Latents of images (3, H, W) of one size at the lowest rate level whose files have `size` bytes or more in the
    mean (the highest if none have), and the bytes of each file."""
    low, high = -1, LEVELS - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.mean(_file_sizes(codec, images, middle)) < size else (low, middle)
    parts = [analyse(codec, pad(image[None], HYPER_STRIDE), torch.tensor([high])) for image in images]
    return joined(parts), _file_sizes(codec, images, high)


def _file_sizes(codec: DiffusionCodec, images: Sequence[Tensor], level: int) -> list[int]:
    return [len(codec.compress(image, level / (LEVELS - 1))) for image in images]


def joined(parts: Sequence[Latents]) -> Latents:
    """One after the other."""
    return Latents(*(torch.cat([getattr(part, name) for part in parts]) for name in ("y", "z_hat", "level")))


def fit(model: ContextModel, train: Latents, loss: LossConfig, settings: Settings, folder: Path) -> None:
    """Adam on the noisy bits of y, rates balanced as in `modules/losses.py`.

    Samples and noise are the same for every model. The state is kept in `folder`, and found there when run again.
    """
    weight = lambda_of(loss, train.level / (LEVELS - 1), True) / (loss.lambda_min * loss.lambda_max) ** 0.5
    weight = weight**-loss.balance / 1000
    generator = torch.Generator().manual_seed(0)
    context = model.context()
    others = [parameter for parameter in model.parameters() if all(parameter is not own for own in context)]
    groups = [(others, settings.lr), (context, settings.context_lr)]
    optimizer = torch.optim.Adam([{"params": parameters, "peak": lr} for parameters, lr in groups])
    modules: dict[str, nn.Module] = {"model": model}
    optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": optimizer}
    found = (folder / STATE_FILE).is_file()
    done = load_training_state(folder, modules, optimizers)[0] if found else 0
    order = torch.empty(0, dtype=torch.long)
    for step in range(settings.steps):
        if len(order) < BATCH:
            order = torch.randperm(len(train.level), generator=generator)
        chosen, order = order[:BATCH], order[BATCH:]
        noise = torch.rand((len(chosen), *train.y.shape[1:]), generator=generator) - 0.5
        if step < done:  # The random numbers of an earlier call have to pass.
            continue
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, (step + 1) / WARMUP, 1.5 * (1 - step / settings.steps))
        bits = (weight[chosen] * model(train[chosen], noise)).mean()
        optimizer.zero_grad()
        bits.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0:
            print(f"step {step + 1}: {float(bits.detach()):.4f}", file=sys.stderr, flush=True)
            folder.mkdir(exist_ok=True)
            save_training_state(folder, step + 1, modules, optimizers, {})


@torch.no_grad()
def measure(model: ContextModel, held_out: dict[str, Latents]) -> dict[str, list[float]]:
    """Bits of each image's y at each size, by the exact integers."""
    model.freeze()
    return {size: model(latents, exact=True).tolist() for size, latents in held_out.items()}
