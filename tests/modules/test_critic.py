"""The critic: it learns to tell decoded from real, the codec learns from it, and neither moves the other's weights."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from trainers import assert_same, config_on, state, trainer

from config import LossConfig
from modules.codec import CodecOutput, DenoisingTask
from modules.critic import AdversarialLoss, CriticTraining, build_perceptual_term, hinge_loss, realism
from modules.losses import objective
from modules.perceptual import EfficientNetLoss


@pytest.fixture
def adversarial() -> AdversarialLoss:
    torch.manual_seed(0)
    return AdversarialLoss(0.5)


def images(count: int = 4) -> tuple[Tensor, Tensor]:
    """Blurred and sharp."""
    sharp = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return F.interpolate(F.avg_pool2d(sharp, 4), scale_factor=4.0, mode="bilinear"), sharp


def test_hinge_loss_and_realism_are_their_formulas() -> None:
    real = [torch.tensor([[2.0, 0.5]]).view(2, 1, 1, 1), torch.zeros(2, 1, 2, 2)]
    fake = [torch.tensor([[-3.0, 0.0]]).view(2, 1, 1, 1), torch.ones(2, 1, 2, 2)]
    assert hinge_loss(real, fake).tolist() == [(0 + 0 + 1 + 2) / 2, (0.5 + 1 + 1 + 2) / 2]
    assert realism(fake).tolist() == [(-3 + 1) / 2, (0 + 1) / 2]


def test_the_codec_learns_from_it_without_moving_it(adversarial: AdversarialLoss) -> None:
    x_hat, x = images(2)
    x_hat.requires_grad_()
    share = torch.tensor([1.0, 0.2])
    value = adversarial(x_hat, x, share)
    logit = realism(adversarial.critic(adversarial.perceptual.features(x_hat)))
    expected = EfficientNetLoss()(x_hat, x) - 0.5 * share * logit
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    assert x_hat.grad is not None and float(x_hat.grad.abs().sum()) > 0
    assert all(p.grad is None for p in adversarial.parameters())
    assert {name.split(".")[0] for name, _ in adversarial.named_parameters()} == {"critic"}


def test_the_critic_learns_to_tell(adversarial: AdversarialLoss) -> None:
    x_hat, x = images()
    optimizer = torch.optim.Adam(adversarial.critic.parameters(), lr=5e-3)
    losses = []
    for _ in range(15):
        x_hat.requires_grad_()
        adversarial(x_hat, x, torch.ones(len(x)))
        adversarial.critic.requires_grad_(True)
        losses_now = adversarial.critic_losses()
        assert losses_now is not None and losses_now.shape == (len(x),)
        value = losses_now.mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        adversarial.critic.requires_grad_(False)
        losses.append(float(value.detach()))
    assert x_hat.grad is None and losses[0] == pytest.approx(2, abs=0.2)
    assert losses[-1] < 1, losses
    assert adversarial.critic_losses() is None  # Each image counts once.


def test_only_samples_with_a_weight_have_a_perceptual_term(adversarial: AdversarialLoss) -> None:
    x_hat, x = images()
    gamma = torch.tensor([0.0, 0.5, 0.0, 1.0])
    share = torch.tensor([1.0, 0.3, 1.0, 0.6])
    task = DenoisingTask(torch.arange(4), x, x_hat, x_hat, x, torch.ones(4), gamma, share)
    output = CodecOutput(torch.zeros(4), torch.full((4,), 0.5), torch.zeros(4, 1, 1, 1), [task])
    loss = LossConfig(lambda_min=1, lambda_max=1, distortion_weight=0, perceptual="effnet", perceptual_weight=3)
    total, parts = objective(output, loss, True, adversarial)
    alone = adversarial(x_hat[[1, 3]], x[[1, 3]], share[[1, 3]])
    torch.testing.assert_close(total, 3 * (0.5 * alone[0] + alone[1]) / 4)
    torch.testing.assert_close(parts["perceptual_0"], alone.mean())
    task = replace(task, perceptual_weight=torch.zeros(4))
    total, parts = objective(replace(output, tasks=[task]), loss, True, adversarial)
    assert float(total) == 0 and "perceptual_0" not in parts


def test_the_perceptual_term_follows_from_the_weights() -> None:
    weighted = LossConfig(perceptual="effnet", perceptual_weight=1.0)
    assert build_perceptual_term(LossConfig()) is None and type(build_perceptual_term(weighted)) is EfficientNetLoss
    assert isinstance(build_perceptual_term(replace(weighted, adversarial_weight=0.1)), AdversarialLoss)


def test_every_image_counts_alike_for_the_critic(adversarial: AdversarialLoss) -> None:
    """One call for all images and several of unequal size give the critic the same gradient."""
    x_hat, x = images()
    gradients = []
    for parts in ([slice(0, 4)], [slice(0, 1), slice(1, 4)]):
        training = CriticTraining(adversarial, lambda tensor: tensor)  # One process: the sum over all is its own.
        for part in parts:
            adversarial(x_hat[part], x[part], torch.ones(len(x[part])))
        training.step(0.0)
        gradients.append(torch.cat([p.grad.view(-1) for p in adversarial.critic.parameters() if p.grad is not None]))
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerate")
def test_adversarial_training_resumes_exactly(folder_data: Path, tmp_path: Path) -> None:
    loss = {"perceptual": "effnet", "perceptual_weight": 10.0, "adversarial_weight": 0.1}
    parts = {"loss": loss, "train": {"steps": 4, "save_every": 2}}
    trainer(config_on(folder_data, "whole", **parts), tmp_path).train()
    run = trainer(config_on(folder_data, "halves", **parts), tmp_path)
    assert run.critic is not None
    fresh = {name: p.clone() for name, p in run.critic.critic.named_parameters()}
    with patch.object(run, "validate", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        run.train()  # Validation comes after step 4, which is not saved by then.
    second = trainer(config_on(folder_data, "halves", **parts), tmp_path)
    assert second.step == 2
    second.train()
    whole, halves = (state(tmp_path, name, 4) for name in ("whole", "halves"))
    assert_same(whole, halves)
    assert all(not whole[f"critic.{name}"].equal(p) for name, p in fresh.items() if name.endswith("weight"))
    assert any(name.startswith("critic_optimizer.") for name in whole)
