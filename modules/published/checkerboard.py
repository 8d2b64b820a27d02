"""Hyperprior with a checkerboard context: half of y is coded first and helps to predict the other half, exactly.

He et al., "Checkerboard Context Model for Efficient Learned Image Compression", CVPR 2021, arXiv 2103.15306.

    z_hat ─ layers ─► features ─────────────────┐
    y_hat of anchors (row + column even) ─ context ─ cat ─ head ─► mean and index of every position
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from modules.coder import SymbolDecoder
from modules.entropy import Hyperprior, flat
from modules.integer import ACTIVATION_BITS, ACTIVATION_LIMIT, IntegerConv, IntegerSynthesis, LayerSpec
from modules.likelihoods import Y_LIMIT


class CheckerboardConv(IntegerConv):
    """Convolution whose kernel has only the places with row + column odd, seen from its centre.

    Where its input is zero but at anchors, its result at an anchor is the bias alone: what the first pass knows.
    """

    mask: Tensor

    def __init__(self, spec: LayerSpec, levels: int) -> None:
        super().__init__(spec, levels)
        line = torch.arange(spec.kernel) - spec.kernel // 2
        self.register_buffer("mask", ((line[:, None] + line) % 2).float(), persistent=False)

    def kernel(self) -> Tensor:
        """The weights at those places."""
        return self.weight * self.mask


class CheckerboardSynthesis(IntegerSynthesis):
    """h_s up to features, the context convolution, and the 1x1 layers that make parameters of both."""

    def __init__(self, layers: list[LayerSpec], head: list[LayerSpec], latent: int, levels: int) -> None:
        super().__init__(layers, levels)
        self.context = CheckerboardConv(LayerSpec(latent, 2 * latent, 5, activation="none"), levels)
        self.head = nn.ModuleList(IntegerConv(spec, levels) for spec in head)

    def convolutions(self) -> list[IntegerConv]:
        """All layers, in order."""
        return [*super().convolutions(), self.context, *(cast(IntegerConv, layer) for layer in self.head)]

    def combine(self, features: Tensor, anchors: Tensor, level: Tensor) -> Tensor:
        """Features and y_hat of the anchors (B, M, h, w), zero elsewhere -> mean and index (B, 2M, h, w), in floats."""
        h = torch.cat([features, self.context(anchors, level)], dim=1)
        for layer in self.head:
            h = layer(h, level)
        return h

    def integer_combine(self, features: Tensor, anchors: Tensor, level: Tensor) -> Tensor:
        """`combine` in exact integers with 8 fractional bits, on the CPU."""
        h = torch.cat([features, self.context.integer_forward(anchors, level)], dim=1)
        for layer in self.convolutions()[-len(self.head) :]:
            h = layer.integer_forward(h, level)
        return h


class Checkerboard(Hyperprior):
    """`Hyperprior` in two passes over y. In training the context sees y x gain with uniform noise, as published."""

    h_s: CheckerboardSynthesis

    def _predict(self, z_hat: Tensor, level: Tensor, noisy: Tensor) -> Tensor:
        return self.h_s.combine(self.h_s(z_hat, level), noisy * _is_anchor(noisy), level)

    def _quantise_y(
        self, scaled: Tensor, z_symbols: Tensor, level: Tensor, gain: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        features, level, anchor = self._features(z_symbols, level), level.cpu(), _is_anchor(scaled)

        def symbols(mean: Tensor) -> Tensor:
            return torch.round(scaled - mean * 2.0**-ACTIVATION_BITS).clamp(-Y_LIMIT, Y_LIMIT)

        mean, _ = self._rounded(self.h_s.integer_combine(features, torch.zeros_like(scaled), level))
        known = _known(symbols(mean), mean) * anchor
        mean, index = self._rounded(self.h_s.integer_combine(features, known, level))
        return symbols(mean), mean, index

    def _take_y(self, decoder: SymbolDecoder, z_symbols: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        features, tables = self._features(z_symbols, level), self.tables()[1]
        known = torch.zeros(len(features), self.latent, *features.shape[2:], dtype=torch.float64)
        symbols, anchor = known.clone(), _is_anchor(known)
        for turn in (anchor, ~anchor):
            mean, index = self._rounded(self.h_s.integer_combine(features, known, level))
            found = torch.from_numpy(decoder.take(flat(index[..., turn]), tables))
            symbols[..., turn] = found.double().view(*known.shape[:2], -1)
            known = _known(symbols, mean) * anchor
        return symbols, mean

    def _features(self, z_symbols: Tensor, level: Tensor) -> Tensor:
        return self.h_s.integer_forward(self._z_fixed(z_symbols), level)

    def _passes(self, y_like: Tensor) -> list[Tensor]:
        anchor = _is_anchor(y_like).to(y_like.device)
        return [y_like[..., anchor], y_like[..., ~anchor]]


def _is_anchor(y: Tensor) -> Tensor:
    """(h, w) bool."""
    rows, columns = (torch.arange(edge, device=y.device) for edge in y.shape[2:])
    return (rows[:, None] + columns) % 2 == 0


def _known(symbols: Tensor, mean: Tensor) -> Tensor:
    """y_hat x gain as an activation: float64 integers with 8 fractional bits."""
    return (symbols * 2**ACTIVATION_BITS + mean).clamp(1 - ACTIVATION_LIMIT, ACTIVATION_LIMIT - 1)
