"""DDIM sampling (Song, Meng, Ermon 2021, eq. 12 with eta = 0)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from modules.diffusion import Process


def step_times(process: Process, steps: int) -> Tensor:
    """The steps + 1 noise levels of a decoding: from 1 down to 0, equally spaced, each one that training has seen."""
    return process.snap(torch.linspace(1, 0, steps + 1))


def ddim(
    process: Process, predict: Callable[[Tensor, Tensor], Tensor], x_start: Tensor, steps: int, clip: bool = True
) -> Tensor:
    """From x_1 = x_start (B, 3, H, W) to x0 in `steps` evaluations of predict(x_t, t (B,)).

    With `clip`, each x0 is brought into [-1, 1] before the next step, as in training data.
    """
    x_t = x_start
    times = step_times(process, steps).to(x_start.device)
    for now, after in zip(times[:-1], times[1:], strict=True):
        t, s = now.expand(len(x_t)), after.expand(len(x_t))
        x0 = process.to_x0(x_t, predict(x_t, t).float(), t)
        if clip:
            x0 = x0.clamp(-1, 1)
        x_t = process.add_noise(x0, process.noise_from_x0(x_t, x0, t), s)
    return x_t
