"""The adversarial part of the perceptual term: a critic that learns to tell decoded images from originals.

A projected discriminator (Sauer et al. 2021, arXiv 2111.01007): small trained heads on the features of the frozen
network of the perceptual loss, which are computed once for both.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import BaseLossConfig
from modules.perceptual import EfficientNetLoss, build_perceptual
from modules.pretrained.effnet import CHANNELS, feature_distance

WIDTH = 64
"""Channels inside a head."""
LEARNING_RATE = 5e-4
BETAS = (0.0, 0.99)
"""Of the critic's Adam. No momentum, as is usual for critics: the right answer changes with the codec."""


class Critic(nn.Module):
    """Features of EfficientNet-Lite0 -> logits at every position of every tap; above 0: classified as an original."""

    def __init__(self, taps: tuple[str, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {
                tap: nn.Sequential(
                    nn.Conv2d(CHANNELS[tap], WIDTH, 1),
                    nn.SiLU(),
                    nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                    nn.SiLU(),
                    nn.Conv2d(WIDTH, 1, 1),
                )
                for tap in taps
            }
        )

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """{tap: (B, C, h, w)} -> logits (B, 1, h, w) for each tap, float32."""
        return [head(F.normalize(features[tap].float(), dim=1, eps=1e-6)).float() for tap, head in self.heads.items()]


def hinge_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """What the critic minimises (Lim and Ye 2017, arXiv 1705.02894): (B,), the mean over positions, then over taps."""
    # max(0, 1 - C(x)) + max(0, 1 + C(x_hat))
    terms = [(F.relu(1 - r) + F.relu(1 + f)).mean((1, 2, 3)) for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).mean(0)


def realism(logits: list[Tensor]) -> Tensor:
    """What the codec maximises: (B,), the mean logit of each image over positions, then over taps."""
    return torch.stack([logit.mean((1, 2, 3)) for logit in logits]).mean(0)


def build_perceptual_term(loss: BaseLossConfig, weights_dir: str | Path | None = None) -> nn.Module | None:
    """The perceptual term of the objective: a perceptual distance, with a critic or without; None: no such term.

    Raises WeightsError as `build_perceptual` does. A critic has the features of `effnet` (`utils/configrules.py`).
    """
    if not loss.has_perceptual:
        return None
    if loss.adversarial_weight > 0:
        return AdversarialLoss(loss.adversarial_weight)
    return build_perceptual(loss.perceptual, weights_dir)


class AdversarialLoss(nn.Module):
    """P = perceptual distance - `weight` x critic_weight x realism. Called as the perceptual losses, and with those
    weights.

    It keeps the features of the images that it was called with, without their graph, until `critic_losses` takes them.
    Its only parameters are the critic's; a call passes gradients to x_hat and not to them.
    """

    network = EfficientNetLoss.network

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.perceptual = EfficientNetLoss()
        self.critic = Critic(EfficientNetLoss.taps).requires_grad_(False)
        self.seen: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def forward(self, x_hat: Tensor, x: Tensor, critic_weight: Tensor) -> Tensor:
        """x_hat, x (B, 3, H, W) in [0, 1], critic_weight (B,) -> (B,).

        The critic learns from the images whose weight is above 0.
        """
        with torch.no_grad():
            features = self.perceptual.features(x)
        features_hat = self.perceptual.features(x_hat)
        # For the critic's own step: both sets of features, without the graph of the codec.
        used = torch.nonzero(critic_weight > 0)[:, 0]
        if len(used):
            fake = {tap: f[used].detach() for tap, f in features_hat.items()}
            self.seen.append((fake, {tap: f[used] for tap, f in features.items()}))
        # For the codec's step: the generator's hinge loss is minus the critic's mean logit (Lim and Ye 2017).
        logit = realism(self.critic(features_hat))
        return feature_distance(features_hat, features) - self.weight * critic_weight * logit

    def critic_losses(self) -> Tensor | None:
        """The critic's loss (N,) on each image since the last call; None without any."""
        losses = [hinge_loss(self.critic(real), self.critic(fake)) for fake, real in self.seen]
        self.seen.clear()
        return torch.cat(losses) if losses else None


class CriticTraining:
    """The critic's own step after each step of the codec: its optimizer, on one process or many alike.

    `reduce` sums a tensor over all processes.
    """

    def __init__(self, loss: AdversarialLoss, reduce: Callable[[Tensor], Tensor]) -> None:
        self.critic, self._loss, self._reduce = loss.critic, loss, reduce
        self._parameters = list(loss.critic.parameters())
        self.optimizer = torch.optim.Adam(self._parameters, lr=LEARNING_RATE, betas=BETAS)

    def step(self, factor: float) -> dict[str, Tensor]:
        """One step, at `factor` times the learning rate, on all images since the last; {"critic": its loss}."""
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor
        self.optimizer.zero_grad(set_to_none=False)
        self.critic.requires_grad_(True)
        losses = self._loss.critic_losses()
        if losses is not None:
            losses.sum().backward()
        self.critic.requires_grad_(False)
        # The mean over all images of all processes and passes: sums of gradients and counts are reduced together.
        # A process that has seen no image adds zeros.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        flat = torch.cat([gradient.view(-1) for gradient in gradients])
        count = flat.new_full((1,), 0.0 if losses is None else len(losses))
        flat, count = self._reduce(torch.cat([flat, count])).split([len(flat), 1])
        flat = flat / count.clamp(min=1)
        pieces = flat.split([p.numel() for p in self._parameters])
        for parameter, gradient in zip(self._parameters, pieces, strict=True):
            parameter.grad = gradient.view_as(parameter)
        self.optimizer.step()
        return {} if losses is None else {"critic": losses.detach().mean()}
