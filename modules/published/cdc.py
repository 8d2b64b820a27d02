"""CDC as a codec of this project: one image, a hyperprior latent, a conditional U-Net that denoises in many steps."""

from __future__ import annotations

import torch
from torch import Tensor

from config import Config, PaperDiffusionConfig, PaperModelConfig
from modules.codec import LEVELS, Codec, CodecOutput, DenoisingTask, rate_levels
from modules.diffusion import Process, ddim
from modules.entropy import Hyperprior
from modules.entropy_model import Coded
from modules.integer import IntegerSynthesis
from modules.noise import Draws, sampler_noise
from modules.published.transforms import PaperAnalysis, PaperHyperAnalysis, PaperSynthesis, hyper_synthesis_layers
from modules.published.unet import PaperUNet

NAMES = {"epsilon": "cdc_eps", "x0": "cdc_x", "v": "cdc_v"}
GAINS = (0.5, 3.0)
"""Gains at the lowest and the highest rate before training, of variable-rate models."""


def build(config: Config) -> CDC:
    """The codec of a configuration with model.codec `cdc`."""
    assert isinstance(config.diffusion, PaperDiffusionConfig)
    return CDC(config, NAMES[config.diffusion.prediction])


class CDC(Codec):
    """Yang and Mandt, "Lossy Image Compression with Conditional Diffusion Models", NeurIPS 2023, arXiv 2209.06950.

    ```
     x ─ g_a ─► y ─ entropy ─► file ─► y_hat ─ g_s ─► contexts at 4 scales
                                                          │
               gamma N(0, 1), seeded by the file ─► U-Net(x_t, t), N steps ─► x_hat
    ```
    Loss: beta bpp + (1 - rho) D + rho LPIPS at a random t; D is the L1 error of epsilon, or the squared error of x0
    weighted with the signal-to-noise ratio cut off at `max_weight`. 53.6 M parameters.

    Nothing comparable is published: the paper trains on Vimeo-90k at 256x256, which is no source here. Operation
    counts: 1.05 TFLOP a step (x-prediction 1.22), so 37 (42) hours on one A100 at 8 TFLOP/s.

    Departures from the released code. The file is real, and h_s exact in integers (`hyper_synthesis_layers`); gradients
    pass the scales' lower bound. At a noise level the network is told the same t in training and in sampling: the
    level's number in 1..T over T (published: counted from 0). The decoder's noise follows from the file.

    Training in the released code, and in the presets. Epsilon: Adam 4e-5, halved within seven steps after the first
    100 k (here linearly from there to the end). x0: T 8193, cosine schedule with offset, min(SNR, 5), beta 0.0032, 65
    steps, Adam 5e-5 falling to a fifth within eight steps after the first 100 k (here linearly), and an average of the
    weights taken every tenth step with 0.999, which is 0.9999 a step. `<name>_vr` draws the rate, by gain units that no
    paper has.
    """

    needs_side = False
    accepts_no_side = True

    def __init__(self, config: Config, name: str) -> None:
        super().__init__()
        model, diffusion = config.model, config.diffusion
        assert isinstance(model, PaperModelConfig) and isinstance(diffusion, PaperDiffusionConfig)
        loss = config.loss
        self.variable_rate, self.trained_levels = model.variable_rate, rate_levels(loss.rates)
        self.name, self.lmbda = (f"{name}_vr", None) if self.variable_rate else (name, loss.lmbda)
        self.beta = (loss.lambda_min * loss.lambda_max) ** 0.5 if self.variable_rate else loss.lmbda
        self.default_steps, self.default_gamma = diffusion.steps, diffusion.gamma
        self.max_weight = diffusion.max_weight
        self.process = Process(diffusion.prediction, diffusion.schedule, diffusion.timesteps)
        self.g_a = PaperAnalysis(model.dim)
        latent = self.g_a.latent_channels
        widths = (latent,) * 3
        levels = LEVELS if self.variable_rate else 1
        h_s = IntegerSynthesis(hyper_synthesis_layers(latent, widths), levels)
        self.entropy = Hyperprior(latent, latent, PaperHyperAnalysis(latent, widths), h_s, levels, GAINS)
        self.g_s = PaperSynthesis(model.dim, out_channels=model.finest_context)
        self.unet = PaperUNet(model.dim, context_channels=self.g_s.context_channels)

    def analyse(self, x: Tensor, level: Tensor) -> Coded:
        """See Codec."""
        return self.entropy(self.g_a(2 * x - 1), level)

    def forward(self, x: Tensor, x_side: Tensor, draws: Draws | None = None, rate: Tensor | None = None) -> CodecOutput:
        """See Codec; sizes must be multiples of 64."""
        # Analysis, quantisation and rate of x, as a file carries it.
        level = self.levels_of(x, draws, rate)
        coded = self.entropy(self.g_a(2 * x - 1), level, draws)
        output = CodecOutput(coded.bits, level.float() / (LEVELS - 1), coded.y_hat)
        if draws is not None:
            output.tasks, output.aux = self.denoising_tasks(coded.y_hat, x, x_side, draws)
        return output

    def denoising_tasks(
        self, y_hat: Tensor, x: Tensor, x_side: Tensor, draws: Draws
    ) -> tuple[list[DenoisingTask], Tensor]:
        """The denoising tasks of training, and the aux loss."""
        # One noise level t for each sample, uniform; the context is g_s(y_hat).
        t = self.process.sample_t(draws.uniform("t"))
        noise = draws.normal("noise", tuple(x.shape[1:]))
        return [self.denoise(x, noise, t, self.g_s(y_hat))], self.entropy.loss()

    def denoise(self, x: Tensor, noise: Tensor, t: Tensor, contexts: list[Tensor]) -> DenoisingTask:
        """The denoising task for x (B, 3, H, W) in [0, 1] at noise levels t (B,)."""
        # x_t = alpha x0 + sigma n (Ho et al. 2020, arXiv 2006.11239, eq. 4); the network predicts n, x0 or v from it.
        x0 = 2 * x - 1
        x_t = self.process.add_noise(x0, noise, t)
        prediction = self.unet(x_t, t, contexts).float()
        return DenoisingTask(
            samples=torch.arange(len(x), device=x.device),
            x=x,
            x_hat=(self.process.to_x0(x_t, prediction, t) + 1) / 2,
            estimate=prediction,
            target=self.process.target(x0, noise, t),
            weight=self.distortion_weight(t),
            perceptual_weight=torch.ones_like(t),
            critic_weight=torch.ones_like(t),
        )

    def distortion_weight(self, t: Tensor) -> Tensor:
        """t (B,) -> as published: 1 for epsilon, min(SNR, max_weight) for an error of x0, and its equivalent for v."""
        if self.process.prediction == "epsilon":
            return torch.ones_like(t)
        # min(SNR, max_weight), SNR = (alpha / sigma)^2 (Hang et al. 2023, arXiv 2303.09556); for v times sigma^2, since
        # x0 = alpha x_t - sigma v makes the error of x0 sigma times the error of v.
        alpha, sigma = (value[:, 0, 0, 0] for value in self.process.alpha_sigma(t))
        weight = ((alpha / sigma) ** 2).clamp(max=self.max_weight)
        return weight if self.process.prediction == "x0" else weight * sigma**2

    def decoding_contexts(self, y_hat: Tensor, x_side: Tensor | None) -> list[Tensor]:
        """The U-Net's contexts at the receiver."""
        return self.g_s(y_hat)

    def synthesise(
        self, y_hat: Tensor, x_side: Tensor | None, level: Tensor, steps: int, gamma: float, seed: int
    ) -> Tensor:
        """See Codec. gamma is the standard deviation of the starting noise; the network is not told of it."""
        contexts = self.decoding_contexts(y_hat, x_side)
        start = gamma * sampler_noise(seed, (1, 3, 16 * y_hat.shape[2], 16 * y_hat.shape[3])).to(y_hat.device)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return self.unet(x_t, t, contexts)

        # As published: x0 is kept in range between steps by the x model, not by the epsilon models.
        x_hat = ddim(self.process, predict, start, steps, self.process.prediction != "epsilon", self.walk)
        return (x_hat + 1) / 2
