"""Mean-scale hyperprior with gain units, trained in floats and coded in exact integers.

Hyperprior: Minnen, Ballé, Toderici 2018, arXiv 1809.02736. Gain units: Cui et al., "Asymmetric Gained Deep Image
Compression With Continuous Rate Adaptation", CVPR 2021. `modules/likelihoods.py` has the probabilities.

    y ─ × gain[rate] ─► Q(y | mean, scale) ─► coder        z = h_a(y × gain) ─► Q ─► coder
                              ▲                                          │
                              └──────────── h_s(z_hat, rate) ◄───────────┘
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from modules.coder import END_BYTES, MAX_SYMBOL_BYTES, SymbolDecoder, SymbolEncoder, Symbols
from modules.frozen_integers import GAIN_BITS, FrozenIntegers
from modules.integer import ACTIVATION_BITS, KNOT_SPACING, IntegerSynthesis
from modules.likelihoods import (
    LIKELIHOOD_BOUND,
    SCALES,
    Y_LIMIT,
    Z_LIMIT,
    FactorizedPrior,
    LowerBound,
    gaussian_likelihood,
    round_ste,
    scale_of,
)
from modules.noise import Draws
from utils.errors import BitstreamError


@dataclass
class Coded:
    """A quantised latent: y_hat (B, M, h, w), its estimated bits (B,), and in evaluation the coder's symbols."""

    y_hat: Tensor
    bits: Tensor
    z_symbols: Tensor | None = None
    y_symbols: Tensor | None = None
    indices: Tensor | None = None


class Quantised(Coded):
    """A `Coded` whose y_hat and bits are computed when they are first asked for: writing a file needs neither."""

    def __init__(
        self,
        y_hat: Callable[[], Tensor],
        bits: Callable[[], Tensor],
        z_symbols: Tensor,
        y_symbols: Tensor,
        indices: Tensor,
    ) -> None:
        self._y_hat, self._bits = y_hat, bits
        self.z_symbols, self.y_symbols, self.indices = z_symbols, y_symbols, indices

    @cached_property
    def y_hat(self) -> Tensor:  # type: ignore[override]
        """(B, M, h, w)."""
        return self._y_hat()

    @cached_property
    def bits(self) -> Tensor:  # type: ignore[override]
        """(B,)."""
        return self._bits()


class Hyperprior(FrozenIntegers):
    """Entropy model of a latent y (B, M, h, w); h_a and h_s are given, so that every codec family can use it.

    h_a maps y x gain to z (B, N, h/s, w/s). h_s maps z_hat to 2M channels, the mean of y x gain and its scale index.
    Symbol and reconstruction are Q = round(y gain - mean) and y_hat = (Q + mean) / gain. `levels` rate levels
    share one set of weights (1: a fixed-rate model without gain). With `mean_before_gain`, h_s gives the mean of y
    itself, so that the weights need not scale it with the rate: Q = round((y - mean) gain), y_hat = Q / gain + mean.
    """

    def __init__(
        self,
        latent: int,
        hyper: int,
        h_a: nn.Module,
        h_s: IntegerSynthesis,
        levels: int,
        gains: tuple[float, float] = (1.0, 1.0),
        mean_before_gain: bool = False,
    ) -> None:
        super().__init__(latent, hyper, levels, mean_before_gain)
        self.h_a, self.h_s = h_a, h_s
        with torch.no_grad():  # Begin with moderate scales: a symbol of 1 under the smallest costs 20 bits.
            h_s.convolutions()[-1].bias[:, latent:] = SCALES / 4
            for layer in h_s.convolutions()[:-1]:  # While z is all zeros, these alone give the later layers gradients.
                layer.bias.copy_(torch.rand(layer.bias.shape[1]))
        self.prior = FactorizedPrior(hyper)
        if levels > 1:
            knots = (levels + KNOT_SPACING - 1) // KNOT_SPACING + 1
            line = torch.linspace(math.log(gains[0]), math.log(gains[1]), knots)
            self.log_gain = nn.Parameter(line[:, None].repeat(1, latent))
        self._index_low = LowerBound(0.0)

    # ---------------------------------------------------------------- training: floats and uniform noise

    def gain(self, level: Tensor) -> Tensor:
        """(B,) integer rate levels -> (B, M, 1, 1) float gains."""
        if self.levels == 1:
            return torch.ones(len(level), self.latent, 1, 1, device=level.device)
        left = torch.div(level, KNOT_SPACING, rounding_mode="floor")
        fraction = ((level - left * KNOT_SPACING).float() / KNOT_SPACING)[:, None]
        # gain = gain_left^(1 - f) gain_right^f between two learned knots (Cui et al. 2021, exponential interpolation).
        return (self.log_gain[left] * (1 - fraction) + self.log_gain[left + 1] * fraction).exp()[:, :, None, None]

    def forward(self, y: Tensor, level: Tensor, draws: Draws | None = None) -> Coded:
        """y (B, M, h, w), rate levels (B,). With draws (training): likelihoods under noise, straight-through y_hat.
        Without: exactly what a file carries."""
        with torch.autocast(y.device.type, enabled=False):
            return self._noisy(y.float(), level, draws) if draws is not None else self.quantise(y.float(), level)

    def _noisy(self, y: Tensor, level: Tensor, draws: Draws) -> Coded:
        # z = h_a(y gain). Its likelihood has uniform noise in [-1/2, 1/2) in place of rounding (Ballé et al. 2017, see
        # `modules/likelihoods.py`), and is at least the smallest probability of the coder's tables. h_s gets z_hat,
        # rounded around the medians as in a file.
        gain = self.gain(level)
        scaled = y * gain
        z = self.h_a(scaled)
        z_noisy = z + draws.uniform("z", tuple(z.shape[1:])) - 0.5
        z_likelihood = self._likelihood_low(self.prior.values_likelihood(z_noisy))
        medians = self.prior.medians().detach()[:, None, None]
        z_hat = round_ste(z - medians) + medians
        # Mean and scale of y gain, from z_hat.
        mean, index = self.h_s(z_hat, level).chunk(2, dim=1)
        mean = mean * gain if self.mean_before_gain else mean
        scale = scale_of(self._index_low(index).clamp(max=SCALES - 1))
        # The likelihood of y, with noise as well; y_hat = (round(y gain - mean) + mean) / gain, straight-through.
        noise = draws.uniform("y", tuple(y.shape[1:])) - 0.5
        y_likelihood = self._likelihood_low(gaussian_likelihood(scaled + noise - mean, scale))
        y_hat = (round_ste(scaled - mean) + mean) / gain
        # R = -sum log2 p(y | z) - sum log2 p(z) (Ballé et al. 2018, arXiv 1802.01436).
        bits = -(y_likelihood.log2().sum((1, 2, 3)) + z_likelihood.log2().sum((1, 2, 3)))
        return Coded(y_hat, bits)

    # ---------------------------------------------------------------- deployment: integers

    def _parameters_from(self, z_symbols: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """z symbols (B, N, ., .) -> mean (8 fractional bits) and scale index, both float64 integers on the CPU."""
        z_fixed = z_symbols.cpu().double() * 2**ACTIVATION_BITS + self.z_medians.cpu().double()[:, None, None]
        mean, index = self.h_s.integer_forward(z_fixed, level).chunk(2, dim=1)
        return mean, torch.floor(index * 2.0**-ACTIVATION_BITS + 0.5).clamp(0, SCALES - 1)

    @torch.no_grad()
    def _dequantise(self, y_symbols: Tensor, mean: Tensor, level: Tensor) -> Tensor:
        """(symbol + mean) x inverse gain, or symbol x inverse gain + mean: integers times powers of two, so exact."""
        inverse = self.inverse_gain.cpu()[level.cpu()].double()[:, :, None, None] * 2.0**-GAIN_BITS
        symbols, mean = y_symbols.cpu().double(), mean * 2.0**-ACTIVATION_BITS
        y_hat = symbols * inverse + mean if self.mean_before_gain else (symbols + mean) * inverse
        return y_hat.to(torch.float32, memory_format=torch.contiguous_format)

    @torch.no_grad()
    def quantise(self, y: Tensor, level: Tensor) -> Quantised:
        """y (B, M, h, w) float32 -> the symbols a file carries, the y_hat a decoder recovers, the estimated bits."""
        self.tables()
        # As in training, with the integers of the tables: z around its medians, mean and index from exact sums.
        gain = 2.0**GAIN_BITS / self.inverse_gain.cpu()[level.cpu()].double()[:, :, None, None]
        scaled = y * gain.float().to(y.device)
        z = self.h_a(scaled)
        medians = (self.z_medians.float() * 2.0**-ACTIVATION_BITS)[:, None, None]
        z_symbols = torch.round(z - medians).clamp(-Z_LIMIT, Z_LIMIT)
        mean, index = self._parameters_from(z_symbols, level)
        # Q = round(y gain - mean); float64, on the CPU, where mean is an integer times a power of two.
        offset = mean * 2.0**-ACTIVATION_BITS * (gain if self.mean_before_gain else 1)
        y_symbols = torch.round(scaled.cpu().double() - offset).clamp(-Y_LIMIT, Y_LIMIT)
        return Quantised(
            lambda: self._dequantise(y_symbols, mean, level).to(y.device),
            lambda: self._estimate(z_symbols + medians, y_symbols, index),
            z_symbols,
            y_symbols,
            index,
        )

    @torch.no_grad()
    def _estimate(self, z_hat: Tensor, y_symbols: Tensor, index: Tensor) -> Tensor:
        """Bits (B,) of quantised latents, by the densities that the tables were made from."""
        with torch.autocast(z_hat.device.type, enabled=False):
            z_likelihood = self.prior.values_likelihood(z_hat).clamp(min=LIKELIHOOD_BOUND)
            y_likelihood = gaussian_likelihood(y_symbols, scale_of(index)).clamp(min=LIKELIHOOD_BOUND)
            bits = y_likelihood.log2().sum((1, 2, 3)) + z_likelihood.cpu().double().log2().sum((1, 2, 3))
        return -bits.float()

    def _z_tables(self, height: int, width: int) -> Symbols:
        """The table of each symbol of z, which is the number of its channel."""
        return np.repeat(np.arange(self.hyper, dtype=np.int32), height * width)

    def encode(self, coded: Coded) -> bytes:
        """The payload of one quantised latent (batch of one): z, then y given z, in one coder stream."""
        assert coded.z_symbols is not None and coded.y_symbols is not None and coded.indices is not None
        if len(coded.z_symbols) != 1:
            raise ValueError("encode takes one image at a time.")
        z_tables, y_tables = self.tables()
        encoder = SymbolEncoder()
        encoder.put(_flat(coded.z_symbols), self._z_tables(*coded.z_symbols.shape[2:]), z_tables)
        encoder.put(_flat(coded.y_symbols), _flat(coded.indices), y_tables)
        return encoder.finish()

    @torch.no_grad()
    def decode(self, payload: bytes, z_size: tuple[int, int], level: int) -> Tensor:
        """Payload -> y_hat (1, M, h, w) float32 on the CPU, the same on every machine.

        Raises BitstreamError for a level beyond the model's, and for bytes that are no code or too many.
        """
        if not 0 <= level < self.levels:
            raise BitstreamError(
                f"The file has rate level {level}, but this model has levels 0 to {self.levels - 1}; it is damaged."
            )
        z_tables, y_tables = self.tables()
        # The longest payload that so many symbols can have.
        ratio = math.prod(layer.spec.upsample for layer in self.h_s.convolutions())
        most = MAX_SYMBOL_BYTES * math.prod(z_size) * (self.hyper + ratio**2 * self.latent) + END_BYTES
        if len(payload) > most:
            raise BitstreamError(
                f"The payload has {len(payload)} bytes, but one of this size and model has at most {most}; the file is "
                "damaged: copy or encode it again."
            )
        # z with the prior's tables; from z the mean and the table of each symbol of y; then y, and y_hat.
        decoder = SymbolDecoder(payload)
        z_symbols = torch.from_numpy(decoder.take(self._z_tables(*z_size), z_tables)).view(1, self.hyper, *z_size)
        levels = torch.tensor([level])
        mean, index = self._parameters_from(z_symbols, levels)
        y_symbols = torch.from_numpy(decoder.take(_flat(index), y_tables)).view(index.shape)
        decoder.finish()
        return self._dequantise(y_symbols, mean, levels)


def _flat(tensor: Tensor) -> Symbols:
    return tensor.cpu().reshape(-1).to(torch.int32).numpy()
