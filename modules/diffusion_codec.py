"""The codec that this project is about: its sender and receiver as drawn in `modules/codec.py`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config, DiffusionConfig, LossConfig, ModelConfig
from modules.codec import LEVELS, Codec, CodecOutput, Prediction
from modules.diffusion import Process, ddim
from modules.entropy import Coded, Hyperprior
from modules.fusion import FusionSynthesis
from modules.integer import IntegerSynthesis, LayerSpec
from modules.noise import Draws, sampler_noise
from modules.tiling import Strip, by_strips
from modules.transforms import PATCH, STRIDE, Analysis, HyperAnalysis, SideEncoder
from modules.unet import UNet


def build(config: Config) -> DiffusionCodec:
    """The codec of a configuration with model.codec `diffusion`."""
    model, diffusion, loss = config.model, config.diffusion, config.loss
    assert isinstance(model, ModelConfig) and isinstance(diffusion, DiffusionConfig) and isinstance(loss, LossConfig)
    return DiffusionCodec(model, diffusion, None if model.variable_rate else loss.lmbda, loss.rates)


@dataclass
class Context:
    """What y_hat and x_side tell the denoiser: features from fine to coarse, and a first image in about [-1, 1]."""

    features: list[Tensor]
    mean: Tensor

    def __getitem__(self, samples: Tensor) -> Context:
        """The context of the samples with these places in the batch."""
        return Context([f[samples] for f in self.features], self.mean[samples])


class DiffusionCodec(Codec):
    """Hyperprior latent + fused side features as context of a one-to-N-step diffusion decoder, at every rate.

    The diagram of `modules/codec.py`. The sender: `g_a` and `entropy`. The receiver: `entropy`, `e_side`, `g_s` (which
    fuses) and `unet`. Two denoising tasks are trained on one context: the start of decoding (t = 1, noise of standard
    deviation gamma), and a random noise level. `gamma` conditions the network.
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
        self._trained_levels = [round(rate * (LEVELS - 1)) for rate in rates]
        self.needs_side = model.fusion != "none"
        self.accepts_no_side = not self.needs_side or model.side_dropout > 0
        self.side_dropout = model.side_dropout
        self.settings = diffusion
        self.default_steps, self.default_gamma = diffusion.steps, diffusion.gamma
        # Decoding starts from noise alone, so the process has to end in pure noise, as this schedule does.
        self.process = Process(diffusion.prediction, "cosine", noise_ratio=diffusion.noise_ratio)
        levels = LEVELS if model.variable_rate else 1
        latent, hyper, embedding = model.latent, model.hyper, model.embedding
        self.g_a = Analysis(model.analysis_channels, model.analysis_blocks, latent, embedding)
        middle = (latent + hyper) // 2
        h_s = [
            LayerSpec(hyper, middle, upsample=2, activation="leaky_relu"),
            LayerSpec(middle, latent, upsample=2, activation="leaky_relu"),
            LayerSpec(latent, 2 * latent, kernel=1, activation="none"),
        ]
        self.entropy = Hyperprior(
            latent,
            hyper,
            HyperAnalysis(latent, hyper),
            IntegerSynthesis(h_s, levels),
            levels,
            gains=(0.5, 3.0),
            mean_before_gain=model.mean_before_gain,
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
        )
        self.mean = nn.Conv2d(model.synthesis_channels[0], 3 * PATCH**2, 3, padding=1)
        self.unet = UNet(model.unet_channels, model.unet_blocks, model.synthesis_channels, embedding)
        # Like the images; otherwise every convolution copies its weights at every call.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def context(self, y_hat: Tensor, x_side: Tensor | None, present: Tensor, rate: Tensor) -> Context:
        """y_hat, x_side in [0, 1] (any values where `present` (B,) is False) -> the denoiser's context."""
        side = None
        if self.e_side is not None:
            blank = y_hat.new_zeros(len(y_hat), 3, 16 * y_hat.shape[2], 16 * y_hat.shape[3])
            side = self.e_side(_channels_last(2 * x_side - 1 if x_side is not None else blank), present)
        features = self.g_s(_channels_last(y_hat), side, rate)
        return Context(features, F.pixel_shuffle(self.mean(features[0]), PATCH).float())

    def analyse(self, x: Tensor, level: Tensor) -> Coded:
        """See Codec."""
        rate = _rate_of(level)

        def strip_of_y(strip: Strip) -> Tensor:
            return self.g_a(_channels_last(2 * x[:, :, strip.start : strip.stop] - 1), rate).float()

        return self.entropy(by_strips(strip_of_y, x.shape[2], self.tile_rows, STRIDE), level)

    def forward(self, x: Tensor, x_side: Tensor, draws: Draws | None = None, rate: Tensor | None = None) -> CodecOutput:
        """See Codec; sizes must be multiples of 64. Each prediction is of the same image x."""
        if draws is None:
            level = torch.round(rate * (LEVELS - 1)).long() if rate is not None else _zeros(x).long()
            coded = self.analyse(x, level)
            return CodecOutput(coded.bits, _rate_of(level), coded.y_hat)
        first, last = self._trained_levels if self.variable_rate else (0, 0)
        level = first + (draws.uniform("rate") * (last - first + 1)).long()
        rate = _rate_of(level)
        y = self.g_a(_channels_last(2 * x - 1), rate)
        coded = self.entropy(y, level, draws)
        present = draws.keeps_side(self.side_dropout)
        context = self.context(coded.y_hat, x_side, present, rate)
        gamma = draws.uniform("gamma")
        gamma = torch.where(draws.uniform("gamma_zero") < self.settings.start_fraction, 0.0, gamma)
        noise = draws.normal("noise", tuple(x.shape[1:]))
        output = CodecOutput(coded.bits, rate, coded.y_hat, aux=self.entropy.prior.loss())
        everything = torch.arange(len(x), device=x.device)
        scaled = gamma[:, None, None, None] * noise
        start = self._denoise(everything, x, scaled, scaled, torch.ones_like(gamma), gamma, rate, context)
        output.predictions.append(start)
        chosen = draws.uniform("denoise") < self.settings.denoise_fraction
        if self.settings.sampled_steps:
            chosen &= gamma > 0  # Without noise, later steps change nothing.
            x_t, t = self._sampled(start.x0, scaled, gamma, rate, context, draws)
        else:
            gamma = torch.where(draws.uniform("gamma_one") < 0.5, 1.0, draws.uniform("gamma_t"))
            scaled, t = gamma[:, None, None, None] * noise, self.process.sample_t(draws.uniform("t"))
            x_t = self.process.add_noise(2 * x - 1, scaled, t)
        if bool(chosen.any()):
            samples = torch.nonzero(chosen)[:, 0]
            task = self._denoise(samples, x, x_t, scaled, t, gamma, rate, context)
            weight = self.settings.denoise_weight / self.settings.denoise_fraction
            task.weight, task.perceptual_weight = weight * task.weight, weight * task.perceptual_weight
            output.predictions.append(task)
        return output

    @torch.no_grad()
    def _sampled(
        self, first: Tensor, noise: Tensor, gamma: Tensor, rate: Tensor, context: Context, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """x_t (B, 3, H, W) and t (B,) before a later step of DDIM from `noise`, whose first estimate of x is `first`.

        The sampling has 2 to `sampled_steps` steps; their number and the step are drawn.
        """
        steps = 2 + torch.floor(draws.uniform("steps") * (self.settings.sampled_steps - 1))
        step = 1 + torch.floor(draws.uniform("step") * (steps - 1))
        x0 = (2 * first - 1).clamp(-1, 1)
        t = 1 - 1 / steps
        x_t = self.process.add_noise(x0, noise, t)
        for number in range(2, int(step.max()) + 1):
            later = step >= number
            x0 = self._predict(x_t, t, gamma, rate, context).clamp(-1, 1)
            noise, after = self.process.noise_from_x0(x_t, x0, t), torch.where(later, 1 - number / steps, t)
            x_t = torch.where(later[:, None, None, None], self.process.add_noise(x0, noise, after), x_t)
            t = after
        return x_t, t

    def _denoise(
        self,
        samples: Tensor,
        x: Tensor,
        x_t: Tensor,
        noise: Tensor,
        t: Tensor,
        gamma: Tensor,
        rate: Tensor,
        context: Context,
    ) -> Prediction:
        """The task to find x in x_t at noise level t, for the samples with these places in the batch.

        `noise` is what an x_t made from x contains, for the prediction v.
        """
        if len(samples) < len(x):
            x, x_t, noise, t, gamma, rate = (v[samples] for v in (x, x_t, noise, t, gamma, rate))
            context = context[samples]
        raw = self._predict(x_t, t, gamma, rate, context)
        estimate = self.process.to_x0(x_t, raw, t)
        image, weight = (estimate + 1) / 2, torch.ones_like(gamma)
        floor = self.settings.perceptual_floor
        perceptual, realism = floor + (1 - floor) * gamma, gamma**self.settings.realism_power
        if self.process.prediction == "x0":
            if not self.settings.sampled_steps:  # The error of an own estimate does not fall with the noise.
                *_, out = self._precondition(t, gamma)
                relative = (self.settings.data_std / out.clamp(min=1e-6))[:, 0, 0, 0] ** 2
                weight = relative.clamp(max=self.settings.max_weight)
            return Prediction(samples, x, image, image, x, weight, perceptual, realism)
        target = self.process.target(2 * x - 1, noise, t)
        return Prediction(samples, x, image, raw / 2, target / 2, weight, perceptual, realism)

    def _precondition(self, t: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Factors (B, 1, 1, 1) that keep the network's input and target at unit size: input, skip, out.

        Karras et al. 2022 (arXiv 2206.00364, table 1) for r = x0 - mean of standard deviation `data_std`, seen in
        noise of standard deviation gamma x sigma(t): the best linear estimate of r is skip x (x_t - alpha mean), and
        out is the standard deviation of its error. Weighting an x0 error by 1 / out^2 weighs all noise levels alike.
        """
        alpha, sigma = self.process.alpha_sigma(t)
        noise, signal = gamma[:, None, None, None] * sigma, alpha * self.settings.data_std
        total = torch.hypot(signal, noise)
        scale = torch.where(total > 0, 1 / total.clamp(min=1e-12), 0.0)
        skip = signal * self.settings.data_std * scale**2
        out = torch.where(alpha > 0, noise * self.settings.data_std * scale, self.settings.data_std)
        return scale, skip, out

    def _predict(self, x_t: Tensor, t: Tensor, gamma: Tensor, rate: Tensor, context: Context) -> Tensor:
        """The prediction of x0 or v at x_t whose noise has standard deviation gamma x sigma(t), float32.

        For x0 the network works on the difference from the context's own image: with F its output,
        x0 = mean + skip (x_t - alpha mean) + out F, so that neither what the context tells nor what x_t shows at low
        noise has to pass through it. The less x_t tells, the more F counts by gamma, at t = 1 in proportion: gamma 0 is
        the mean itself, and what makes an image realistic has weights of its own.
        """
        if self.process.prediction != "x0":
            return self.unet(_channels_last(x_t), t, gamma, rate, context.features).float()
        scale, skip, out = self._precondition(t, gamma)
        alpha, _ = self.process.alpha_sigma(t)
        difference = x_t - alpha * context.mean
        estimate = context.mean + skip * difference
        noisy = torch.nonzero(gamma > 0)[:, 0]  # Without noise nothing is left to estimate.
        if not len(noisy):
            return estimate
        share = (out * (alpha + (1 - alpha) * gamma[:, None, None, None]))[noisy]
        features = context.features if len(noisy) == len(gamma) else [f[noisy] for f in context.features]
        raw = self.unet(_channels_last((scale * difference)[noisy]), t[noisy], gamma[noisy], rate[noisy], features)
        return estimate.index_add(0, noisy, share * raw.float())

    def synthesise(
        self, y_hat: Tensor, x_side: Tensor | None, level: Tensor, steps: int, gamma: float, seed: int
    ) -> Tensor:
        """See Codec."""
        rate, batch, device = _rate_of(level), len(y_hat), y_hat.device
        present = torch.full((batch,), x_side is not None, dtype=torch.bool, device=device)
        level_of_noise = torch.full((batch,), gamma, device=device)
        shape = (3, STRIDE * y_hat.shape[2], STRIDE * y_hat.shape[3])
        noise = gamma * sampler_noise(seed, shape) if gamma else torch.zeros(shape)

        def strip_of_image(strip: Strip) -> Tensor:
            rows = slice(strip.start, strip.stop)
            y_rows = y_hat[:, :, strip.start // STRIDE : strip.stop // STRIDE]
            context = self.context(y_rows, None if x_side is None else x_side[:, :, rows], present, rate)

            def predict(x_t: Tensor, t: Tensor) -> Tensor:
                return self._predict(x_t, t, level_of_noise, rate, context)

            return (ddim(self.process, predict, noise[None, :, rows].to(device), steps) + 1) / 2

        return by_strips(strip_of_image, shape[1], self.tile_rows)


def _rate_of(level: Tensor) -> Tensor:
    return level.float() / (LEVELS - 1)


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), device=x.device)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
