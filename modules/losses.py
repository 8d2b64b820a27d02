"""The training objective of any codec: rate, distortion and perceptual distance, traded by lambda."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from config import BaseLossConfig, LossConfig
from modules.codec import CodecOutput
from modules.critic import AdversarialLoss

COARSE = 4
"""Rows and columns of a block whose mean counts as a coarse value."""
FIRST_PRICE = 0.02
"""What a bit costs at step 0 of the rate warm-up, as a share of its full price; it rises geometrically."""


MS_SSIM_MIN_EDGE = 97
"""Smallest height and width in pixels for which MS-SSIM is defined."""


def ms_ssim_window(height: int, width: int) -> int:
    """Size in pixels of the Gaussian window of MS-SSIM, for an image of that size.

    The four halvings leave min(H, W) / 16 rows for the window: the standard 11 needs more than 160, so smaller images
    take 7 (more than 96 needed), and yet smaller ones have no value.
    """
    return 11 if min(height, width) > 160 else 7


def ms_ssim_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """x_hat, x (B, 3, H, W) in [0, 1], H and W at least MS_SSIM_MIN_EDGE -> 1 - MS-SSIM (B,), in [0, 1]
    (Wang et al. 2003, doi 10.1109/ACSSC.2003.1292216).

    What the metric `ms_ssim_db` is the logarithm of, with the same window. It is 1, without a gradient, for an image
    whose structure at some scale is opposite on average: train it beside a pixel-wise distortion. In float32 under
    autocast as well, since a variance is a difference of means.
    """
    window = ms_ssim_window(*x.shape[2:])
    with torch.autocast(x.device.type, enabled=False):
        return 1 - ms_ssim(x_hat.float(), x.float(), data_range=1.0, size_average=False, win_size=window)


def lambda_of(loss: BaseLossConfig, rate: Tensor, variable_rate: bool) -> Tensor:
    """Lambda (B,) for each sample's rate in [0, 1]: geometric from lambda_min to lambda_max, or the fixed one."""
    if not variable_rate:
        return torch.full_like(rate, loss.lmbda)
    assert isinstance(loss, LossConfig)
    return loss.lambda_min * (loss.lambda_max / loss.lambda_min) ** rate


def distortion_of(difference: Tensor, loss: BaseLossConfig) -> Tensor:
    """D (B,) of an error (B, 3, H, W); `mse` times 255^2, the scale of published lambdas."""
    difference = difference.float()
    if loss.distortion == "l1":
        return difference.abs().mean((1, 2, 3))
    return difference.square().mean((1, 2, 3)) * (255.0**2 if loss.distortion == "mse" else 1.0)


def disparity_error(offsets: list[Tensor], disparity: Tensor, known: Tensor) -> Tensor:
    """How far matches are from a disparity (B, H, W) in pixels: a Huber loss at each scale, averaged where `known`.

    `offsets` are (B, 1, h, w) in positions of H / h pixels to the right; what x shows at column u, x_side shows at
    column u - disparity. Linear beyond a pixel, so that a block across an edge follows the larger of its surfaces.
    """
    errors = []
    for offset in offsets:
        pixels = disparity.shape[-1] / offset.shape[-1]
        found = F.interpolate(-pixels * offset, size=disparity.shape[1:], mode="bilinear")[:, 0]
        errors.append(F.smooth_l1_loss(found[known], disparity[known]))
    return torch.stack(errors).mean()


def objective(
    output: CodecOutput,
    loss: BaseLossConfig,
    variable_rate: bool,
    perceptual: nn.Module | None,
    step: int,
    disparity: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise, and its parts as scalars for the log.

    Only bits that are sent are priced, from optimizer step `step` = loss.rate_warmup on in full. A prediction may be of
    either view; all are weighted alike. `disparity` (B, H, W), in pixels of x and NaN where unknown, tells where the
    matches of a codec that aligns x_side should be; the codec itself never sees it.
    """
    pixels = output.predictions[0].image[0, 0].numel()
    bpp = output.bits / pixels
    lmbda = lambda_of(loss, output.rate, variable_rate)
    one = torch.ones_like(lmbda)
    scale = one
    if variable_rate and isinstance(loss, LossConfig):
        scale = (lmbda / (loss.lambda_min * loss.lambda_max) ** 0.5) ** -loss.balance
    share_of_price = 1.0 if step >= loss.rate_warmup else FIRST_PRICE ** (1 - step / loss.rate_warmup)
    price = loss.rate_weight * share_of_price
    on_rate, on_quality = (lmbda, one) if loss.lambda_on == "rate" else (one, lmbda)
    total = price * (scale * on_rate * bpp).mean()
    parts = {"bpp": bpp.mean()}
    for i, task in enumerate(output.predictions):
        share = len(task.samples) / len(lmbda)
        weight = (scale * on_quality)[task.samples] * share
        difference = task.estimate - task.target
        distortion = distortion_of(difference, loss)
        total = total + (weight * task.weight * loss.distortion_weight * distortion).mean()
        if loss.coarse_weight > 0:
            coarse = distortion_of(F.avg_pool2d(difference.float(), COARSE), loss)
            total = total + (weight * task.weight * loss.coarse_weight * coarse).mean()
            parts[f"coarse_{i}"] = coarse.mean()
        if loss.ms_ssim_weight > 0:
            structure = ms_ssim_loss(task.x0, task.image)
            total = total + (weight * task.weight * loss.ms_ssim_weight * structure).mean()
            parts[f"ms_ssim_loss_{i}"] = structure.mean()
        parts[f"distortion_{i}"] = distortion.mean()
        judged = task.perceptual_weight > 0
        if perceptual is not None and loss.judges_images and bool(judged.any()):
            images = (task.x0[judged].clamp(0, 1), task.image[judged])
            critic = (task.realism[judged],) if isinstance(perceptual, AdversarialLoss) else ()
            distance = perceptual(*images, *critic)
            judgement = (weight * task.perceptual_weight * loss.perceptual_weight)[judged] * distance
            total = total + judgement.sum() / len(weight)
            parts[f"perceptual_{i}"] = distance.mean()
    if disparity is not None and output.has_side is not None and isinstance(loss, LossConfig) and loss.disparity_weight:
        known = torch.isfinite(disparity) & output.has_side[:, None, None]
        if bool(known.any()):
            error = disparity_error(output.offsets, disparity, known)
            total = total + loss.disparity_weight * error
            parts["disparity"] = error
    parts["loss"] = total
    return total, parts
