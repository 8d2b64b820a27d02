"""DDIM sampling (Song, Meng, Ermon 2021, eq. 12 with eta = 0)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from modules.diffusion import Process
from utils.errors import ConfigError


def step_times(process: Process, steps: int) -> Tensor:
    """The steps + 1 noise levels (float32) of a decoding, from 1 down to 0, all but the last seen in training.

    Continuous time: equally spaced. Discrete levels: equally spaced from the noisiest (T/T) to the cleanest (1/T) as in
    CDC and DICM, rounded down to the grid, then 0; one step visits the noisiest alone. Raises ConfigError unless
    1 <= steps, and steps <= T if time is discrete.
    """
    levels = process.timesteps
    if steps < 1 or (levels and steps > levels):
        raise ConfigError(f"steps is {steps}; choose 1 to {levels or 'any number'}, the noise levels of this model.")
    if not levels:
        return torch.linspace(1, 0, steps + 1)
    # Integers: a linspace of floats rounds to the grid differently on different devices.
    if steps == 1:
        visited = torch.tensor([levels])
    else:
        visited = torch.arange(steps - 1, -1, -1) * (levels - 1) // (steps - 1) + 1
    return torch.cat([visited, torch.zeros(1, dtype=torch.int64)]).float() / levels


def ddim(
    process: Process, predict: Callable[[Tensor, Tensor], Tensor], x_start: Tensor, steps: int, clip: bool = True
) -> Tensor:
    """From x_1 = x_start (B, 3, H, W) to x0 in `steps` evaluations of predict(x_t, t (B,)).

    With `clip`, each x0 is brought into [-1, 1] before the next step, as in training data.
    """
    x_t = x_start
    times = step_times(process, steps).to(x_start.device)
    for now, after in pairwise(times):
        t, s = now.expand(len(x_t)), after.expand(len(x_t))
        x0 = process.to_x0(x_t, predict(x_t, t).float(), t)
        if clip:
            x0 = x0.clamp(-1, 1)
        x_t = process.add_noise(x0, process.noise_from_x0(x_t, x0, t), s)
    return x_t
