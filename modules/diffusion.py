"""The noise process, the three equivalent predictions, and the DDIM sampler (Song, Meng, Ermon 2021).

    x_t = alpha(t) x0 + sigma(t) n,   alpha^2 + sigma^2 = 1,   t in [0, 1],   n = gamma N(0, 1)

Images are in [-1, 1]. A network predicts x0, epsilon (= n) or v = alpha n - sigma x0 (Salimans and Ho 2022). The t that
the network sees is the t of this process, in training and in sampling alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from utils.errors import ConfigError

Prediction = Literal["x0", "epsilon", "v"]
Schedule = Literal["cosine", "linear", "cosine_offset"]
LINEAR_BETAS = (1e-4, 0.02)
"""First and last beta of the linear schedule at 1000 steps (Ho et al. 2020); scaled by 1000 / timesteps for others."""
COSINE_OFFSET = 0.008
MAX_BETA = 0.999
"""Upper bound of a beta (Nichol and Dhariwal 2021), so that no discrete level is pure noise."""


def discrete_alphas(schedule: Schedule, timesteps: int) -> Tensor:
    """alpha at t = 0, 1/T, ..., 1: (T + 1,) float64, from the betas of `linear` or `cosine_offset`."""
    if schedule == "linear":
        # beta_i from first to last in equal steps (Ho et al. 2020, arXiv 2006.11239, section 4).
        first, last = (beta * 1000 / timesteps for beta in LINEAR_BETAS)
        betas = torch.linspace(first, last, timesteps, dtype=torch.float64)
    else:
        # alpha^2(t) = cos^2(pi/2 (t + s) / (1 + s)) up to a factor, s = COSINE_OFFSET, and beta_i =
        # 1 - alpha^2(i/T) / alpha^2((i - 1)/T) (Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17).
        angle = (torch.linspace(0, 1, timesteps + 1, dtype=torch.float64) + COSINE_OFFSET) / (1 + COSINE_OFFSET)
        squared = (angle * (math.pi / 2)).cos() ** 2
        betas = 1 - squared[1:] / squared[:-1]
    # alpha(i/T)^2 = product of (1 - beta_j) for j up to i.
    alphas = (1 - betas.clamp(max=MAX_BETA)).cumprod(0).sqrt()
    return torch.cat([torch.ones(1, dtype=torch.float64), alphas])


class Process:
    """Noise schedule and conversions among x0, epsilon and v.

    `cosine` (Nichol and Dhariwal 2021, without offset) is continuous in time and ends in pure noise: alpha(1) = 0. Its
    noise-to-signal ratio is sigma / alpha = noise_ratio x tan(pi t / 2); noise_ratio below 1 shifts it towards low
    noise (Hoogeboom et al. 2023, arXiv 2301.11093, eq. 4), where the work lies if the context already tells most of
    the image: half of all times lie below noise_ratio.
    `linear` (Ho et al. 2020) and `cosine_offset` (Nichol and Dhariwal's own, with s = 0.008) are tables of betas over
    the `timesteps` discrete levels t = 1/T, 2/T, ..., 1; their alpha(1) is small but positive.
    """

    def __init__(
        self, prediction: Prediction, schedule: Schedule, timesteps: int = 0, noise_ratio: float = 1.0
    ) -> None:
        self.prediction, self.schedule, self.timesteps = prediction, schedule, timesteps
        self.noise_ratio = noise_ratio
        if timesteps:
            alpha = discrete_alphas(schedule, timesteps)
            self._alpha, self._sigma = alpha.float(), (1 - alpha**2).clamp(min=0).sqrt().float()

    def sample_t(self, uniform: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) -> noise levels in (0, 1], each of the discrete ones equally likely."""
        if not self.timesteps:
            return 1 - uniform
        return (torch.floor(uniform * self.timesteps).clamp(max=self.timesteps - 1) + 1) / self.timesteps

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """t (B,) -> alpha, sigma, each (B, 1, 1, 1) float32."""
        if self.timesteps:
            index = torch.round(t * self.timesteps).long()
            alpha, sigma = self._alpha.to(t.device)[index], self._sigma.to(t.device)[index]
        else:
            # sigma / alpha = noise_ratio tan(pi t / 2), brought to alpha^2 + sigma^2 = 1; alpha(1) is 0 exactly.
            angle = t.double() * (math.pi / 2)
            signal, noise = torch.where(t >= 1, 0.0, angle.cos()), self.noise_ratio * angle.sin()
            norm = torch.hypot(signal, noise)
            alpha, sigma = signal / norm, noise / norm
        return alpha.float()[:, None, None, None], sigma.float()[:, None, None, None]

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha x0 + sigma n."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should predict: x0, n, or v = alpha n - sigma x0 (Salimans and Ho 2022, appendix D)."""
        if self.prediction == "x0":
            return x0
        if self.prediction == "epsilon":
            return noise
        alpha, sigma = self.alpha_sigma(t)
        return alpha * noise - sigma * x0

    def to_x0(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """x0 from the network's prediction at x_t: x0 itself, (x_t - sigma n) / alpha, or alpha x_t - sigma v."""
        if self.prediction == "x0":
            return prediction
        alpha, sigma = self.alpha_sigma(t)
        if self.prediction == "epsilon":
            return (x_t - sigma * prediction) / alpha
        return alpha * x_t - sigma * prediction

    def noise_from_x0(self, x_t: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The noise n = (x_t - alpha x0) / sigma that x_t contains if its image is x0; needs t > 0."""
        alpha, sigma = self.alpha_sigma(t)
        return (x_t - alpha * x0) / sigma


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
    process: Process,
    predict: Callable[[Tensor, Tensor], Tensor],
    x_start: Tensor,
    steps: int,
    clip: bool = True,
    walk: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Tensor:
    """DDIM (Song, Meng, Ermon 2021, eq. 12 with eta = 0): from x_1 = x_start (B, 3, H, W) to x0.

    `predict` (x_t, t (B,)) -> the network's prediction; it is called `steps` times.

    With `clip`, each x0 is brought into [-1, 1] before the next step, as in training data. `walk` goes through the
    steps; see `Codec.walk`.
    """
    x_t = x_start
    times = step_times(process, steps).to(x_start.device)
    for now, after in walk([*pairwise(times)]):
        t, s = now.expand(len(x_t)), after.expand(len(x_t))
        # Estimate x0 at t, then x_s = alpha(s) x0 + sigma(s) n with the noise n that x_t holds beside that x0.
        x0 = process.to_x0(x_t, predict(x_t, t).float(), t)
        if clip:
            x0 = x0.clamp(-1, 1)
        x_t = process.add_noise(x0, process.noise_from_x0(x_t, x0, t), s)
    return x_t
