"""Loss of structure: 1 - MS-SSIM (Wang et al. 2003, doi 10.1109/ACSSC.2003.1292216)."""

from __future__ import annotations

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from utils.metrics.image import MsSsimDb


def ms_ssim_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """x_hat, x (B, 3, H, W) in [0, 1], H and W at least MsSsimDb.min_side -> 1 - MS-SSIM (B,), in [0, 1].

    What the metric `ms_ssim_db` is the logarithm of, with the same window. It is 1, without a gradient, for an image
    whose structure at some scale is opposite on average: train it beside a pixel-wise distortion. In float32 under
    autocast as well, since a variance is a difference of means.
    """
    window = MsSsimDb.window(*x.shape[2:])
    with torch.autocast(x.device.type, enabled=False):
        return 1 - ms_ssim(x_hat.float(), x.float(), data_range=1.0, size_average=False, win_size=window)
