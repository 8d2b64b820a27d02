"""The whole system: what a codec is. Each family of codecs has a module of its own (BUILDERS); this project's own:

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
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config
from modules.bitstream import MAX_EDGE, MIN_EDGE, Bitstream, pack, unpack
from modules.entropy_model import Coded, EntropyModel
from modules.noise import Draws, payload_seed
from modules.transforms import HYPER_STRIDE
from utils.errors import UNTRAINED_DENOISER, BitstreamError

LEVELS = 256
"""Number of rate levels of a variable-rate codec; rate level l stands for the rate l / 255."""
MAX_PIXELS = 4096 * 2048
"""The largest image that is decoded unless the caller allows more (3840x2160 fits). A file of a few bytes can claim
4096x4096 pixels, and without x_side nothing else bounds the memory that decoding takes."""


@dataclass
class DenoisingTask:
    """One denoising result of a training pass and how the objective weights it; S of the batch's samples take part."""

    samples: Tensor
    """Indices (S,) of these samples in the batch."""
    x: Tensor
    """The original (S, 3, H, W) in [0, 1]; it is x_side where the task is to denoise x_side."""
    x_hat: Tensor
    """Its estimate (S, 3, H, W) in about [0, 1]; MS-SSIM and the perceptual term compare it with x."""
    estimate: Tensor
    target: Tensor
    """What the distortion compares (S, 3, H, W): x_hat and x, or in a published codec what its network predicts."""
    weight: Tensor
    """Weight (S,) of the distortion terms."""
    perceptual_weight: Tensor
    """Weight (S,) of the perceptual term."""
    critic_weight: Tensor
    """Weight (S,) of the critic's logit inside the perceptual term."""


@dataclass
class CodecOutput:
    """A forward pass: estimated bits (B,) of what is sent, rate (B,) in [0, 1], latent y_hat; for training the rest."""

    bits: Tensor
    rate: Tensor
    y_hat: Tensor
    tasks: list[DenoisingTask] = field(default_factory=list)
    aux: Tensor | None = None
    """Loss of the quantiles of the prior of z, and of entropy models whose bits are never sent; no other part learns
    from it."""
    offsets: list[Tensor] = field(default_factory=list)
    """Where x_side was matched, of codecs that align it, fine to coarse: (B, 1, H/4, W/4) and so on, in positions of
    their scale to the right, float32; minus the disparity for a left x. They mean nothing where `has_side` is False."""
    has_side: Tensor | None = None
    """(B,) bool: whether the receiver had x_side, which side dropout takes from some."""


class Codec(nn.Module, ABC):
    """A codec with side information at the decoder.

    `forward` gives what the training objective needs; `compress` and `decompress` make and read files. The sender's
    methods do not take x_side. Training and evaluation use nothing else, so a codec need not be a diffusion model.
    """

    name: str
    variable_rate: bool
    accepts_no_side: bool
    needs_side: bool
    lmbda: float | None
    """Lambda of a fixed-rate model (cdc's and dicm's beta), None for a variable-rate one."""
    trained_levels: tuple[int, int] = (0, 0)
    """The lowest and the highest rate level that training draws."""
    entropy: EntropyModel
    stride: int = HYPER_STRIDE
    """Image pixels for each position of the coarsest latent that is coded; images are padded to a multiple of it."""
    only_size: tuple[int, int] | None = None
    """The only (height, width) of images that the codec can have; None: any."""
    denoises: bool = True
    """False: a model of stage 1, whose denoiser has not been trained; it decodes with gamma 0 alone."""
    default_steps: int = 1
    default_gamma: float = 0.0
    sender: tuple[str, ...] = ("g_a", "entropy")
    """The parts that decide what a file holds; all others belong to the receiver."""
    denoiser: tuple[str, ...] = ("unet",)
    """The receiver's part that removes noise."""
    decoding_dtype: torch.dtype | None = None
    """The number format of the receiver's networks by autocast; None: float32. What a file holds does not depend on
    it: the entropy model's integers are the same in every format."""
    tile_rows: int | None = 1024
    """Rows of an image coded at a time (`modules/tiling.py`) by families that can; None: all. Memory grows with it."""
    walk: Callable[[Sequence[Any]], Iterable[Any]] = iter
    """Goes through the strips of an image and the steps of decoding. A program that shows progress replaces it."""

    @abstractmethod
    def forward(self, x: Tensor, x_side: Tensor, draws: Draws | None = None, rate: Tensor | None = None) -> CodecOutput:
        """x, x_side (B, 3, H, W) in [0, 1]. With `draws`: training. Without: the latent as coded at `rate` (B,)."""

    @abstractmethod
    def analyse(self, x: Tensor, level: Tensor) -> Coded:
        """The sender's half: padded x (B, 3, H, W) in [0, 1] and rate level (B,) -> quantised latent."""

    @abstractmethod
    def synthesise(
        self, y_hat: Tensor, x_side: Tensor | None, level: Tensor, steps: int, gamma: float, seed: int
    ) -> Tensor:
        """The receiver's half: y_hat and padded x_side (1, 3, H, W) in [0, 1] -> x_hat (1, 3, H, W)."""

    def levels_of(self, x: Tensor, draws: Draws | None, rate: Tensor | None) -> Tensor:
        """Rate levels (B,) of the batch x: drawn in training, those of `rate` (B,) else; 0 for a fixed-rate codec."""
        first, last = self.trained_levels
        if self.variable_rate and draws is not None:
            return first + (draws.uniform("rate") * (last - first + 1)).long()
        if self.variable_rate and rate is not None:
            return torch.round(rate * (LEVELS - 1)).long()
        return torch.zeros(len(x), dtype=torch.int64, device=x.device)

    # ---------------------------------------------------------------- files

    def level(self, rate: float | None) -> int:
        """Rate in [0, 1] (None for a fixed-rate codec) -> rate level."""
        if not self.variable_rate:
            if rate is not None:
                raise ValueError("This is a fixed-rate codec: it has one rate, so give none.")
            return 0
        if rate is None or not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate}; a variable-rate codec needs one from 0 (smallest file) to 1 (largest).")
        return round(rate * (LEVELS - 1))

    @torch.no_grad()
    def code(self, x: Tensor, rate: float | None) -> Coded:
        """x (3, H, W) in [0, 1] -> its quantised latent at this rate."""
        _check_image("x", x)
        if self.only_size not in (None, tuple(x.shape[1:])):
            raise ValueError(
                f"The image is {x.shape[2]}x{x.shape[1]}, but the weights of {self.name} are made for "
                "{1}x{0} alone: crop or resize it.".format(*self.only_size or ())
            )
        device = next(self.parameters()).device
        level = torch.tensor([self.level(rate)], device=device)
        return self.analyse(pad(x[None].to(device), self.stride), level)

    def compress(self, x: Tensor, rate: float | None = None) -> bytes:
        """x (3, H, W) in [0, 1], H and W 16 to 4096 -> the bytes of a file."""
        with torch.inference_mode():  # 5 % faster than without gradients only; no tensor leaves it.
            return self.pack(x, self.code(x, rate), rate)

    def pack(self, x: Tensor, coded: Coded, rate: float | None) -> bytes:
        """The bytes of a file that carries a latent which `code` gave for x."""
        stream = Bitstream(x.shape[1], x.shape[2], self.level(rate), self.entropy.encode(coded))
        return pack(stream, self.entropy.identity())

    def estimate_bits(self, x: Tensor, rate: float | None = None) -> float:
        """The entropy model's estimate, in bits, for the symbols that `compress` writes; no header, no coder loss."""
        return float(self.code(x, rate).bits)

    def unpack(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Bitstream:
        """The content of a file of this model; BitstreamError for any other bytes, and for more than `max_pixels`."""
        stream = unpack(data, self.entropy.identity())
        pixels = stream.height * stream.width
        if pixels > max_pixels:
            raise BitstreamError(
                f"The file claims an image of {stream.width}x{stream.height}, {pixels} pixels, and at most "
                f"{max_pixels} are decoded; if it can be trusted, raise max_pixels (--max-pixels)."
            )
        return stream

    def decode_latent(self, stream: Bitstream) -> Tensor:
        """The y_hat (1, M, h, w) that a file carries, on the codec's device. Raises BitstreamError."""
        size = (-(-stream.height // self.stride), -(-stream.width // self.stride))
        return self.entropy.decode(stream.payload, size, stream.level).to(next(self.parameters()).device)

    @torch.no_grad()
    def decompress(
        self,
        data: bytes,
        x_side: Tensor | None,
        *,
        steps: int | None = None,
        gamma: float | None = None,
        seed: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Tensor:
        """The bytes of a file and x_side (3, H, W) in [0, 1] -> x_hat (3, H, W) in [0, 1].

        `steps`: calls of the denoiser. `gamma` in [0, 1]: standard deviation of the noise that decoding starts from, 0
        for the mean image and 1 for a realistic one. None: the checkpoint's own. x_side None: the learned null input,
        for codecs that have one. `seed` replaces the seed that the file carries. Larger images than `max_pixels` are
        refused before memory is taken for them. Raises BitstreamError for bytes that are no file of this model, whoever
        made them, and ValueError for arguments out of range.
        """
        steps = self.default_steps if steps is None else steps
        gamma = self.default_gamma if gamma is None else gamma
        if steps < 1:
            raise ValueError(f"steps is {steps}; decoding takes at least one.")
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma is {gamma}; it lies in 0 (mean-like) to 1 (realistic).")
        if gamma > 0 and not self.denoises:
            raise ValueError(f"gamma is {gamma:g}; {UNTRAINED_DENOISER}")
        if x_side is None and not self.accepts_no_side and self.needs_side:
            raise ValueError("This model was trained without side dropout and cannot decode without a side image.")
        # 1. The file: header, checks, payload; no network runs before its size is accepted.
        stream = self.unpack(data, max_pixels)
        size = (stream.height, stream.width)
        device = next(self.parameters()).device
        # 2. x_side, which must fit the image that the file holds.
        if x_side is not None:
            _check_image("x_side", x_side)
            if tuple(x_side.shape[1:]) != size:
                raise ValueError(
                    f"The side image is {x_side.shape[2]}x{x_side.shape[1]}, but the file holds an image of "
                    f"{stream.width}x{stream.height}; rectified views are equally large."
                )
            x_side = pad(x_side[None].to(device), self.stride)
        # 3. The latent: exact integers on the CPU, so that it is the encoder's y_hat to the bit.
        y_hat = self.decode_latent(stream)
        # 4. The image, from y_hat, x_side and noise that follows from the file.
        seed = payload_seed(stream.payload) if seed is None else seed
        level = torch.tensor([stream.level], device=device)
        dtype = self.decoding_dtype
        with contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype):
            x_hat = self.synthesise(y_hat, x_side, level, steps, gamma, seed)
        x_hat = x_hat[0, :, : size[0], : size[1]].float()
        if not bool(torch.isfinite(x_hat).all()):
            raise BitstreamError(
                "The file's latent is so extreme that the image is not finite, which no encoder makes: the file was "
                "forged, or the checkpoint is broken; encode the image again."
            )
        return x_hat.clamp(0, 1)

    def freeze(self) -> None:
        """Derive the integers of the entropy model from the float weights; call after training and before coding."""
        self.entropy.freeze()


def rate_levels(rates: tuple[float, ...]) -> tuple[int, int]:
    """The lowest and the highest rate in [0, 1] -> their rate levels."""
    low, high = (round(rate * (LEVELS - 1)) for rate in rates)
    return low, high


BUILDERS = {
    "diffusion": "modules.diffusion_codec",
    "dicm": "modules.published.dicm",
    "cdc": "modules.published.cdc",
    "ndic_bls17": "modules.published.ndic",
    "ndic_bmshj18": "modules.published.ndic",
    "ndic_cam": "modules.published.ndic_cam",
    "ldmic": "modules.published.ldmic",
    "ndsc": "modules.published.ndsc",
    "dsin": "modules.published.dsin",
}
"""model.codec -> the module whose `build(config)` makes it; imported when asked for, since it imports this one."""


def build_codec(config: Config) -> Codec:
    """The codec that a configuration describes, with fresh weights; `utils/configrules.py` says which there can be."""
    codec: Codec = importlib.import_module(BUILDERS[config.model.codec]).build(config)
    return codec


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
    """(B, 3, H, W) -> padded at the bottom and right, by repetition, to multiples of `multiple`."""
    right, bottom = -image.shape[3] % multiple, -image.shape[2] % multiple
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if right or bottom else image


def _check_image(name: str, image: Tensor) -> None:
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"{name} must have shape (3, H, W), not {tuple(image.shape)}.")
    if not all(MIN_EDGE <= edge <= MAX_EDGE for edge in image.shape[1:]):
        raise ValueError(
            f"{name} is {image.shape[2]}x{image.shape[1]}; height and width must lie in {MIN_EDGE} to {MAX_EDGE}."
        )
    if not torch.is_floating_point(image) or not _in_unit_range(image):
        raise ValueError(f"{name} must be a float tensor with values in [0, 1].")


def _in_unit_range(image: Tensor) -> bool:
    lowest, highest = torch.aminmax(image)
    return bool(lowest >= 0 and highest <= 1)
