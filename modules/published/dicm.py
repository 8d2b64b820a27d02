"""DICM as a codec of this project: the first conditional diffusion decoder with side information."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from config import Config, PaperModelConfig
from modules.codec import DenoisingTask
from modules.noise import Draws
from modules.published.cdc import CDC
from modules.published.receiver import ReceiverCodec

COMMON_NOISE_STD = math.sqrt(0.001)
"""Standard deviation of the Gaussian noise on every map of w's contexts in training; none when decoding."""


def build(config: Config) -> CDC:
    """The codec of a configuration with model.codec `dicm`; with fusion `none` it is one without a side image."""
    return CDC(config, "dicm_no_side") if config.model.fusion == "none" else DICM(config, "dicm")


def add_contexts(contexts: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """Sum of two context lists, map by map."""
    return [a + b for a, b in zip(contexts, others, strict=True)]


def perturb_common(contexts: Sequence[Tensor], noise: Sequence[Tensor]) -> list[Tensor]:
    """w's contexts with the training noise: `noise` holds N(0, 1) maps of the same shapes."""
    return [w + COMMON_NOISE_STD * n.to(w.dtype) for w, n in zip(contexts, noise, strict=True)]


class DICM(CDC):
    """DICM, "Distributed Image Compression with Conditional Diffusion Models" (code: dongqingcc/DICC).

    ```
     sender    x ──────── g_a ─► y ─ entropy ─► file
     receiver  file ──────────────────────► y_hat ─ g_s ─► contexts of x ─┐
               x_side ─ common.g_a ─► w ──► w_hat ─ g_s ─► contexts of w ─┴─ + ─► U-Net(x_t, t)
     training  x_side ─ side.g_a ──► y_s ─► y_s_hat ─ g_s ─► contexts ──────────► the same U-Net(side_t, t)
    ```
    Three equal codecs and one U-Net, 81 M parameters. Only y is sent. Denoising the side image with its own codec's
    contexts, at the same t, shapes the U-Net in training; decoding needs neither that codec nor its result.

    Expect, on Cityscapes, the published curve (read off a figure): 0.088 bpp FID 10.8, DISTS .075, PSNR 29.1; 0.106 bpp
    10.2, .067, 29.5; 0.174 bpp 7.9, .057, 31.1. "Without w" (0.129 bpp: FID 126, 26.2 dB) may not have been retrained.
    Operation counts: 2.3 TFLOP a step, so 32 hours on one A100 at 8 TFLOP/s; without x_side 1.05 TFLOP, 15 hours.

    Loss: CDC's for either view, without the bits of w and of the side codec. The released code adds them to the rate
    term although they are never sent, so that beta does not price the rate; here their hyperpriors are fitted to
    detached latents, with weight beta, in the aux loss. Other departures: those of `CDC`.

    Departures of the preset's training: the flip swaps the views; KITTI crops are taken anywhere along the row.
    Published, the learning rate falls by a tenth an epoch from step 315 k (KITTI) on to its floor, a half, without a
    stated end; here it falls linearly from there to that floor at 400 k. The quantiles have a faster learning rate.
    """

    needs_side = True
    accepts_no_side = False

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config, name)
        assert isinstance(config.model, PaperModelConfig)
        self.common = ReceiverCodec(config.model.dim, config.model.finest_context)
        self.side = ReceiverCodec(config.model.dim, config.model.finest_context)

    def denoising_tasks(
        self, y_hat: Tensor, x: Tensor, x_side: Tensor, draws: Draws
    ) -> tuple[list[DenoisingTask], Tensor]:
        """Both views are denoised, at the same noise level."""
        t = self.process.sample_t(draws.uniform("t"))
        noise, noise_side = (draws.normal(name, tuple(x.shape[1:])) for name in ("noise", "noise_side"))
        # The receiver's two codecs of x_side: common information w, and the codec of the x_side task.
        common = self.common(2 * x_side - 1, draws, "common")
        side = self.side(2 * x_side - 1, draws, "side")
        # Context of x: g_s(y_hat) + g_s(w_hat) + noise, scale by scale. Context of x_side: its own codec's.
        maps = [draws.normal(f"common_{scale}", tuple(w.shape[1:])) for scale, w in enumerate(common.contexts)]
        contexts = add_contexts(self.g_s(y_hat), perturb_common(common.contexts, maps))
        tasks = [self.denoise(x, noise, t, contexts), self.denoise(x_side, noise_side, t, side.contexts)]
        # Aux loss: quantiles of three bottlenecks, and beta times the bits of what is never sent.
        quantiles = sum(prior.loss() for prior in (self.common.hyperprior.prior, self.side.hyperprior.prior))
        return tasks, self.entropy.loss() + quantiles + self.beta * (common.bpp + side.bpp)

    def decoding_contexts(self, y_hat: Tensor, x_side: Tensor | None) -> list[Tensor]:
        """The sum of x's and w's contexts."""
        if x_side is None:
            raise ValueError("DICM cannot decode without a side image.")
        return add_contexts(self.g_s(y_hat), self.common(2 * x_side - 1, None, "common").contexts)
