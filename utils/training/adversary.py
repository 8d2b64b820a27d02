"""The critic's side of adversarial training: one step of its own optimizer after each step of the codec's."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from modules.critic import AdversarialLoss

BETAS = (0.0, 0.99)
"""Adam's, usual for critics: no momentum, since what is right changes with the codec."""


class Adversary:
    """Trains the critic of an AdversarialLoss, on one process or many alike."""

    def __init__(self, loss: AdversarialLoss, lr: float, accelerator: Accelerator) -> None:
        self.loss, self.lr, self.accelerator = loss, lr, accelerator
        self.parameters = list(loss.critic.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=lr, betas=BETAS)

    def learn(self, factor: float) -> dict[str, torch.Tensor]:
        """One step, at `factor` times the learning rate, on all images judged since the last; {"critic": its loss}."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * factor
        self.optimizer.zero_grad(set_to_none=False)
        self.loss.critic.requires_grad_(True)
        losses = self.loss.critic_losses()
        if losses is not None:
            losses.sum().backward()
        self.loss.critic.requires_grad_(False)
        # Every image counts alike, whichever process and pass judged it; one that judged none has zeros to give.
        flat = torch.cat([torch.zeros_like(p).view(-1) if p.grad is None else p.grad.view(-1) for p in self.parameters])
        count = flat.new_full((1,), 0.0 if losses is None else len(losses))
        flat, count = self.accelerator.reduce(torch.cat([flat, count]), "sum").split([len(flat), 1])
        flat = flat / count.clamp(min=1)
        for parameter, gradient in zip(self.parameters, flat.split([p.numel() for p in self.parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)
        self.optimizer.step()
        return {} if losses is None else {"critic": losses.detach().mean()}
