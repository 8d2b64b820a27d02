"""The whole system: what a codec is, and the codec that this project is about.

     sender                                file                         receiver
     x ─ g_a ─► y ─ h_a ─► z ─► Q ─┐                       ┌─► z_hat ─ h_s ─► mean, scale
                 │                 ├─► coder ─► bytes ─► coder ┤               │
                 └─► Q(y | mean, scale) ┘                  └─► y_hat ◄─────────┘
                                                                │ g_s
                                                                ▼
                                           x_side ─ e_side ─► fuse ─► context at several scales
                                                                │
                            noise (seeded by the file) ─► U-Net denoiser, 1..N steps ─► x_hat
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config, DiffusionConfig, ModelConfig
from modules.bitstream import MAX_SIDE, MIN_SIDE, Bitstream, pack, unpack
from modules.diffusion import Process
from modules.entropy import Coded, Hyperprior
from modules.fusion import FusionSynthesis
from modules.integer import IntegerSynthesis, LayerSpec
from modules.noise import Draws, payload_seed, sampler_noise
from modules.sampler import ddim
from modules.side import SideEncoder
from modules.transforms import HYPER_STRIDE, Analysis, HyperAnalysis
from modules.unet import UNet

LEVELS = 256


@dataclass
class Prediction:
    """One estimate that the objective judges.

    `image` and `x0` (B, 3, H, W) are the original and its estimate, in [0, 1]; `estimate` and `target` are what the
    distortion compares (the same two, or noise, ...). The weights (B,) multiply the distortion and the perceptual term.
    `samples` (B,) are the places in the batch, where a task covers only some of it.
    """

    samples: Tensor
    image: Tensor
    x0: Tensor
    estimate: Tensor
    target: Tensor
    weight: Tensor
    perceptual_weight: Tensor


@dataclass
class CodecOutput:
    """A forward pass: estimated bits (B,) of what is sent, rate (B,) in [0, 1], the latent y_hat; for training the rest."""

    bits: Tensor
    rate: Tensor
    y_hat: Tensor
    predictions: list[Prediction] = field(default_factory=list)
    aux: Tensor | None = None
    """Loss of the entropy bottleneck's quantiles; it moves nothing else."""


class Codec(nn.Module, ABC):
    """A codec with side information at the decoder.

    `forward` gives what the training objective needs; `compress` and `decompress` make and read files. The sender's
    methods take no side image. Training and evaluation use nothing else, so a codec need not be a diffusion model.
    """

    name: str
    variable_rate: bool
    accepts_no_side: bool
    needs_side: bool
    lmbda: float | None
    """Lambda of a fixed-rate model, None for a variable-rate one."""
    entropy: Hyperprior
    default_steps: int = 1
    default_gamma: float = 0.0

    @abstractmethod
    def forward(self, x: Tensor, x_side: Tensor, draws: Draws | None = None, rate: Tensor | None = None) -> CodecOutput:
        """x, x_side (B, 3, H, W) in [0, 1]. With `draws`: training. Without: evaluation of the latent at `rate` (B,)."""

    @abstractmethod
    def analyse(self, x: Tensor, level: Tensor) -> Coded:
        """The sender's half: padded x (B, 3, H, W) in [0, 1] and rate level (B,) -> quantised latent."""

    @abstractmethod
    def synthesise(self, y_hat: Tensor, x_side: Tensor | None, level: Tensor, steps: int, gamma: float, seed: int) -> Tensor:
        """The receiver's half: y_hat and padded x_side (1, 3, H, W) in [0, 1] -> x_hat (1, 3, H, W)."""

    # ---------------------------------------------------------------- files

    def level(self, rate: float | None) -> int:
        """Rate in [0, 1] (None for a fixed-rate codec) -> rate level."""
        if not self.variable_rate:
            if rate is not None:
                raise ValueError("This is a fixed-rate codec: it has one rate, so give none.")
            return 0
        if rate is None or not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate}; a variable-rate codec needs a number from 0 (smallest file) to 1 (largest).")
        return round(rate * (LEVELS - 1))

    @torch.no_grad()
    def code(self, x: Tensor, rate: float | None) -> Coded:
        """x (3, H, W) in [0, 1] -> its quantised latent at this rate."""
        _check_image("x", x)
        device = next(self.parameters()).device
        level = torch.tensor([self.level(rate)], device=device)
        return self.analyse(pad(x[None].to(device), HYPER_STRIDE), level)

    def compress(self, x: Tensor, rate: float | None = None) -> bytes:
        """x (3, H, W) in [0, 1], 16 to 4096 pixels a side -> the bytes of a file."""
        return self.pack(x, self.code(x, rate), rate)

    def pack(self, x: Tensor, coded: Coded, rate: float | None) -> bytes:
        """The bytes of a file that carries a latent which `code` gave for x."""
        stream = Bitstream(x.shape[1], x.shape[2], self.level(rate), self.entropy.encode(coded))
        return pack(stream, self.entropy.identity())

    def estimate_bits(self, x: Tensor, rate: float | None = None) -> float:
        """The entropy model's estimate, in bits, for the symbols that `compress` writes; no header, no coder loss."""
        return float(self.code(x, rate).bits)

    @torch.no_grad()
    def decompress(
        self,
        data: bytes,
        x_side: Tensor | None,
        *,
        steps: int | None = None,
        gamma: float | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """The bytes of a file and the side image (3, H, W) in [0, 1] -> x_hat (3, H, W) in [0, 1].

        x_side None: the learned null input, for codecs that have one. `seed` replaces the one that the file carries.
        Raises BitstreamError for bytes that are no file of this model, ValueError for arguments out of range.
        """
        steps = self.default_steps if steps is None else steps
        gamma = self.default_gamma if gamma is None else gamma
        if steps < 1:
            raise ValueError(f"steps is {steps}; decoding takes at least one.")
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma is {gamma}; it lies in 0 (mean-like) to 1 (realistic).")
        if x_side is None and not self.accepts_no_side and self.needs_side:
            raise ValueError("This model was trained without side dropout and cannot decode without a side image.")
        stream = unpack(data, self.entropy.identity())
        size = (stream.height, stream.width)
        device = next(self.parameters()).device
        if x_side is not None:
            _check_image("x_side", x_side)
            if tuple(x_side.shape[1:]) != size:
                raise ValueError(
                    f"The side image is {x_side.shape[2]}x{x_side.shape[1]}, but the file holds an image of "
                    f"{stream.width}x{stream.height}; rectified views are equally large."
                )
            x_side = pad(x_side[None].to(device), HYPER_STRIDE)
        z_size = (-(-size[0] // HYPER_STRIDE), -(-size[1] // HYPER_STRIDE))
        y_hat = self.entropy.decode(stream.payload, z_size, stream.level).to(device)
        seed = payload_seed(stream.payload) if seed is None else seed
        x_hat = self.synthesise(y_hat, x_side, torch.tensor([stream.level], device=device), steps, gamma, seed)
        return x_hat[0, :, : size[0], : size[1]].float().clamp(0, 1)

    def freeze(self) -> None:
        """Derive the integers of the entropy model from the float weights; call after training and before coding."""
        self.entropy.freeze()


class DiffusionCodec(Codec):
    """Hyperprior latent + fused side features as context of a one-to-N-step diffusion decoder, at every rate.

    The diagram of this module. The sender: `g_a` and `entropy`. The receiver: `entropy`, `e_side`, `g_s` (which fuses)
    and `unet`. Two denoising tasks are trained on one context: the start of decoding (t = 1, noise of standard
    deviation gamma), and a random noise level. `gamma` conditions the network.
    """

    def __init__(self, model: ModelConfig, diffusion: DiffusionConfig, lmbda: float | None) -> None:
        super().__init__()
        self.name = "ours" if model.fusion != "none" else "ours_no_side"
        self.variable_rate, self.lmbda = model.variable_rate, lmbda
        self.needs_side = model.fusion != "none"
        self.accepts_no_side = not self.needs_side or model.side_dropout > 0
        self.side_dropout = model.side_dropout
        self.settings = diffusion
        self.default_steps, self.default_gamma = diffusion.steps, diffusion.gamma
        self.process = Process(diffusion.prediction, diffusion.schedule, diffusion.timesteps)
        levels = LEVELS if model.variable_rate else 1
        latent, hyper, embedding = model.latent, model.hyper, model.embedding
        self.g_a = Analysis(model.analysis_channels, model.analysis_blocks, latent, embedding)
        middle = (latent + hyper) // 2
        h_s = [
            LayerSpec(hyper, middle, upsample=2),
            LayerSpec(middle, latent, upsample=2),
            LayerSpec(latent, 2 * latent, kernel=1, activation="none"),
        ]
        self.entropy = Hyperprior(
            latent, hyper, HyperAnalysis(latent, hyper), IntegerSynthesis(h_s, levels), levels, gains=(2.0, 12.0)
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
        self.unet = UNet(model.unet_channels, model.unet_blocks, model.synthesis_channels, embedding)

    def context(self, y_hat: Tensor, x_side: Tensor | None, present: Tensor, rate: Tensor) -> list[Tensor]:
        """y_hat, x_side in [0, 1] (any values where `present` (B,) is False) -> the denoiser's context."""
        side = None
        if self.e_side is not None:
            blank = y_hat.new_zeros(len(y_hat), 3, 16 * y_hat.shape[2], 16 * y_hat.shape[3])
            side = self.e_side(_channels_last(2 * x_side - 1 if x_side is not None else blank), present)
        return self.g_s(_channels_last(y_hat), side, rate)

    def analyse(self, x: Tensor, level: Tensor) -> Coded:
        """See Codec."""
        return self.entropy(self.g_a(_channels_last(2 * x - 1), _rate_of(level)), level)

    def forward(self, x: Tensor, x_side: Tensor, draws: Draws | None = None, rate: Tensor | None = None) -> CodecOutput:
        """See Codec; sizes must be multiples of 64. Each prediction is of the same image x."""
        if draws is None:
            level = torch.round(rate * (LEVELS - 1)).long() if rate is not None else _zeros(x).long()
            coded = self.analyse(x, level)
            return CodecOutput(coded.bits, _rate_of(level), coded.y_hat)
        level = (draws.uniform("rate") * LEVELS).long() if self.variable_rate else _zeros(x).long()
        rate = _rate_of(level)
        y = self.g_a(_channels_last(2 * x - 1), rate)
        coded = self.entropy(y, level, draws)
        present = draws.uniform("side_dropout") >= self.side_dropout
        context = self.context(coded.y_hat, x_side, present, rate)
        gamma = draws.uniform("gamma")
        gamma = torch.where(draws.uniform("gamma_zero") < self.settings.start_fraction, 0.0, gamma)
        noise = draws.normal("noise", tuple(x.shape[1:]))
        output = CodecOutput(coded.bits, rate, coded.y_hat, aux=self.entropy.prior.loss())
        everything = torch.arange(len(x), device=x.device)
        output.predictions.append(self._denoise(everything, x, noise, torch.ones_like(gamma), gamma, rate, context, 1.0))
        chosen = torch.nonzero(draws.uniform("denoise") < self.settings.denoise_fraction)[:, 0]
        if len(chosen):
            t = self.process.sample_t(draws.uniform("t"))
            gamma = torch.where(draws.uniform("gamma_one") < 0.5, 1.0, draws.uniform("gamma_t"))
            weight = self.settings.denoise_weight / self.settings.denoise_fraction
            output.predictions.append(self._denoise(chosen, x, noise, t, gamma, rate, context, weight))
        return output

    def _denoise(
        self,
        samples: Tensor,
        x: Tensor,
        noise: Tensor,
        t: Tensor,
        gamma: Tensor,
        rate: Tensor,
        context: list[Tensor],
        weight: float,
    ) -> Prediction:
        """The denoising task at noise level t for the samples with these places in the batch."""
        if len(samples) < len(x):
            x, noise, t, gamma, rate = (v[samples] for v in (x, noise, t, gamma, rate))
            context = [c[samples] for c in context]
        x0, noise = 2 * x - 1, gamma[:, None, None, None] * noise
        x_t = self.process.add_noise(x0, noise, t)
        raw = self.unet(_channels_last(x_t), t, gamma, rate, context).float()
        estimate = self.process.to_x0(x_t, raw, t)
        image = (estimate + 1) / 2
        sigma = self.process.alpha_sigma(t)[1][:, 0, 0, 0] * gamma
        weights = weight * torch.where(t >= 1, 1.0, (1 / sigma.clamp(min=1e-3) ** 2).clamp(max=self.settings.max_weight))
        if self.process.prediction == "x0":
            return Prediction(samples, x, image, image, x, weights, weight * gamma)
        target = self.process.target(x0, noise, t)
        return Prediction(samples, x, image, raw / 2, target / 2, torch.full_like(weights, weight), weight * gamma)

    def synthesise(self, y_hat: Tensor, x_side: Tensor | None, level: Tensor, steps: int, gamma: float, seed: int) -> Tensor:
        """See Codec."""
        rate, batch = _rate_of(level), len(y_hat)
        present = torch.full((batch,), x_side is not None, dtype=torch.bool, device=y_hat.device)
        context = self.context(y_hat, x_side, present, rate)
        shape = (3, 16 * y_hat.shape[2], 16 * y_hat.shape[3])
        start = gamma * sampler_noise(seed, shape).to(y_hat.device) if gamma else torch.zeros(shape, device=y_hat.device)
        level_of_noise = torch.full((batch,), gamma, device=y_hat.device)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return self.unet(_channels_last(x_t), t, level_of_noise, rate, context)

        return (ddim(self.process, predict, start[None], steps) + 1) / 2


def build_codec(config: Config) -> Codec:
    """The codec that a configuration describes, with fresh weights."""
    lmbda = None if config.model.variable_rate else config.loss.lmbda
    return DiffusionCodec(config.model, config.diffusion, lmbda)


@contextlib.contextmanager
def evaluation_mode(codec: nn.Module):  # type: ignore[no-untyped-def]
    """eval() for the duration, without gradients."""
    was_training = codec.training
    codec.eval()
    try:
        with torch.no_grad():
            yield codec
    finally:
        codec.train(was_training)


def pad(image: Tensor, multiple: int) -> Tensor:
    """(B, 3, H, W) -> the same with rows and columns repeated at the bottom and right up to multiples of `multiple`."""
    height, width = image.shape[2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _check_image(name: str, image: Tensor) -> None:
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"{name} must have shape (3, H, W), not {tuple(image.shape)}.")
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in image.shape[1:]):
        raise ValueError(f"{name} is {image.shape[2]}x{image.shape[1]}; each side must lie in {MIN_SIDE} to {MAX_SIDE} pixels.")
    if not torch.is_floating_point(image) or image.min() < 0 or image.max() > 1:
        raise ValueError(f"{name} must be a float tensor with values in [0, 1].")


def _rate_of(level: Tensor) -> Tensor:
    return level.float() / (LEVELS - 1)


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), device=x.device)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)

