"""The networks of CDC and DICM as one module each, without entropy model, diffusion process or loss.

Images are in [-1, 1] here. What a codec class adds: quantisation and rate of each codec's latents (h_s from
`PaperTransforms.hyper_synthesis_layers`, a factorized prior for z), the diffusion process, padding and files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from modules.paper_transforms import PaperTransforms
from modules.paper_unet import PaperUNet
from utils.errors import ConfigError

COMMON_NOISE_STD = math.sqrt(0.001)
"""Standard deviation of the Gaussian noise on every map of w's contexts in training (DICM); none when decoding."""


def add_contexts(contexts: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """Sum of two context lists, map by map."""
    return [a + b for a, b in zip(contexts, others, strict=True)]


def perturb_common(contexts: Sequence[Tensor], noise: Sequence[Tensor]) -> list[Tensor]:
    """w's contexts with the training noise: `noise` holds N(0, 1) maps of the same shapes, drawn by the caller."""
    return [w + COMMON_NOISE_STD * n.to(w.dtype) for w, n in zip(contexts, noise, strict=True)]


class CDCBackbone(nn.Module):
    """CDC (arXiv 2209.06950): one codec's transforms and the U-Net.

    ```
     x ─ g_a ─► y ─ quantise ─► y_hat ─ g_s ─► contexts ─┐
                                          x_t, t ────────┴─► U-Net ─► noise or image
    ```
    `finest_context` is the width of the full-resolution context: 3 for the epsilon model, 64 for the x model. With
    DICM's settings and 3 it is also DICM without side information.
    """

    def __init__(
        self,
        dim: int = 64,
        mults: Sequence[int] = (1, 2, 3, 4),
        hyper_mults: Sequence[int] = (4, 4, 4),
        unet_mults: Sequence[int] = (1, 2, 3, 4, 5, 6),
        finest_context: int = 3,
    ) -> None:
        super().__init__()
        if finest_context < 1:
            raise ConfigError(f"finest_context is {finest_context}; it must be at least 1 (published: 3 or 64).")
        self.codec = PaperTransforms(dim, mults, hyper_mults, finest_context)
        self.unet = PaperUNet(dim, unet_mults, self.codec.context_channels)
        self.multiple = max(self.codec.hyper_stride, self.unet.stride)
        """Image sides must be multiples of this (64)."""

    def analysis(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] -> y (B, 256, H/16, W/16)."""
        return self.codec.analysis(x)

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y -> z (B, 256, H/64, W/64)."""
        return self.codec.hyper_analysis(y)

    def synthesis(self, y_hat: Tensor) -> list[Tensor]:
        """y_hat -> contexts from fine to coarse."""
        return self.codec.synthesis(y_hat)

    def denoise(self, x_t: Tensor, t: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        """x_t (B, 3, H, W), t (B,) from `normalised_time`, contexts -> the prediction (B, 3, H, W)."""
        return self.unet(x_t, t, contexts)


class DICMBackbone(CDCBackbone):
    """DICM: three equal codecs (x, side image, common information w), one U-Net; 81 M parameters with h_s and priors.

    ```
     sender    x ───── codec.g_a ──► y ──────► y_hat ──────── codec.g_s ──► contexts of x ─┐
     receiver  x_side ─ common.g_a ─► w ─────► w_hat ──────── common.g_s ─► contexts of w ─┴─ + ─► U-Net(x_t)
               x_side ─ side.g_a ──► y_side ─► y_side_hat ─── side.g_s ───► contexts ────────────► U-Net(side_t)
    ```
    The contexts of x and of w are added at the four scales; the side image's own reconstruction uses the side codec's
    contexts alone, through the same U-Net. That task shapes training only: decoding x needs neither its codec nor its
    result. Only y is ever sent. w's latent is quantised like y; in training its contexts get `perturb_common`.
    """

    def __init__(
        self,
        dim: int = 64,
        mults: Sequence[int] = (1, 2, 3, 4),
        hyper_mults: Sequence[int] = (4, 4, 4),
        unet_mults: Sequence[int] = (1, 2, 3, 4, 5, 6),
        finest_context: int = 3,
    ) -> None:
        super().__init__(dim, mults, hyper_mults, unet_mults, finest_context)
        self.side = PaperTransforms(dim, mults, hyper_mults, finest_context)
        self.common = PaperTransforms(dim, mults, hyper_mults, finest_context)

    def contexts_of_x(self, y_hat: Tensor, w_hat: Tensor, common_noise: Sequence[Tensor] | None = None) -> list[Tensor]:
        """y_hat, w_hat (B, 256, H/16, W/16) -> the sum of both codecs' contexts; `common_noise` in training only."""
        common = self.common.synthesis(w_hat)
        if common_noise is not None:
            common = perturb_common(common, common_noise)
        return add_contexts(self.codec.synthesis(y_hat), common)

    def contexts_of_side(self, y_side_hat: Tensor) -> list[Tensor]:
        """y_side_hat (B, 256, H/16, W/16) -> the contexts with which the side image itself is denoised."""
        return self.side.synthesis(y_side_hat)
