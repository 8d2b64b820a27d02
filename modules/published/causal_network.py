"""Symbols of a few kinds, each predicted from those before it in channels, rows and columns, exactly.

The context model is Mentzer et al. 2018, arXiv 1801.04260. It runs in exact integers (`modules/integer.py`), and the
decoder in wavefronts: all symbols with equal column + 2 row + 4 channel depend on earlier wavefronts alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.coder import PRECISION, ProbabilityTables, SymbolDecoder, SymbolEncoder
from modules.entropy_model import Coded, Quantised
from modules.integer import ACTIVATION_BITS, ACTIVATION_LIMIT, WEIGHT_BITS, IntegerConv, LayerSpec
from utils.errors import CheckpointError

EXP_BITS = 20
"""Fractional bits of the table of exponentials."""
EXP_SIZE = 16 * 2**ACTIVATION_BITS
"""Entries of that table: logits more than 16 below the largest count as 16 below."""


class CausalConv(IntegerConv):
    """Convolution over (channel, row, column) of a volume, with a 3x3 kernel that sees what comes before.

    Its feature maps are (B, D, C, H, W), D the channels of the volume. Where D is more than 1 the kernel is (2, 3, 3),
    as a 2-D convolution with 2C inputs: the features of channel d - 1, then those of d. Of channel d it sees the row
    above, what is to the left, and itself unless `first`.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, activation: str, depth: int, first: bool = False) -> None:
        self.channels = 2 if depth > 1 else 1
        super().__init__(LayerSpec(self.channels * inputs, outputs, 3, activation=activation))  # type: ignore[arg-type]
        mask = torch.ones_like(self.weight)
        mask[:, -inputs:, 1, 1 if first else 2 :] = 0
        mask[:, -inputs:, 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def kernel(self) -> Tensor:
        """The weights without those that would see what comes after."""
        return self.weight * self.mask

    def forward_volume(self, x: Tensor, exact: bool) -> Tensor:
        """(B, D, C, H, W) -> the same with `outputs` channels; `exact`: in integers."""
        before = [F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]] if self.channels == 2 else []
        stacked = torch.cat([*before, x], dim=2).flatten(0, 1)
        level = torch.zeros(len(stacked), dtype=torch.int64, device=x.device)
        out = self.integer_forward(stacked, level) if exact else self(stacked, level)
        return out.unflatten(0, x.shape[:2])

    def at(self, windows: Tensor) -> Tensor:
        """Exact results (n, outputs) at positions with these windows (n, 1 or 2, 3, 3, C)."""
        channels, inputs = windows.shape[1], windows.shape[-1]
        weight = self.weight_int.cpu().double().unflatten(1, (channels, inputs)).permute(1, 3, 4, 2, 0).flatten(0, 3)
        return self._finish(windows.flatten(1) @ weight + self.bias_int.cpu().double() * 2**WEIGHT_BITS)


class CausalNetwork(nn.Module):
    """Predicts each symbol of a volume (D, h, w) as one of L kinds, from `inputs` values of every symbol before it.

    Four causal convolutions, of which the second and third are a residual block. Probabilities are exact: integer
    logits, then frequencies from a stored table of exponentials, f_i = 1 + floor(e_i (2^22 - L) / sum e), and what is
    left of 2^22 goes to the first of the largest.
    """

    exponentials: Tensor

    def __init__(self, inputs: int, width: int, kinds: int, depth: int = 1) -> None:
        super().__init__()
        self.depth, self.kinds = depth, kinds
        self.first = CausalConv(inputs, width, "relu", depth, first=True)
        self.inner = CausalConv(width, width, "relu", depth)
        self.outer = CausalConv(width, width, "none", depth)
        self.last = CausalConv(width, kinds, "none", depth)
        self.register_buffer("exponentials", torch.zeros(EXP_SIZE, dtype=torch.int32))

    def layers(self) -> list[CausalConv]:
        """In order."""
        return [self.first, self.inner, self.outer, self.last]

    def forward(self, volume: Tensor, exact: bool = False) -> Tensor:
        """(B, D, C, h, w), zero around -> logits (B, D, L, h, w); `exact`: both are integers of 8 fractional bits."""
        h = self.first.forward_volume(volume, exact)
        h = _sum(h, self.outer.forward_volume(self.inner.forward_volume(h, exact), exact), exact)
        return self.last.forward_volume(h, exact)

    def bits(self, volume: Tensor, index: Tensor) -> Tensor:
        """Cross-entropy of symbols (B, D, h, w) in bits, in floats, for training."""
        return F.cross_entropy(self(volume).transpose(1, 2), index, reduction="none") / np.log(2)

    def frequencies(self, logits: Tensor) -> Tensor:
        """Integer logits (..., L) -> frequencies (..., L) that sum to 2^22."""
        below = (logits.amax(-1, keepdim=True) - logits).long().clamp(max=EXP_SIZE - 1)
        e = self.exponentials.cpu().long()[below]
        total = 2**PRECISION
        frequencies = 1 + torch.div(e * (total - self.kinds), e.sum(-1, keepdim=True), rounding_mode="floor")
        largest = F.one_hot(below.argmin(-1), self.kinds)
        return frequencies + largest * (total - frequencies.sum(-1, keepdim=True))

    @torch.no_grad()
    def quantised(self, index: Tensor, inputs: Tensor, y_hat: Callable[[], Tensor], device: torch.device) -> Quantised:
        """What a file carries of symbols (B, D, h, w) on the CPU; `inputs` (L, C): what is seen of each kind."""
        frequencies = self.frequencies(self(inputs[index].movedim(-1, 2), exact=True).movedim(2, -1))
        found = frequencies.gather(-1, index[..., None])[..., 0].double()
        return Quantised(
            y_hat, lambda: (PRECISION - found.log2()).sum((1, 2, 3)).float().to(device), None, index, frequencies
        )

    def encode(self, coded: Coded) -> bytes:
        """The payload of one latent that `quantised` gave; wavefront by wavefront."""
        assert coded.y_symbols is not None and coded.indices is not None
        if len(coded.y_symbols) != 1:
            raise ValueError("encode takes one image at a time.")
        order = np.concatenate(wavefronts(*coded.y_symbols.shape[1:]))
        tables = ProbabilityTables(coded.indices[0].reshape(-1, self.kinds).numpy()[order].astype(np.int32))
        symbols = coded.y_symbols[0].reshape(-1).numpy()[order].astype(np.int32) - tables.half
        encoder = SymbolEncoder()
        encoder.put(symbols, np.arange(len(symbols), dtype=np.int32), tables)
        return encoder.finish()

    @torch.no_grad()
    def decode(self, payload: bytes, size: tuple[int, int], inputs: Tensor) -> Tensor:
        """Payload -> symbols (D, h, w). Raises BitstreamError."""
        height, width = size
        shape = (self.depth, height, width)
        decoder = SymbolDecoder(payload)
        index = torch.zeros(shape, dtype=torch.int64)
        # What each layer has computed so far, with a border: before the first channel, and around rows and columns.
        channels, wide = self.first.channels, self.first.spec.outputs
        border = (self.depth + channels - 1, height + 2, width + 2)
        known = [torch.zeros(*border, count).double() for count in (inputs.shape[1], wide, wide, wide)]
        taps = np.stack(np.meshgrid(range(channels), range(3), range(3), indexing="ij"), -1).reshape(-1, 3)
        for front in wavefronts(*shape):
            where = np.stack(np.unravel_index(front, shape), -1)
            around = tuple(torch.from_numpy(axis) for axis in (where[:, None] + taps[None]).transpose(2, 0, 1))
            here = tuple(torch.from_numpy(axis) for axis in (where + np.array([channels - 1, 1, 1])).T)

            def windows(number: int, around: tuple[Tensor, ...] = around) -> Tensor:
                return known[number][around].unflatten(1, (channels, 3, 3))

            known[1][here] = self.first.at(windows(0))
            known[2][here] = self.inner.at(windows(1))
            known[3][here] = _sum(known[1][here], self.outer.at(windows(2)), exact=True)
            tables = ProbabilityTables(self.frequencies(self.last.at(windows(3))).numpy().astype(np.int32))
            symbols = torch.from_numpy(decoder.take(np.arange(len(front), dtype=np.int32), tables) + tables.half).long()
            index.view(-1)[torch.from_numpy(front)] = symbols
            known[0][here] = inputs[symbols]
        decoder.finish()
        return index

    @torch.no_grad()
    def freeze(self) -> None:
        """Derive the integers. Raises CheckpointError for weights whose integers do not fit."""
        for layer in self.layers():
            layer.freeze("the context model")
        steps = torch.arange(EXP_SIZE).double() * 2.0**-ACTIVATION_BITS
        self.exponentials.copy_(torch.floor(2**EXP_BITS * torch.exp(-steps) + 0.5).to(torch.int32))
        self.check_exact()

    def thaw(self) -> None:
        """Set the float weights to what the integers stand for. Raises CheckpointError as `check_exact` does."""
        self.check_exact()
        for layer in self.layers():
            layer.thaw()

    def check_exact(self) -> None:
        """Raise CheckpointError for integers whose sums could lose exactness, or that are no exponentials."""
        for layer in self.layers():
            layer.check_exact("the context model")
        e = self.exponentials.cpu()
        if int(e[0]) < 1 or bool((e < 0).any()) or bool((e > 2**EXP_BITS).any()):
            raise CheckpointError("The checkpoint's table of exponentials is damaged; fetch or train it again.")

    def integers(self) -> list[Tensor]:
        """All that a file's meaning depends on."""
        layers = [tensor for layer in self.layers() for tensor in (layer.weight_int, layer.bias_int)]
        return [self.exponentials, *layers]


def as_inputs(values: Tensor, bits: int) -> Tensor:
    """Integers with so many fractional bits -> activations of the context model, which have 8."""
    scaled = values.cpu().double() * 2.0 ** (ACTIVATION_BITS - bits)
    return torch.floor(scaled + 0.5).clamp(1 - ACTIVATION_LIMIT, ACTIVATION_LIMIT - 1)


def _sum(a: Tensor, b: Tensor, exact: bool) -> Tensor:
    """a + b, clamped like every activation where integers must stay exact."""
    return (a + b).clamp(1 - ACTIVATION_LIMIT, ACTIVATION_LIMIT - 1) if exact else a + b


def wavefronts(depth: int, height: int, width: int) -> list[np.ndarray]:
    """Flat positions of a volume (depth, height, width), in groups that can be decoded together, in order."""
    d, h, w = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij")
    front = (w + 2 * h + 4 * d).reshape(-1)
    order = np.argsort(front, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(front[order])) + 1)
