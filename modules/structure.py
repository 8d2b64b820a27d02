"""Loss of structure: 1 - MS-SSIM (Wang et al. 2003, doi 10.1109/ACSSC.2003.1292216), safe to differentiate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.metrics.image import MsSsimDb

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, fine to coarse (ibid., section 3.2)."""
SIGMA = 1.5
"""Standard deviation of the Gaussian window in pixels."""
C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for values in [0, 1] (Wang et al. 2004, doi 10.1109/TIP.2003.819861)."""
FLOOR = 1e-3
"""What a scale's factor is at least: a power below 1 has an infinite slope at 0."""


def ms_ssim_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """x_hat, x (B, 3, H, W) in [0, 1], H and W at least MsSsimDb.min_side -> 1 - MS-SSIM (B,), mean over channels.

    The value of the metric `ms_ssim_db`, with its window, where every scale's factor is above FLOOR; multiples of 16
    only. In float32 under autocast as well, since a variance is a difference of means.
    """
    with torch.autocast(x.device.type, enabled=False):
        a, b = x_hat.float().contiguous(), x.float().contiguous()
        window = _gaussian(MsSsimDb.window(*x.shape[2:]), a)
        similarity = torch.ones(a.shape[:2], device=a.device)
        for scale, weight in enumerate(WEIGHTS):
            last = scale == len(WEIGHTS) - 1
            factor = _factor(a, b, window, with_luminance=last)
            similarity = similarity * factor.clamp(min=FLOOR) ** weight
            if not last:
                a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        return 1 - similarity.mean(1)


def _gaussian(size: int, like: Tensor) -> Tensor:
    places = torch.arange(size, dtype=torch.float32, device=like.device) - size // 2
    weights = torch.exp(-places.square() / (2 * SIGMA**2))
    return weights / weights.sum()


def _factor(a: Tensor, b: Tensor, window: Tensor, with_luminance: bool) -> Tensor:
    """Mean over all windows of contrast and structure, times luminance if asked: (B, 3)."""
    moments = torch.cat((a, b, a * a, b * b, a * b), 1)
    kernel = window.expand(moments.shape[1], 1, -1)
    moments = F.conv2d(moments, kernel[:, :, :, None], groups=moments.shape[1])
    moments = F.conv2d(moments, kernel[:, :, None, :], groups=moments.shape[1])
    mean_a, mean_b, square_a, square_b, product = moments.flatten(2).unflatten(1, (5, -1)).unbind(1)
    variances = square_a - mean_a.square() + square_b - mean_b.square()
    ssim = (2 * (product - mean_a * mean_b) + C2) / (variances + C2)
    if with_luminance:
        ssim = ssim * (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return ssim.mean(2)
