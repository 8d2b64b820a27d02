"""Entropy model without side channel: one learned density for each channel of y, coded with exact tables.

Ballé, Laparra, Simoncelli 2017, arXiv 1611.01704. With several rate levels, the density is one of y itself:

    y ─ (y - median) × gain[rate] ─► Q ─► coder with the table of (channel, nearest knot of the rate)
"""

from __future__ import annotations

import torch
from torch import Tensor

from modules.coder import PRECISION, ProbabilityTables, SymbolDecoder, SymbolEncoder, quantise_pmf
from modules.derived import Derived
from modules.entropy import flat
from modules.entropy_model import GAIN_BITS, Coded, GainedModel, Quantised, checked_tables, digest_of
from modules.integer import ACTIVATION_BITS, KNOT_SPACING, quantise
from modules.likelihoods import LIKELIHOOD_BOUND, Y_LIMIT, FactorizedPrior, lower_bound, round_ste
from modules.noise import Draws


class Factorized(GainedModel):
    """Entropy model of y (B, M, h, w): Q = round((y - median) gain), y_hat = Q / gain + median.

    P(Q) is the mass of y's density between y_hat - 1 / (2 gain) and y_hat + 1 / (2 gain). Tables exist at the knots of
    the rate; a level between two knots uses the nearer one's, whose gains differ from its own by a few percent.
    y_hat is exact: |Q| 2^31 + 2^12 |median| is below 2^53, and is rounded once, to float32.
    """

    medians: Tensor
    frequencies: Tensor

    def __init__(self, latent: int, levels: int = 1, gains: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__(latent, levels, gains)
        self.prior = FactorizedPrior(latent)
        self.register_buffer("medians", torch.zeros(latent, dtype=torch.int32))
        self.register_buffer("frequencies", torch.zeros(self.knots * latent, 2 * Y_LIMIT + 1, dtype=torch.int32))
        self._tables: Derived[ProbabilityTables] = Derived()
        self._identity: Derived[bytes] = Derived()

    def loss(self) -> Tensor:
        """The quantiles' loss, from which they learn the medians."""
        return self.prior.loss()

    def forward(self, y: Tensor, level: Tensor, draws: Draws | None = None) -> Coded:
        """See EntropyModel."""
        with torch.autocast(y.device.type, enabled=False):
            return self._noisy(y.float(), level, draws) if draws is not None else self._quantise(y.float(), level)

    def _noisy(self, y: Tensor, level: Tensor, draws: Draws) -> Coded:
        gain = self.gain(level)
        medians = self.prior.medians().detach()[:, None, None]
        y_hat = round_ste((y - medians) * gain) / gain + medians
        # R = -sum log2 p, of y with uniform noise as wide as a quantisation step in place of rounding.
        noise = draws.uniform("y", tuple(y.shape[1:])) - 0.5
        likelihood = self.prior.mass(y + (noise - 0.5) / gain, y + (noise + 0.5) / gain)
        return Coded(y_hat, -lower_bound(likelihood, LIKELIHOOD_BOUND).log2().sum((1, 2, 3)))

    # ---------------------------------------------------------------- deployment: integers

    @torch.no_grad()
    def _quantise(self, y: Tensor, level: Tensor) -> Quantised:
        self.tables()
        medians = self.medians.cpu().double()[:, None, None] * 2.0**-ACTIVATION_BITS
        symbols = torch.round((y.cpu().double() - medians) * self.frozen_gain(level)).clamp(-Y_LIMIT, Y_LIMIT)
        index = self._indices(level.cpu(), symbols.shape[2], symbols.shape[3])
        return Quantised(
            lambda: self._dequantise(symbols, level).to(y.device),
            lambda: self._bits(symbols, index).to(y.device),
            None,
            symbols,
            index,
        )

    def _indices(self, level: Tensor, height: int, width: int) -> Tensor:
        """The table (B, M, h, w) of each symbol: number of the knot x M + number of the channel."""
        knot = torch.div(level + KNOT_SPACING // 2, KNOT_SPACING, rounding_mode="floor")
        table = knot[:, None] * self.latent + torch.arange(self.latent)
        return table[:, :, None, None].expand(-1, -1, height, width)

    def _dequantise(self, symbols: Tensor, level: Tensor) -> Tensor:
        inverse = self.inverse_gain.cpu()[level.cpu()].double()[:, :, None, None] * 2.0**-GAIN_BITS
        medians = self.medians.cpu().double()[:, None, None] * 2.0**-ACTIVATION_BITS
        return (symbols.double() * inverse + medians).float()

    def _bits(self, symbols: Tensor, index: Tensor) -> Tensor:
        """Bits (B,) by the coder's tables."""
        found = self.frequencies.cpu()[index, (symbols + Y_LIMIT).long()]
        return (PRECISION - found.double().log2()).sum((1, 2, 3)).float()

    def encode(self, coded: Coded) -> bytes:
        """See EntropyModel."""
        assert coded.y_symbols is not None and coded.indices is not None
        if len(coded.y_symbols) != 1:
            raise ValueError("encode takes one image at a time.")
        encoder = SymbolEncoder()
        encoder.put(flat(coded.y_symbols), flat(coded.indices), self.tables())
        return encoder.finish()

    @torch.no_grad()
    def decode(self, payload: bytes, size: tuple[int, int], level: int) -> Tensor:
        """See EntropyModel; the size is that of y."""
        self.check_file(payload, self.latent * size[0] * size[1], level)
        levels = torch.tensor([level])
        index = self._indices(levels, *size)
        decoder = SymbolDecoder(payload)
        symbols = torch.from_numpy(decoder.take(flat(index), self.tables())).view(index.shape)
        decoder.finish()
        return self._dequantise(symbols, levels)

    # ---------------------------------------------------------------- frozen integers

    @torch.no_grad()
    def freeze(self) -> None:
        """See EntropyModel."""
        self.medians.copy_(quantise(self.prior.medians(), ACTIVATION_BITS, "The medians of y"))
        self.freeze_gain()
        self.check_gain()
        # Tables of the knots, by the gains and medians that the decoder has.
        knots = (KNOT_SPACING * torch.arange(self.knots)).clamp(max=self.levels - 1)
        step = 1 / self.frozen_gain(knots).float().to(self.medians.device)
        symbols = torch.arange(-Y_LIMIT, Y_LIMIT + 1, device=self.medians.device)[None, None, None]
        centre = self.medians[:, None, None].float() * 2.0**-ACTIVATION_BITS + symbols * step
        pmf = self.prior.mass(centre - step / 2, centre + step / 2)[:, :, 0].flatten(0, 1)
        self.frequencies.copy_(torch.from_numpy(quantise_pmf(pmf.cpu().double().numpy())))
        self.frozen.fill_(True)
        self.tables()

    def thaw(self) -> None:
        """See EntropyModel."""
        self.require_saved_frozen()
        self.tables()

    def tables(self) -> ProbabilityTables:
        """See EntropyModel: one for each knot and channel."""
        self.require_frozen()
        return self._tables.get(self._integers(), self._checked_tables)

    def _checked_tables(self) -> ProbabilityTables:
        self.check_gain()
        return checked_tables(self.frequencies)

    def _integers(self) -> list[Tensor]:
        return [self.frequencies, self.medians, self.inverse_gain]

    def identity(self) -> bytes:
        """See EntropyModel."""
        return self._identity.get(self._integers(), lambda: digest_of(b"factorized;", self._integers()))
