"""1 - MS-SSIM as a loss: what the metric is the logarithm of, and a gradient that helps or is zero."""

import pytest
import torch
from torch import Tensor

from modules.losses import ms_ssim_loss
from utils.metrics.image import MsSsimDb


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """Random images (2, 3, H, W) in [0, 1] with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    for _ in range(3):
        image = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    return (image - image.amin()) / (image.amax() - image.amin())


@pytest.mark.parametrize("size", [(128, 256), (192, 192)])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
def test_the_metric_is_its_logarithm(size: tuple[int, int], noise: float) -> None:
    """With the window of 7 below 161 rows, of 11 above."""
    x = (255 * smooth(*size)).round()
    x_hat = (x + 255 * noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).round()
    losses = ms_ssim_loss(x_hat / 255, x / 255)
    for index, loss in enumerate(losses.tolist()):
        (metric,) = MsSsimDb()(x[index : index + 1], x_hat[index : index + 1])
        assert loss == pytest.approx(10 ** (-metric / 10), rel=1e-3)


def test_equal_images_cost_nothing() -> None:
    x = smooth(128, 128)
    assert ms_ssim_loss(x, x).abs().max() < 1e-6


def test_where_fine_detail_is_opposite_it_is_one_and_its_gradient_finite() -> None:
    """One scale's factor is negative there, and a power below 1 has an infinite slope at 0."""
    coarse = 0.4 + 0.2 * smooth(128, 128)
    detail = 0.2 * (torch.rand(coarse.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    x, x_hat = coarse + detail, (coarse - detail).requires_grad_()
    loss = ms_ssim_loss(x_hat, x)
    assert loss.tolist() == [1, 1]
    (gradient,) = torch.autograd.grad(loss.sum(), x_hat)
    assert gradient.isfinite().all()


def test_descent_brings_an_image_nearer() -> None:
    x = smooth(128, 128)
    x_hat = (x + 0.1 * smooth(128, 128, seed=2)).requires_grad_()
    before = ms_ssim_loss(x_hat, x).sum()
    (gradient,) = torch.autograd.grad(before, x_hat)
    after = ms_ssim_loss((x_hat - 0.01 * gradient / gradient.abs().max()).detach(), x).sum()
    assert after < 0.8 * before


def test_it_is_computed_in_float32_under_autocast() -> None:
    x, x_hat = smooth(128, 128), smooth(128, 128, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ms_ssim_loss(x_hat.bfloat16(), x)
    torch.testing.assert_close(loss, ms_ssim_loss(x_hat.bfloat16().float(), x))
