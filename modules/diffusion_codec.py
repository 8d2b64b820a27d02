"""This project's own codec; `modules/codec.py` draws its sender and receiver."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config, DiffusionConfig, LossConfig, ModelConfig
from modules.beginning import begin_as_transform_coding
from modules.codec import LEVELS, Codec, CodecOutput, DenoisingTask, rate_levels
from modules.diffusion import Process, ddim
from modules.entropy import Hyperprior
from modules.entropy_model import Coded
from modules.fusion import FusionSynthesis
from modules.integer import IntegerSynthesis, LayerSpec
from modules.noise import Draws, sampler_noise
from modules.tiling import Strip, by_strips
from modules.transforms import PATCH, STRIDE, Analysis, HyperAnalysis, SideEncoder
from modules.unet import UNet

NOISE_RATIO = 0.1
"""Noise over signal at t = 0.5 (`Process`). Low, since x_t has to tell only what the context does not."""
DATA_STD = 0.12
"""Standard deviation of x0 - mean, images in [-1, 1]: an image around what its context tells (Karras' sigma_data)."""
MAX_WEIGHT = 100.0
"""Upper bound of the weight of an x0 error at low noise."""


def build(config: Config) -> DiffusionCodec:
    """The codec of a configuration whose model.codec is `diffusion`."""
    model, diffusion, loss = config.model, config.diffusion, config.loss
    assert isinstance(model, ModelConfig) and isinstance(diffusion, DiffusionConfig) and isinstance(loss, LossConfig)
    return DiffusionCodec(model, diffusion, None if model.variable_rate else loss.lmbda, loss.rates)


@dataclass
class Context:
    """What y_hat and x_side tell the denoiser: features from fine to coarse, and the mean image in about [-1, 1]."""

    features: list[Tensor]
    mean: Tensor
    offsets: list[Tensor] = field(default_factory=list)
    """Where x_side was matched, as `CodecOutput.offsets`."""

    def __getitem__(self, samples: Tensor) -> Context:
        """The context of the samples with these indices in the batch."""
        return Context([f[samples] for f in self.features], self.mean[samples], [o[samples] for o in self.offsets])


class DiffusionCodec(Codec):
    """y_hat and features of x_side are the context of a diffusion decoder of one to N steps, at every rate.

    `modules/codec.py` has the diagram. The sender: `g_a` and `entropy`. The receiver: `entropy`, `e_side`, `g_s` (which
    fuses), `mean` (the mean image) and `unet`, the denoiser, which predicts x0. Two denoising tasks are trained on one
    context: the start of decoding (t = 1, noise of standard deviation gamma), and a random noise level.
    """

    def __init__(
        self,
        model: ModelConfig,
        diffusion: DiffusionConfig,
        lmbda: float | None,
        rates: tuple[float, ...] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.name = "ours" if model.fusion != "none" else "ours_no_side"
        self.variable_rate, self.lmbda = model.variable_rate, lmbda
        self.trained_levels = rate_levels(rates)
        self.needs_side = model.fusion != "none"
        self.accepts_no_side = not self.needs_side or model.side_dropout > 0
        self.side_dropout = model.side_dropout
        self.settings, self.denoises = diffusion, diffusion.denoises
        self.default_steps, self.default_gamma = diffusion.steps, diffusion.gamma
        # Decoding starts from noise alone, so the process has to end in pure noise, as this schedule does.
        self.process = Process("x0", "cosine", noise_ratio=NOISE_RATIO)
        levels = LEVELS if model.variable_rate else 1
        latent, hyper, embedding = model.latent, model.hyper, model.embedding
        self.g_a = Analysis(model.analysis_channels, model.analysis_blocks, latent, embedding, model.shortcut)
        wide = model.hyper_width or latent
        middle = (wide + hyper) // 2
        h_s = [
            LayerSpec(hyper, middle, upsample=2, activation="leaky_relu"),
            LayerSpec(middle, wide, upsample=2, activation="leaky_relu"),
            LayerSpec(wide, 2 * latent, kernel=1, activation="none"),
        ]
        self.entropy = Hyperprior(
            latent,
            hyper,
            HyperAnalysis(latent, hyper, middle),
            IntegerSynthesis(h_s, levels),
            levels,
            gains=(0.5, 3.0),
        )
        self.e_side = SideEncoder(model.side_channels, model.side_blocks) if self.needs_side else None
        self.g_s = FusionSynthesis(
            model.fusion,
            latent,
            model.synthesis_channels,
            model.synthesis_blocks,
            model.side_channels,
            model.attend,
            embedding,
            model.shortcut,
        )
        self.mean = nn.Conv2d(model.synthesis_channels[0], 3 * PATCH**2, 3, padding=1)
        self.unet = UNet(model.unet_channels, model.unet_blocks, model.synthesis_channels, embedding)
        if model.shortcut and min(model.analysis_channels[0], model.synthesis_channels[0]) >= 3 * PATCH**2:
            begin_as_transform_coding(self.g_a, self.entropy, self.g_s, self.mean)
        # Like the images; otherwise every convolution copies its weights at every call.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def context(self, y_hat: Tensor, x_side: Tensor | None, present: Tensor, rate: Tensor) -> Context:
        """y_hat, x_side in [0, 1] (any values where `present` (B,) is False) -> the denoiser's context."""
        encoded = None  # Features of x_side, or the learned null input where a sample has none.
        if self.e_side is not None:
            blank = y_hat.new_zeros(len(y_hat), 3, 16 * y_hat.shape[2], 16 * y_hat.shape[3])
            encoded = self.e_side(_channels_last(2 * x_side - 1 if x_side is not None else blank), present)
        features, offsets = self.g_s(_channels_last(y_hat), encoded, rate)
        return Context(features, F.pixel_shuffle(self.mean(features[0]), PATCH).float(), offsets)

    def analyse(self, x: Tensor, level: Tensor) -> Coded:
        """See Codec."""
        rate = _rate_of(level)

        def strip_of_y(strip: Strip) -> Tensor:
            return self.g_a(_channels_last(2 * x[:, :, strip.start : strip.stop] - 1), rate).float()

        return self.entropy(by_strips(strip_of_y, x.shape[2], self.tile_rows, STRIDE, self.walk), level)

    def forward(self, x: Tensor, x_side: Tensor, draws: Draws | None = None, rate: Tensor | None = None) -> CodecOutput:
        """See Codec; sizes must be multiples of 64. Both denoising tasks are to find the same x."""
        level = self.levels_of(x, draws, rate)
        if draws is None:  # Not training: the latent as coded.
            coded = self.analyse(x, level)
            return CodecOutput(coded.bits, _rate_of(level), coded.y_hat)

        # 1. The sender at a random rate level: analysis, quantisation, and the bits that coding would take.
        rate = _rate_of(level)
        y = self.g_a(_channels_last(2 * x - 1), rate)
        coded = self.entropy(y, level, draws)
        output = CodecOutput(coded.bits, rate, coded.y_hat, aux=self.entropy.loss())

        # 2. The context of both tasks, from y_hat and x_side; some samples have the null input instead of x_side.
        present = draws.keeps_side(self.side_dropout)
        context = self.context(coded.y_hat, x_side, present, rate)
        output.offsets, output.has_side = context.offsets, present

        # 3. Task 1, the start of decoding: t = 1, where alpha = 0 and sigma = 1, so that x_1 = gamma n, n ~ N(0, 1).
        standard_noise = draws.normal("noise", tuple(x.shape[1:]))
        gamma = draws.uniform("gamma")
        gamma = torch.where(draws.uniform("gamma_zero") < self.settings.start_fraction, 0.0, gamma)
        noise = gamma[:, None, None, None] * standard_noise
        everyone = torch.arange(len(x), device=x.device)
        start = self._denoise(everyone, x, noise, torch.ones_like(gamma), gamma, rate, context)
        output.tasks.append(start)

        # 4. Task 2, a random noise level, for a random part of the samples.
        chosen = draws.uniform("denoise") < self.settings.denoise_fraction
        if self.settings.sampled_steps:  # A later step of decoding, from what the network itself made so far.
            chosen &= gamma > 0  # Without noise, later steps change nothing.
            x_t, t = self._sampled(start.x_hat, noise, gamma, rate, context, draws)
        else:  # The original with noise: x_t = alpha x0 + sigma gamma n.
            gamma = torch.where(draws.uniform("gamma_one") < 0.5, 1.0, draws.uniform("gamma_t"))
            t = self.process.sample_t(draws.uniform("t"))
            x_t = self.process.add_noise(2 * x - 1, gamma[:, None, None, None] * standard_noise, t)
        if bool(chosen.any()):
            task = self._denoise(torch.nonzero(chosen)[:, 0], x, x_t, t, gamma, rate, context)
            weight = 1 / self.settings.denoise_fraction  # The expected weight of task 2 is then the weight of task 1.
            task.weight, task.perceptual_weight = weight * task.weight, weight * task.perceptual_weight
            output.tasks.append(task)
        return output

    @torch.no_grad()
    def _sampled(
        self, first: Tensor, noise: Tensor, gamma: Tensor, rate: Tensor, context: Context, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """x_t (B, 3, H, W) and t (B,) before a later step of DDIM from `noise`, whose first estimate of x is `first`.

        Each sample draws the number N of steps, from 2 to `sampled_steps`, and the step k from 1 to N - 1; step k is at
        t = 1 - k / N. What a sampler meets is what it is trained on: Yin et al. 2024 (arXiv 2405.14867, section 4.5).
        """
        steps = 2 + torch.floor(draws.uniform("steps") * (self.settings.sampled_steps - 1))
        step = 1 + torch.floor(draws.uniform("step") * (steps - 1))
        x0 = (2 * first - 1).clamp(-1, 1)
        t = 1 - 1 / steps
        x_t = self.process.add_noise(x0, noise, t)
        for number in range(2, int(step.max()) + 1):
            later = step >= number  # The other samples have arrived, and keep their x_t and t.
            x0 = self._estimate_x0(x_t, t, gamma, rate, context).clamp(-1, 1)
            noise, after = self.process.noise_from_x0(x_t, x0, t), torch.where(later, 1 - number / steps, t)
            x_t = torch.where(later[:, None, None, None], self.process.add_noise(x0, noise, after), x_t)
            t = after
        return x_t, t

    def _denoise(
        self, samples: Tensor, x: Tensor, x_t: Tensor, t: Tensor, gamma: Tensor, rate: Tensor, context: Context
    ) -> DenoisingTask:
        """The task to find x (B, 3, H, W) in x_t at noise level t, for the samples with these indices in the batch."""
        if len(samples) < len(x):
            x, x_t, t, gamma, rate = (value[samples] for value in (x, x_t, t, gamma, rate))
            context = context[samples]
        x_hat = (self._estimate_x0(x_t, t, gamma, rate, context) + 1) / 2
        weight = torch.ones_like(gamma)
        if not self.settings.sampled_steps:
            # (DATA_STD / c_out)^2 weighs all noise levels alike (Karras et al. 2022, table 1: lambda = 1 / c_out^2),
            # relative to t = 1. The error in an x_t of the network's own making does not fall with the noise.
            *_, c_out = self._precondition(t, gamma)
            weight = ((DATA_STD / c_out.clamp(min=1e-6))[:, 0, 0, 0] ** 2).clamp(max=MAX_WEIGHT)
        # The larger gamma, the more realism counts: from perceptual_floor to 1, and for the critic from 0 to 1.
        floor = self.settings.perceptual_floor
        return DenoisingTask(samples, x, x_hat, x_hat, x, weight, floor + (1 - floor) * gamma, critic_weight=gamma)

    def _precondition(self, t: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_in, c_skip, c_out, each (B, 1, 1, 1), which keep the network's input and target at unit size.

        Karras et al. 2022 (arXiv 2206.00364, table 1 and appendix B.6) for r = x0 - mean, whose standard deviation is
        DATA_STD, seen as alpha r + gamma sigma n. With s = alpha DATA_STD and v^2 = s^2 + (gamma sigma)^2:

            c_in = 1 / v,   c_skip = s DATA_STD / v^2,   c_out = gamma sigma DATA_STD / v

        c_skip (x_t - alpha mean) is the best linear estimate of r, and c_out the standard deviation of its error.
        """
        alpha, sigma = self.process.alpha_sigma(t)
        noise, signal = gamma[:, None, None, None] * sigma, alpha * DATA_STD
        total = torch.hypot(signal, noise)
        c_in = torch.where(total > 0, 1 / total.clamp(min=1e-12), 0.0)
        c_skip = signal * DATA_STD * c_in**2
        c_out = torch.where(alpha > 0, noise * DATA_STD * c_in, DATA_STD)  # Its limit at t = 1, for gamma 0 as well.
        return c_in, c_skip, c_out

    def _estimate_x0(self, x_t: Tensor, t: Tensor, gamma: Tensor, rate: Tensor, context: Context) -> Tensor:
        """x0 (B, 3, H, W) float32 as the denoiser estimates it from x_t, whose noise has the deviation gamma sigma(t).

        The network F works on the difference from the mean image (Karras et al. 2022, eq. 7, around a mean):

            x0 = mean + c_skip (x_t - alpha mean) + c_out w F(c_in (x_t - alpha mean); t, gamma, rate, context)

        so that neither the mean image nor what x_t shows at low noise has to pass through F. The weight
        w = alpha + (1 - alpha) gamma is gamma at t = 1: the image at gamma 0 is the mean image, and F has only to learn
        what makes it realistic.
        """
        c_in, c_skip, c_out = self._precondition(t, gamma)
        alpha, _ = self.process.alpha_sigma(t)
        difference = x_t - alpha * context.mean
        linear = context.mean + c_skip * difference
        noisy = torch.nonzero(gamma > 0)[:, 0]  # Without noise nothing is left to estimate.
        if not len(noisy):
            return linear
        weight = (c_out * (alpha + (1 - alpha) * gamma[:, None, None, None]))[noisy]
        features = context.features if len(noisy) == len(gamma) else [f[noisy] for f in context.features]
        raw = self.unet(_channels_last((c_in * difference)[noisy]), t[noisy], gamma[noisy], rate[noisy], features)
        return linear.index_add(0, noisy, weight * raw.float())

    def synthesise(
        self, y_hat: Tensor, x_side: Tensor | None, level: Tensor, steps: int, gamma: float, seed: int
    ) -> Tensor:
        """See Codec. DDIM in `steps` steps from x_1 = gamma n, strip by strip of the image's rows."""
        rate, batch, device = _rate_of(level), len(y_hat), y_hat.device
        present = torch.full((batch,), x_side is not None, dtype=torch.bool, device=device)
        gammas = torch.full((batch,), gamma, device=device)
        shape = (3, STRIDE * y_hat.shape[2], STRIDE * y_hat.shape[3])
        noise = gamma * sampler_noise(seed, shape) if gamma else torch.zeros(shape)

        def strip_of_image(strip: Strip) -> Tensor:
            rows = slice(strip.start, strip.stop)
            y_rows = y_hat[:, :, strip.start // STRIDE : strip.stop // STRIDE]
            context = self.context(y_rows, None if x_side is None else x_side[:, :, rows], present, rate)

            def predict(x_t: Tensor, t: Tensor) -> Tensor:
                return self._estimate_x0(x_t, t, gammas, rate, context)

            return (ddim(self.process, predict, noise[None, :, rows].to(device), steps, walk=self.walk) + 1) / 2

        return by_strips(strip_of_image, shape[1], self.tile_rows, walk=self.walk)


def _rate_of(level: Tensor) -> Tensor:
    return level.float() / (LEVELS - 1)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
