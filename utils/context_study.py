"""Context models for the latent y, on a frozen encoder: the networks that `scripts/study_context.py` compares.

Each predicts mean and scale of y from z_hat as `Hyperprior` does, and from what has been decoded before:
- checkerboard (He et al., "Checkerboard Context Model for Efficient Learned Image Compression", CVPR 2021): half of the
  positions, the anchors, come first; the others also see the anchors around them;
- channel-conditional (Minnen and Singh, "Channel-wise Autoregressive Entropy Models for Learned Image Compression",
  ICIP 2020): the channels come in slices; each also sees the earlier ones at its position, or around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from compressai.ops import LowerBound
from torch import Tensor, nn

from modules.entropy import LIKELIHOOD_BOUND, SCALE_MIN, SCALE_STEP, SCALES, Y_LIMIT, gaussian_likelihood, round_ste
from modules.integer import ACTIVATION_BITS, LEAKY_SLOPE, IntegerConv, IntegerSynthesis, LayerSpec

Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Design:
    """One context model; the default has no context and is the plain hyperprior.

    `kernel`: side of the checkerboard's window, 0 for none. `slices`: of the channels, with about equal shares of the
    bits. `window`: side of the window of earlier slices that a slice sees. `into_output`: the context is added to h_s's
    output, as published; otherwise to the sums of its last hidden layer, so that one output layer serves all passes.
    """

    kernel: int = 0
    slices: int = 1
    window: int = 1
    into_output: bool = False


DESIGNS = {
    "plain": Design(),
    "checkerboard 3x3 into the output": Design(kernel=3, into_output=True),
    "checkerboard 3x3": Design(kernel=3),
    "checkerboard 5x5": Design(kernel=5),
    "2 slices": Design(slices=2),
    "2 slices 3x3": Design(slices=2, window=3),
    "checkerboard 5x5, 2 slices": Design(kernel=5, slices=2),
    "checkerboard 3x3, 2 slices 3x3": Design(kernel=3, slices=2, window=3),
}


@dataclass
class Latents:
    """The sender's results for N images: `y` (N, M, h, w) times its gain, `z_hat` (N, C, h/4, w/4) and `level` (N)."""

    y: Tensor
    z_hat: Tensor
    level: Tensor

    def __getitem__(self, chosen: Tensor | slice) -> Latents:
        return Latents(self.y[chosen], self.z_hat[chosen], self.level[chosen])


@dataclass
class Pass:
    """What is coded at once: parameters and symbols, (N, C, 1, n) each, of some channels (M of them, by `order`) and
    places (row x width + column)."""

    channels: Tensor
    places: Tensor
    mean: Tensor
    index: Tensor
    symbols: Tensor


class ContextModel(nn.Module):
    """h_s of a trained hyperprior, its last layer cut into slices of channels, with context that is zero at first.

    `bits` (M,): what each channel of y costs. The `count` dearest take part, in slices that begin with the dearest; the
    others, nearly always zero, are coded last and as before. With `exact`, after `freeze`, the methods compute in the
    integers of `modules/integer.py`, else in floats.
    """

    def __init__(self, h_s: IntegerSynthesis, design: Design, bits: Tensor, count: int, levels: int) -> None:
        super().__init__()
        *trunk, last = h_s.convolutions()
        latent, hidden = len(bits), last.spec.inputs
        specs = [layer.spec for layer in trunk]
        specs[-1] = replace(specs[-1], activation="none")  # Applied when the context has been added.
        self.trunk = IntegerSynthesis(specs, levels)
        for own, layer in zip(self.trunk.convolutions(), trunk, strict=True):
            own.load_state_dict(layer.state_dict())
        self._index_low, self._likelihood_low = LowerBound(0.0), LowerBound(LIKELIHOOD_BOUND)
        self.design = design
        part, rest = torch.argsort(bits, descending=True).tensor_split([count])
        self.slices = [*part.split(_equal_shares(bits[part], design.slices)), rest]
        self.heads, self.channel, self.spatial = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = 0
        for channels in self.slices:
            chosen = torch.cat([channels, latent + channels])
            head = IntegerConv(replace(last.spec, outputs=len(chosen)), levels)
            with torch.no_grad():
                head.weight.copy_(last.weight[chosen])
                head.bias.copy_(last.bias[:, chosen])
            self.heads.append(head)
            outputs = len(chosen) if design.into_output else hidden
            if 0 < before < count:
                self.channel.append(_silent(before * design.window**2, outputs))
            if design.kernel and before < count:
                self.spatial.append(_silent(len(channels) * len(_anchors(design.kernel)), outputs))
            before += len(channels)

    def context(self) -> list[nn.Parameter]:
        """The parameters that a plain hyperprior has not."""
        return [*self.channel.parameters(), *self.spatial.parameters()]

    def freeze(self) -> None:
        """Derive the integers; CheckpointError if they do not fit."""
        for conv in self.modules():
            if isinstance(conv, IntegerConv):
                conv.freeze()

    def forward(self, latents: Latents, noise: Tensor | None = None, exact: bool = False) -> Tensor:
        """The bits (N,) of the channels that take part: with uniform noise in [-1/2, 1/2], as in training, or of their
        symbols, as in a file."""
        bits = latents.y.new_zeros(len(latents.y))
        for part in self.passes(latents, exact, everything=False):
            if noise is None:
                bits = bits + self._bits(part.symbols, torch.floor(part.index + 0.5))
            else:
                y = _at(latents.y, part.channels) + _at(noise, part.channels)
                bits = bits + self._bits(y[..., part.places] - part.mean, part.index)
        return bits

    def passes(self, latents: Latents, exact: bool = False, everything: bool = True) -> Iterator[Pass]:
        """What a sender does, and a receiver after it, in order; with `everything`, for all channels."""
        height, width = latents.y.shape[2:]
        hidden = self._trunk(latents, exact)
        whole = [torch.arange(height * width)]
        earlier: list[Tensor] = []
        for i, channels in enumerate(self.slices if everything else self.slices[:-1]):
            takes_part = i < self.design.slices
            y = _at(latents.y, channels)
            y = y.double() if exact else y
            context = []
            if i and takes_part:
                around = _around(torch.cat(earlier, 1), height, _everywhere(self.design.window))
                context.append(self._run(self.channel[i - 1], around, latents.level, exact))
            y_hat = torch.zeros_like(y)
            for number, places in enumerate(_checkerboard(height, width) if self.spatial and takes_part else whole):
                terms = [term.index_select(3, places) for term in context]
                if number:
                    around = _around(y_hat, height, _anchors(self.design.kernel))
                    terms.append(self._run(self.spatial[i], around.index_select(3, places), latents.level, exact))
                mean, index = self._predict(i, hidden.index_select(3, places), terms, latents.level, exact)
                symbols = round_ste(y[..., places] - mean).clamp(-Y_LIMIT, Y_LIMIT)
                y_hat = y_hat.index_copy(3, places, symbols + mean)
                yield Pass(channels, places, mean, index, symbols)
            earlier.append(y_hat)

    def _trunk(self, latents: Latents, exact: bool) -> Tensor:
        if exact:
            fixed = torch.floor(latents.z_hat.double() * 2**ACTIVATION_BITS + 0.5)
            hidden = self.trunk.integer_forward(fixed, latents.level) * 2.0**-ACTIVATION_BITS
        else:
            hidden = self.trunk(latents.z_hat, latents.level)
        return hidden.flatten(2)[:, :, None]

    def _predict(
        self, i: int, hidden: Tensor, terms: list[Tensor], level: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor]:
        """Mean and index of the scale, from the sums of the last hidden layer and the context's terms."""
        into_output = self.design.into_output
        hidden = F.leaky_relu(hidden if into_output else sum(terms, hidden), LEAKY_SLOPE)
        out = self._run(self.heads[i], hidden, level, exact)
        mean, index = (sum(terms, out) if into_output else out).chunk(2, dim=1)
        return mean, index

    @staticmethod
    def _run(conv: nn.Module, x: Tensor, level: Tensor, exact: bool) -> Tensor:
        assert isinstance(conv, IntegerConv)
        if not exact:
            result: Tensor = conv(x, level)
            return result
        return conv.integer_forward(torch.floor(x * 2**ACTIVATION_BITS + 0.5), level) * 2.0**-ACTIVATION_BITS

    def _bits(self, residual: Tensor, index: Tensor) -> Tensor:
        """(N, C, 1, n) -> (N,)."""
        scale = SCALE_MIN * torch.exp(SCALE_STEP * self._index_low(index).clamp(max=SCALES - 1))
        return -self._likelihood_low(gaussian_likelihood(residual, scale)).log2().sum((1, 2, 3))


def _silent(inputs: int, outputs: int) -> IntegerConv:
    """A 1x1 convolution that adds nothing yet."""
    conv = IntegerConv(LayerSpec(inputs, outputs, kernel=1, activation="none"))
    nn.init.zeros_(conv.weight)
    return conv


def _equal_shares(bits: Tensor, slices: int) -> list[int]:
    """Sizes of `slices` runs of channels with about equal sums of `bits`, none empty."""
    share = bits.cumsum(0) / bits.sum()
    ends = [int((share < (i + 1) / slices).sum()) + 1 for i in range(slices - 1)]
    return [end - begin for begin, end in pairwise([0, *ends, len(bits)])]


def _at(y: Tensor, channels: Tensor) -> Tensor:
    """(N, M, h, w) -> (N, C, 1, h w)."""
    return y[:, channels].flatten(2)[:, :, None]


def _checkerboard(height: int, width: int) -> list[Tensor]:
    """The places of the anchors, and those of the others."""
    parity = (torch.arange(height)[:, None] + torch.arange(width)).flatten() % 2
    return [torch.nonzero(parity == which)[:, 0] for which in (0, 1)]


def _everywhere(kernel: int) -> Offsets:
    """All places of a window, (0, 0) at its centre."""
    reach = range(-(kernel // 2), kernel // 2 + 1)
    return [(row, column) for row in reach for column in reach]


def _anchors(kernel: int) -> Offsets:
    """Those where, in a window around a place that is no anchor, the anchors are."""
    return [(row, column) for row, column in _everywhere(kernel) if (row + column) % 2]


def _around(y_hat: Tensor, height: int, offsets: Offsets) -> Tensor:
    """(N, C, 1, h w) -> (N, C x offsets, 1, h w): what lies there around each place, zero beyond the edge."""
    grid = y_hat[:, :, 0].unflatten(2, (height, -1))
    width, reach = grid.shape[3], max(row for row, _ in offsets)
    padded = F.pad(grid, (reach,) * 4)
    shifted = [padded[:, :, reach + i : reach + i + height, reach + j : reach + j + width] for i, j in offsets]
    return torch.cat(shifted, 1).flatten(2)[:, :, None]


@torch.no_grad()
def channel_bits(h_s: IntegerSynthesis, latents: Latents) -> Tensor:
    """What each channel of y costs under h_s alone, summed over the images (M,)."""
    mean, index = h_s(latents.z_hat, latents.level).chunk(2, dim=1)
    scale = SCALE_MIN * torch.exp(SCALE_STEP * index.clamp(0, SCALES - 1))
    likelihood = gaussian_likelihood(torch.round(latents.y - mean), scale).clamp(min=LIKELIHOOD_BOUND)
    return -likelihood.log2().sum((0, 2, 3))
