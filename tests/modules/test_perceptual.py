"""Perceptual losses: right network, right range, never trained, never saved, never in training mode."""

import pytest
import stand_ins
import torch
from torch import nn

from modules.perceptual import EfficientNetLoss, LpipsLoss, build_perceptual


@pytest.fixture(scope="module")
def effnet() -> EfficientNetLoss:
    loss = build_perceptual("effnet")
    assert isinstance(loss, EfficientNetLoss)
    return loss


@pytest.fixture()
def stand_in_vgg(tmp_path, monkeypatch):
    stand_ins.trunk("vgg16", tmp_path, monkeypatch)
    return tmp_path


def batch(seed: int = 0, size: tuple[int, int] = (64, 96)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, *size, generator=generator)
    return (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1), x


def test_effnet_is_a_distance_and_trains_x_hat(effnet):
    x_hat, x = batch()
    value = effnet(x_hat, x)
    assert value.shape == (2,) and (value > 1e-3).all() and (value < 4).all()
    assert effnet(x, x).abs().max() == 0
    x_hat = x_hat.requires_grad_()
    value = effnet(x_hat, x).sum()
    value.backward()
    stepped = (x_hat - 0.5 * x_hat.grad / x_hat.grad.abs().max() * 0.02).detach()
    assert effnet(stepped, x).sum() < value


@pytest.mark.slow
def test_lpips_loss_equals_the_package(stand_in_vgg):
    loss = LpipsLoss(stand_in_vgg)
    loss.train()
    assert not any(module.training for module in loss.modules())
    assert not any(isinstance(module, nn.Dropout) for module in loss.lpips.lins.modules())
    assert not loss.state_dict() and not list(loss.parameters())
    x_hat, x = batch()
    with torch.no_grad():
        package = loss.lpips(2 * x_hat - 1, 2 * x - 1).flatten()
    assert torch.allclose(loss(x_hat, x), package, rtol=1e-4)
    assert loss(x, x).abs().max() == 0
    assert not torch.allclose(loss(x_hat, x), loss.lpips(x_hat, x).flatten(), rtol=1e-2)  # [0, 1] is another number

    # A black image has features that are zero in every channel: the gradient must stay finite.
    for layer in loss.lpips.net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.bias.zero_()
    shift = loss.lpips.scaling_layer.shift
    black = ((shift + 1) / 2).expand(1, 3, 32, 32).clone().requires_grad_()
    loss(black, x[:1, :, :32, :32]).sum().backward()
    assert torch.isfinite(black.grad).all()
