"""Mean-scale hyperprior with gain units, trained in floats and coded in exact integers.

Hyperprior: Minnen, Ballé, Toderici 2018, arXiv 1809.02736. Gain units: Cui et al., "Asymmetric Gained Deep Image
Compression With Continuous Rate Adaptation", CVPR 2021. `modules/likelihoods.py` has the probabilities.

    y ─ × gain[rate] ─► Q(y | mean, scale) ─► coder        z = h_a(y × gain) ─► Q ─► coder
                              ▲                                          │
                              └──────────── h_s(z_hat, rate) ◄───────────┘
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from modules.coder import SymbolDecoder, SymbolEncoder, Symbols
from modules.entropy_model import GAIN_BITS, Coded, Quantised
from modules.frozen_integers import FrozenIntegers
from modules.integer import ACTIVATION_BITS, IntegerSynthesis
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


class Hyperprior(FrozenIntegers):
    """Entropy model of a latent y (B, M, h, w); h_a and h_s are given, so that every codec family can use it.

    h_a maps y x gain to z (B, N, h/s, w/s). h_s maps z_hat to 2M channels, the mean of y x gain and its scale index.
    Symbol and reconstruction are Q = round(y gain - mean) and y_hat = (Q + mean) / gain. `levels` rate levels
    share one set of weights (1: a fixed-rate model without gain).
    An h_s with M channels gives the index alone, and the mean is 0 (Ballé et al. 2018, arXiv 1802.01436).
    """

    def __init__(
        self,
        latent: int,
        hyper: int,
        h_a: nn.Module,
        h_s: IntegerSynthesis,
        levels: int,
        gains: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__(latent, hyper, levels, gains)
        self.h_a, self.h_s = h_a, h_s
        with torch.no_grad():  # Begin with moderate scales: a symbol of 1 under the smallest costs 20 bits.
            h_s.convolutions()[-1].bias[:, -latent:] = SCALES / 4
            for layer in h_s.convolutions()[:-1]:  # While z is all zeros, these alone give the later layers gradients.
                layer.bias.copy_(torch.rand(layer.bias.shape[1]))
        self.prior = FactorizedPrior(hyper)
        self._index_low = LowerBound(0.0)

    # ---------------------------------------------------------------- training: floats and uniform noise

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
        noise = draws.uniform("y", tuple(y.shape[1:])) - 0.5
        mean, index = self._mean_and_index(self._predict(z_hat, level, scaled + noise))
        scale = scale_of(self._index_low(index).clamp(max=SCALES - 1))
        # The bits of y likewise with noise; y_hat = (round(y gain - mean) + mean) / gain, straight-through.
        y_likelihood = self._likelihood_low(gaussian_likelihood(scaled + noise - mean, scale))
        y_hat = (round_ste(scaled - mean) + mean) / gain
        # R = -sum log2 p(y | z) - sum log2 p(z) (Ballé et al. 2018, arXiv 1802.01436).
        bits = -(y_likelihood.log2().sum((1, 2, 3)) + z_likelihood.log2().sum((1, 2, 3)))
        return Coded(y_hat, bits)

    def _predict(self, z_hat: Tensor, level: Tensor, noisy: Tensor) -> Tensor:
        """Mean and index together; `noisy` is y x gain with noise, for models whose parameters depend on it too."""
        return self.h_s(z_hat, level)  # type: ignore[no-any-return]

    def _mean_and_index(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        if parameters.shape[1] == self.latent:
            return torch.zeros_like(parameters), parameters
        mean, index = parameters.chunk(2, dim=1)
        return mean, index

    def loss(self) -> Tensor:
        """The quantiles' loss, from which they learn the medians of z."""
        return self.prior.loss()

    def networks(self) -> list[nn.Module]:
        """See EntropyModel."""
        return [self.h_a]

    # ---------------------------------------------------------------- deployment: integers

    def _parameters_from(self, z_symbols: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """z symbols (B, N, ., .) -> mean (8 fractional bits) and scale index, both float64 integers on the CPU."""
        return self._rounded(self.h_s.integer_forward(self._z_fixed(z_symbols), level))

    def _z_fixed(self, z_symbols: Tensor) -> Tensor:
        """z_hat as float64 integers with 8 fractional bits, on the CPU."""
        return z_symbols.cpu().double() * 2**ACTIVATION_BITS + self.z_medians.cpu().double()[:, None, None]

    def _rounded(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the index rounded to one of the tables."""
        mean, index = self._mean_and_index(parameters)
        return mean, torch.floor(index * 2.0**-ACTIVATION_BITS + 0.5).clamp(0, SCALES - 1)

    def _quantise_y(
        self, scaled: Tensor, z_symbols: Tensor, level: Tensor, gain: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """y x gain, float64 on the CPU -> symbols of y, mean and index."""
        mean, index = self._parameters_from(z_symbols, level)
        # Q = round(y gain - mean); float64, on the CPU, where mean is an integer times a power of two.
        return torch.round(scaled - mean * 2.0**-ACTIVATION_BITS).clamp(-Y_LIMIT, Y_LIMIT), mean, index

    def _take_y(self, decoder: SymbolDecoder, z_symbols: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The symbols of y from the coder, and their mean."""
        mean, index = self._parameters_from(z_symbols, level)
        return torch.from_numpy(decoder.take(flat(index), self.tables()[1])).view(index.shape), mean

    def _passes(self, y_like: Tensor) -> list[Tensor]:
        """A tensor like y in the parts whose parameters are known together, in the file's order."""
        return [y_like]

    @torch.no_grad()
    def _dequantise(self, y_symbols: Tensor, mean: Tensor, level: Tensor) -> Tensor:
        """(symbol + mean) x inverse gain: integers times powers of two, so exact."""
        inverse = self.inverse_gain.cpu()[level.cpu()].double()[:, :, None, None] * 2.0**-GAIN_BITS
        y_hat = (y_symbols.cpu().double() + mean * 2.0**-ACTIVATION_BITS) * inverse
        return y_hat.to(torch.float32, memory_format=torch.contiguous_format)

    @torch.no_grad()
    def quantise(self, y: Tensor, level: Tensor) -> Quantised:
        """y (B, M, h, w) float32 -> the symbols a file carries, the y_hat a decoder recovers, the estimated bits."""
        self.tables()
        # As in training, with the integers of the tables: z around its medians, mean and index from exact sums.
        gain = self.frozen_gain(level)
        scaled = y * gain.float().to(y.device)
        z = self.h_a(scaled)
        medians = (self.z_medians.float() * 2.0**-ACTIVATION_BITS)[:, None, None]
        z_symbols = torch.round(z - medians).clamp(-Z_LIMIT, Z_LIMIT)
        y_symbols, mean, index = self._quantise_y(scaled.cpu().double(), z_symbols, level, gain)
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
        encoder.put(flat(coded.z_symbols), self._z_tables(*coded.z_symbols.shape[2:]), z_tables)
        for symbols, index in zip(self._passes(coded.y_symbols), self._passes(coded.indices), strict=True):
            encoder.put(flat(symbols), flat(index), y_tables)
        return encoder.finish()

    @torch.no_grad()
    def decode(self, payload: bytes, z_size: tuple[int, int], level: int) -> Tensor:
        """See EntropyModel; the size is that of z."""
        # As many symbols as y and z have.
        ratio = math.prod(layer.spec.upsample for layer in self.h_s.convolutions())
        self.check_file(payload, math.prod(z_size) * (self.hyper + ratio**2 * self.latent), level)
        z_tables, _ = self.tables()
        # z with the prior's tables; from z the mean and the table of each symbol of y; then y, and y_hat.
        decoder = SymbolDecoder(payload)
        z_symbols = torch.from_numpy(decoder.take(self._z_tables(*z_size), z_tables)).view(1, self.hyper, *z_size)
        levels = torch.tensor([level])
        y_symbols, mean = self._take_y(decoder, z_symbols, levels)
        decoder.finish()
        return self._dequantise(y_symbols, mean, levels)


def flat(tensor: Tensor) -> Symbols:
    """As the coder takes symbols and numbers of tables."""
    return tensor.cpu().reshape(-1).to(torch.int32).numpy()
