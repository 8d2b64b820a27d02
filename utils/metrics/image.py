"""Metrics of one image that need no network: PSNR, SSIM, MS-SSIM, ColorVideoVDP.

SSIM and MS-SSIM come from `pytorch-msssim`: learned compression reports its values (CompressAI depends on it), it lets
the MS-SSIM window be chosen, which torchmetrics derives from sigma, and scikit-image has no MS-SSIM.
All are called as metric(x, x_hat) with an original (1, 3, H, W) and B reconstructions of it (B, 3, H, W), uint8.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from modules.losses import MS_SSIM_MIN_EDGE, ms_ssim_window

PSNR_CAP_DB = 100.0
"""PSNR of identical images, whose value is infinite."""
MS_SSIM_CAP_DB = 50.0
"""Largest MS-SSIM in dB: single precision resolves 1 - MS-SSIM to about 1e-6."""
CVVDP_DISPLAY = "standard_fhd"
"""Display model of ColorVideoVDP. At 37.8 pixels a degree a pixel is visible; the package's default, a 4K monitor at
75.4, shows a 128x256 image 3.4 degrees wide and hides most of what codecs do."""


class ImageMetric(Protocol):
    """A metric of one image; `min_side` is the smallest side in pixels for which it is defined."""

    min_side: int

    def __call__(self, x: Tensor, x_hat: Tensor) -> list[float]:
        """Values (B) for an original x (1, 3, H, W) and its reconstructions x_hat (B, 3, H, W), uint8."""


class Psnr:
    """10 log10(255^2 / MSE) over all RGB values of the image, in dB, at most PSNR_CAP_DB."""

    min_side = 1

    def __call__(self, x: Tensor, x_hat: Tensor) -> list[float]:
        mse = (x.double() - x_hat.double()).square().mean((1, 2, 3))
        return (10 * torch.log10(255.0**2 / mse)).clamp(max=PSNR_CAP_DB).tolist()


class Ssim:
    """Wang et al. 2004: Gaussian window of 11, sigma 1.5, K 0.01 and 0.03, valid region, mean of the three channels."""

    min_side = 11

    def __call__(self, x: Tensor, x_hat: Tensor) -> list[float]:
        from pytorch_msssim import ssim

        return _structural(ssim, x, x_hat, window=11).tolist()


class MsSsimDb:
    """-10 log10(1 - MS-SSIM) in dB, Wang et al. 2003 with its five weights, at most MS_SSIM_CAP_DB.

    Images of at most 160 rows take the window 7 instead of 11 (`modules.losses.ms_ssim_window`).
    """

    min_side = MS_SSIM_MIN_EDGE

    def __call__(self, x: Tensor, x_hat: Tensor) -> list[float]:
        from pytorch_msssim import ms_ssim

        value = _structural(ms_ssim, x, x_hat, window=ms_ssim_window(*x.shape[2:]))
        return (-10 * torch.log10(1 - value)).clamp(max=MS_SSIM_CAP_DB).tolist()


def _structural(function: Callable[..., Tensor], x: Tensor, x_hat: Tensor, window: int) -> Tensor:
    """SSIM or MS-SSIM (B,) in double precision."""
    settings = {"data_range": 255, "size_average": False, "win_size": window, "win_sigma": 1.5}
    return function(x_hat.float(), x.float().expand_as(x_hat), **settings).double()


class ColorVideoVdp:
    """ColorVideoVDP (Mantiuk et al. 2024, doi 10.1145/3658144) of a still image, in JOD: 10 is identical.

    It stays beside the learned distances since it is a model of vision that no network and no data set decides.
    """

    min_side = 16

    def __init__(self, device: torch.device) -> None:
        # The package appends its folder, which holds a `utils`, to sys.path, and warns about CUDA tools it needs not.
        path = list(sys.path)
        try:
            with _errors_only(logging.getLogger("torch.utils.cpp_extension")):
                import pycvvdp
        finally:
            sys.path[:] = path
        self._metric = pycvvdp.cvvdp(display_name=CVVDP_DISPLAY, device=device, quiet=True)

    def __call__(self, x: Tensor, x_hat: Tensor) -> list[float]:
        # For every dark image the package supposes, on the root logger, that the values are not what they are.
        with _errors_only(logging.getLogger()):
            return [float(self._metric.predict(image, x, dim_order="BCHW")[0]) for image in x_hat.split(1)]


@contextmanager
def _errors_only(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
