"""1 - MS-SSIM as a loss: the metric's value, and a gradient that is finite where the package's is not."""

from __future__ import annotations

import pytest
import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from modules.structure import ms_ssim_loss


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """Random images (2, 3, H, W) in [0, 1] with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    for _ in range(3):
        image = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    return (image - image.amin()) / (image.amax() - image.amin())


@pytest.mark.parametrize(("size", "window"), [((128, 256), 7), ((192, 192), 11)])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
def test_it_is_one_minus_the_metric_of_the_package(size: tuple[int, int], window: int, noise: float) -> None:
    x = smooth(*size)
    x_hat = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    expected = 1 - ms_ssim(x_hat, x, data_range=1, size_average=False, win_size=window)
    torch.testing.assert_close(ms_ssim_loss(x_hat, x), expected, atol=1e-5, rtol=1e-4)


def test_equal_images_cost_nothing() -> None:
    x = smooth(128, 128)
    assert ms_ssim_loss(x, x).abs().max() < 1e-6


def test_the_gradient_is_finite_where_structure_is_opposite() -> None:
    """There a scale's factor is negative, and the package's power of 0 has a gradient that is not a number."""
    x = smooth(128, 128)
    x_hat = (1 - x).requires_grad_()
    (package,) = torch.autograd.grad(1 - ms_ssim(x_hat, x, data_range=1, win_size=7), x_hat)
    assert not package.isfinite().all()
    (gradient,) = torch.autograd.grad(ms_ssim_loss(x_hat, x).sum(), x_hat)
    assert gradient.isfinite().all()


def test_descent_brings_an_image_nearer() -> None:
    x = smooth(128, 128)
    x_hat = (x + 0.1 * smooth(128, 128, seed=2)).requires_grad_()
    before = ms_ssim_loss(x_hat, x).sum()
    (gradient,) = torch.autograd.grad(before, x_hat)
    after = ms_ssim_loss((x_hat - 0.01 * gradient.sign()).detach(), x).sum()
    assert after < before


def test_it_is_computed_in_float32_under_autocast() -> None:
    x, x_hat = smooth(128, 128), smooth(128, 128, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ms_ssim_loss(x_hat.bfloat16(), x)
    torch.testing.assert_close(loss, ms_ssim_loss(x_hat.bfloat16().float(), x))
