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
"""Edge in pixels of the square blocks whose means the coarse distortion compares."""
BALANCE = 0.5
"""Variable rate: a sample's loss is divided by (lambda / middle lambda)^BALANCE. Otherwise the high rates, whose losses
are larger, would dominate the shared weights; the optimum at a given rate stays the same."""
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

    The metric `ms_ssim_db` is -10 log10 of it, with the same window. Where the structure at some scale is opposite on
    average, the loss is 1 without a gradient: train it beside a pixel-wise distortion. Computed in float32 under
    autocast as well, since a variance is a difference of means.
    """
    window = ms_ssim_window(*x.shape[2:])
    with torch.autocast(x.device.type, enabled=False):
        return 1 - ms_ssim(x_hat.float(), x.float(), data_range=1.0, size_average=False, win_size=window)


def lambda_of(loss: BaseLossConfig, rate: Tensor, variable_rate: bool) -> Tensor:
    """Lambda (B,) for each sample's rate in [0, 1]: geometric between lambda_min and lambda_max, or the fixed one."""
    if not variable_rate:
        return torch.full_like(rate, loss.lmbda)
    if loss.lambda_on == "rate":  # The less bits cost, the more there are.
        rate = 1 - rate
    # lambda(r) = lambda_min (lambda_max / lambda_min)^r: log lambda is linear in the rate, and so are the log gains.
    return loss.lambda_min * (loss.lambda_max / loss.lambda_min) ** rate


def distortion_of(difference: Tensor, loss: BaseLossConfig) -> Tensor:
    """Distortion D (B,) of an error (B, 3, H, W); `mse` is multiplied by 255^2, the scale of published lambdas."""
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
    disparity: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise, and its parts as scalars for the log.

    L = mean over the batch of [ s R + sum over the tasks of s lambda (w_D D + w_C D_coarse + w_M (1 - MS-SSIM)
    + w_P P) ] + w_A A, or with lambda at R instead (CDC's and DICM's beta): R + lambda D (Ballé et al. 2017, arXiv
    1611.01704). R is the bits per pixel that the entropy model estimates for the file (`output.bits`).
    lambda follows from the rate r in [0, 1] that the sample is coded at (`output.rate`), and s balances these rates
    (BALANCE). P is the perceptual term (`modules/critic.py`). A is the error of alignment: `disparity` (B, H, W), in
    pixels of x and NaN where unknown, tells where the matches of a codec that aligns x_side should be. The codec itself
    never sees it.
    """
    lmbda = lambda_of(loss, output.rate, variable_rate)
    one = torch.ones_like(lmbda)
    # s = (lambda / sqrt(lambda_min lambda_max))^-BALANCE; 1 at a fixed rate.
    scale = one
    if variable_rate:
        scale = (lmbda / (loss.lambda_min * loss.lambda_max) ** 0.5) ** -BALANCE
    on_rate, on_quality = (lmbda, one) if loss.lambda_on == "rate" else (one, lmbda)

    # R: bits per pixel.
    bpp = output.bits / output.tasks[0].x[0, 0].numel()
    total = (scale * on_rate * bpp).mean()
    parts = {"bpp": bpp.mean()}

    for i, task in enumerate(output.tasks):
        # A task of S of the batch's B samples counts by S / B, so that its mean over S becomes a mean over the batch.
        weight = (scale * on_quality)[task.samples] * (len(task.samples) / len(lmbda))
        # Distortion D, of single values and of the means of COARSE x COARSE blocks.
        error = task.estimate - task.target
        distortion = distortion_of(error, loss)
        total = total + (weight * task.weight * loss.distortion_weight * distortion).mean()
        if loss.coarse_weight > 0:
            coarse = distortion_of(F.avg_pool2d(error.float(), COARSE), loss)
            total = total + (weight * task.weight * loss.coarse_weight * coarse).mean()
            parts[f"coarse_{i}"] = coarse.mean()
        # Structure: 1 - MS-SSIM of the images.
        if loss.ms_ssim_weight > 0:
            structure = ms_ssim_loss(task.x_hat, task.x)
            total = total + (weight * task.weight * loss.ms_ssim_weight * structure).mean()
            parts[f"ms_ssim_loss_{i}"] = structure.mean()
        parts[f"distortion_{i}"] = distortion.mean()
        # Perceptual term P, only of the samples in which it has a weight: its networks are expensive.
        weighted = task.perceptual_weight > 0
        if perceptual is not None and loss.has_perceptual and bool(weighted.any()):
            images = (task.x_hat[weighted].clamp(0, 1), task.x[weighted])
            critic = (task.critic_weight[weighted],) if isinstance(perceptual, AdversarialLoss) else ()
            distance = perceptual(*images, *critic)
            terms = (weight * task.perceptual_weight * loss.perceptual_weight)[weighted] * distance
            total = total + terms.sum() / len(weight)
            parts[f"perceptual_{i}"] = distance.mean()
    # Alignment A: Huber distance of matches from known disparities.
    taught = isinstance(loss, LossConfig) and loss.disparity_weight > 0
    if taught and disparity is not None and output.offsets and output.has_side is not None:
        known = torch.isfinite(disparity) & output.has_side[:, None, None]
        if bool(known.any()):
            error = disparity_error(output.offsets, disparity, known)
            total = total + loss.disparity_weight * error  # type: ignore[attr-defined]
            parts["disparity"] = error
    parts["loss"] = total
    return total, parts
