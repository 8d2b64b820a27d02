"""What published codecs without diffusion share: one pass gives the image, at one rate or at all."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from config import Config, LossConfig
from modules.codec import LEVELS, Codec, CodecOutput, DenoisingTask, rate_levels
from modules.entropy_model import Coded
from modules.noise import Draws


class Peer(Codec):
    """A codec x ─ g_a ─► y ─ entropy ─► y_hat ─ reconstruct(y_hat, x_side) ─► x_hat, images in [0, 1].

    A method gives `g_a`, `entropy` and `reconstruct`; one that trains on more than x_hat also overrides `train_on`.
    Steps, gamma and noise do not concern it. With model.variable_rate its entropy model has gain units and training
    draws the rate (`<name>_vr`); no paper has that, and it changes nothing else.
    """

    needs_side = True
    accepts_no_side = False
    denoiser = ()
    g_a: nn.Module

    def __init__(self, config: Config) -> None:
        super().__init__()
        assert isinstance(config.loss, LossConfig)
        self.variable_rate = bool(getattr(config.model, "variable_rate", False))
        self.name = config.model.codec + ("_vr" if self.variable_rate else "")
        self.lmbda = None if self.variable_rate else config.loss.lmbda
        self.levels = LEVELS if self.variable_rate else 1
        self.trained_levels = rate_levels(config.loss.rates)

    @abstractmethod
    def reconstruct(self, y_hat: Tensor, x_side: Tensor) -> Tensor:
        """y_hat and x_side (B, 3, H, W) in [0, 1] -> x_hat (B, 3, H, W), about [0, 1]."""

    def train_on(self, output: CodecOutput, y: Tensor, x: Tensor, x_side: Tensor, draws: Draws) -> None:
        """Give `output` the tasks of training, and add to its aux loss; `y` is the latent before quantisation."""
        output.tasks = [reconstruction(x, self.reconstruct(output.y_hat, x_side))]

    def analyse(self, x: Tensor, level: Tensor) -> Coded:
        """See Codec."""
        return self.entropy(self.g_a(x), level)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, x_side: Tensor, draws: Draws | None = None, rate: Tensor | None = None) -> CodecOutput:
        """See Codec; sizes must be multiples of `stride`."""
        level = self.levels_of(x, draws, rate)
        y = self.g_a(x)
        coded = self.entropy(y, level, draws)
        output = CodecOutput(coded.bits, level.float() / (LEVELS - 1), coded.y_hat)
        if draws is not None:
            output.aux = self.entropy.loss()
            self.train_on(output, y, x, x_side, draws)
        return output

    def synthesise(
        self, y_hat: Tensor, x_side: Tensor | None, level: Tensor, steps: int, gamma: float, seed: int
    ) -> Tensor:
        """See Codec; `steps`, `gamma` and `seed` have no effect."""
        if x_side is None:
            raise ValueError(f"{self.name} cannot decode without a side image.")
        return self.reconstruct(y_hat, x_side)


def reconstruction(x: Tensor, x_hat: Tensor, weight: float = 1.0) -> DenoisingTask:
    """The task to reconstruct x (B, 3, H, W) as x_hat, both in [0, 1], with this weight of its distortion."""
    x_hat = x_hat.float()
    weights = torch.full((len(x),), weight, device=x.device)
    return DenoisingTask(torch.arange(len(x), device=x.device), x, x_hat, x_hat, x, weights, weights, weights)
