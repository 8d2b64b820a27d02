"""DSIN's entropy model: symbols of a few levels, each predicted from those before it in channels, rows and columns.

The context model is Mentzer et al. 2018, arXiv 1801.04260. It runs in exact integers (`modules/integer.py`), and the
decoder in wavefronts: all symbols with equal column + 2 row + 4 channel depend on earlier wavefronts alone.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.coder import PRECISION, ProbabilityTables, SymbolDecoder, SymbolEncoder
from modules.derived import Derived
from modules.entropy_model import Coded, EntropyModel, Quantised, digest_of
from modules.integer import ACTIVATION_BITS, ACTIVATION_LIMIT, WEIGHT_BITS, IntegerConv, LayerSpec, quantise
from modules.noise import Draws
from utils.errors import CheckpointError

CENTRE_BITS = 16
"""Fractional bits of a centre in a decoder."""
EXP_BITS = 20
"""Fractional bits of the table of exponentials."""
EXP_SIZE = 16 * 2**ACTIVATION_BITS
"""Entries of that table: logits more than 16 below the largest count as 16 below."""


class CausalConv(IntegerConv):
    """Convolution over (channel, row, column) of y with a kernel (2, 3, 3) that sees what comes before.

    Its feature maps are (B, D, C, H, W), D the channels of y. As a 2-D convolution it has 2C inputs: the features of
    channel d - 1, then those of d. Of channel d it sees the row above, what is to the left, and itself unless `first`.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, activation: str, first: bool = False) -> None:
        super().__init__(LayerSpec(2 * inputs, outputs, 3, activation=activation))  # type: ignore[arg-type]
        mask = torch.ones_like(self.weight)
        mask[:, inputs:, 1, 1 if first else 2 :] = 0
        mask[:, inputs:, 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def kernel(self) -> Tensor:
        """The weights without those that would see what comes after."""
        return self.weight * self.mask

    def forward_volume(self, x: Tensor, exact: bool) -> Tensor:
        """(B, D, C, H, W) -> the same with `outputs` channels; `exact`: in integers."""
        stacked = torch.cat([F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1], x], dim=2).flatten(0, 1)
        level = torch.zeros(len(stacked), dtype=torch.int64, device=x.device)
        out = self.integer_forward(stacked, level) if exact else self(stacked, level)
        return out.unflatten(0, x.shape[:2])

    def at(self, windows: Tensor) -> Tensor:
        """Exact results (n, outputs) at positions with these windows (n, 2, 3, 3, C)."""
        inputs = windows.shape[-1]
        weight = self.weight_int.cpu().double().unflatten(1, (2, inputs)).permute(1, 3, 4, 2, 0).flatten(0, 3)
        return self._finish(windows.flatten(1) @ weight + self.bias_int.cpu().double() * 2**WEIGHT_BITS)


class CausalContext(EntropyModel):
    """Entropy model of a latent (B, 1 + D, h, w), whose first channel is a heat map and whose others are the code.

    mask_c = clip(D sigmoid(heat) - c, 0, 1) switches off the last channels of the code where little is to tell. Each
    value of mask x code becomes the nearest of `levels` learned centres; gradients pass as if it were their softmax
    mean, weighted by squared distance. Of the bits H of the symbols, training counts (H + H x mask) / 2, by which the
    heat map learns; a file has H, and y_hat (B, D, h, w) are the centres.

    Probabilities are exact: integer logits, then frequencies from a stored table of exponentials,
    f_i = 1 + floor(e_i (2^22 - L) / sum e), and what is left of 2^22 goes to the first of the largest.
    """

    centres_int: Tensor
    exponentials: Tensor

    def __init__(self, depth: int, centres: int = 6, width: int = 24) -> None:
        super().__init__()
        self.depth, self.size = depth, centres
        self.centres = nn.Parameter(torch.linspace(-2, 2, centres))
        self.first = CausalConv(1, width, "relu", first=True)
        self.inner = CausalConv(width, width, "relu")
        self.outer = CausalConv(width, width, "none")
        self.last = CausalConv(width, centres, "none")
        self.register_buffer("centres_int", torch.zeros(centres, dtype=torch.int32))
        self.register_buffer("exponentials", torch.zeros(EXP_SIZE, dtype=torch.int32))
        self._identity: Derived[bytes] = Derived()

    def layers(self) -> list[CausalConv]:
        """The context model's, in order."""
        return [self.first, self.inner, self.outer, self.last]

    # ---------------------------------------------------------------- training

    def forward(self, y: Tensor, level: Tensor, draws: Draws | None = None) -> Coded:
        """See EntropyModel."""
        with torch.autocast(y.device.type, enabled=False):
            if draws is None:
                return self._quantise(y.float())
            z_hat, index, mask = self.nearest(y.float(), self.centres)
            logits = self._logits(z_hat.detach() - self.centres[0].detach())
            cost = F.cross_entropy(logits.transpose(1, 2), index, reduction="none") / np.log(2)
            return Coded(z_hat, 0.5 * (cost + cost * mask).sum((1, 2, 3)))

    def nearest(self, y: Tensor, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y (B, 1 + D, h, w) -> z_hat, straight-through, the number of its centre, and the mask, each (B, D, h, w)."""
        channel = torch.arange(self.depth, device=y.device)[:, None, None]
        mask = (self.depth * torch.sigmoid(y[:, :1]) - channel).clamp(0, 1)
        distance = (mask * y[:, 1:])[..., None] - centres
        distance = distance.square()
        index = distance.argmin(-1)
        soft = (F.softmax(-distance, dim=-1) * centres).sum(-1)
        return soft + (centres[index] - soft).detach(), index, mask

    def _logits(self, z: Tensor, exact: bool = False) -> Tensor:
        """z_hat minus the first centre (B, D, h, w), which the padding then stands for -> (B, D, L, h, w)."""
        h = self.first.forward_volume(z[:, :, None], exact)
        h = _sum(h, self.outer.forward_volume(self.inner.forward_volume(h, exact), exact), exact)
        return self.last.forward_volume(h, exact)

    # ---------------------------------------------------------------- files

    @torch.no_grad()
    def _quantise(self, y: Tensor) -> Quantised:
        self.tables()
        index = self.nearest(y, self._decoder_centres().to(y.device))[1].cpu()
        frequencies = self._frequencies(self._logits(self._inputs()[index], exact=True).movedim(2, -1))
        found = frequencies.gather(-1, index[..., None])[..., 0].double()
        return Quantised(
            lambda: self._decoder_centres()[index].to(y.device),
            lambda: (PRECISION - found.log2()).sum((1, 2, 3)).float().to(y.device),
            None,
            index,
            frequencies,
        )

    def _decoder_centres(self) -> Tensor:
        return (self.centres_int.cpu().double() * 2.0**-CENTRE_BITS).float()

    def _inputs(self) -> Tensor:
        """What the context model sees of each centre: its distance from the first, 8 fractional bits."""
        distance = (self.centres_int - self.centres_int[0]).cpu().double() * 2.0 ** (ACTIVATION_BITS - CENTRE_BITS)
        return torch.floor(distance + 0.5).clamp(1 - ACTIVATION_LIMIT, ACTIVATION_LIMIT - 1)

    def _frequencies(self, logits: Tensor) -> Tensor:
        """Integer logits (..., L) -> frequencies (..., L) that sum to 2^22."""
        below = (logits.amax(-1, keepdim=True) - logits).long().clamp(max=EXP_SIZE - 1)
        e = self.exponentials.cpu().long()[below]
        total = 2**PRECISION
        frequencies = 1 + torch.div(e * (total - self.size), e.sum(-1, keepdim=True), rounding_mode="floor")
        largest = F.one_hot(below.argmin(-1), self.size)
        return frequencies + largest * (total - frequencies.sum(-1, keepdim=True))

    def encode(self, coded: Coded) -> bytes:
        """See EntropyModel; wavefront by wavefront."""
        assert coded.y_symbols is not None and coded.indices is not None
        if len(coded.y_symbols) != 1:
            raise ValueError("encode takes one image at a time.")
        order = np.concatenate(_wavefronts(*coded.y_symbols.shape[1:]))
        tables = ProbabilityTables(coded.indices[0].reshape(-1, self.size).numpy()[order].astype(np.int32))
        symbols = coded.y_symbols[0].reshape(-1).numpy()[order].astype(np.int32) - tables.half
        encoder = SymbolEncoder()
        encoder.put(symbols, np.arange(len(symbols), dtype=np.int32), tables)
        return encoder.finish()

    @torch.no_grad()
    def decode(self, payload: bytes, size: tuple[int, int], level: int) -> Tensor:
        """See EntropyModel; the size is that of y."""
        self.tables()
        height, width = size
        shape = (self.depth, height, width)
        self.check_file(payload, int(np.prod(shape)), level)
        decoder = SymbolDecoder(payload)
        inputs, index = self._inputs(), torch.zeros(shape, dtype=torch.int64)
        # What each layer has computed so far, with a border: before the first channel, and around rows and columns.
        border, wide = (self.depth + 1, height + 2, width + 2), self.first.spec.outputs
        known = [torch.zeros(*border, channels).double() for channels in (1, wide, wide, wide)]
        taps = np.stack(np.meshgrid([0, 1], [0, 1, 2], [0, 1, 2], indexing="ij"), -1).reshape(-1, 3)
        for front in _wavefronts(*shape):
            where = np.stack(np.unravel_index(front, shape), -1)
            around = tuple(torch.from_numpy(axis) for axis in (where[:, None] + taps[None]).transpose(2, 0, 1))
            here = tuple(torch.from_numpy(axis) for axis in (where + 1).T)

            def windows(number: int, around: tuple[Tensor, ...] = around) -> Tensor:
                return known[number][around].unflatten(1, (2, 3, 3))

            known[1][here] = self.first.at(windows(0))
            known[2][here] = self.inner.at(windows(1))
            known[3][here] = _sum(known[1][here], self.outer.at(windows(2)), exact=True)
            tables = ProbabilityTables(self._frequencies(self.last.at(windows(3))).numpy().astype(np.int32))
            symbols = torch.from_numpy(decoder.take(np.arange(len(front), dtype=np.int32), tables) + tables.half).long()
            index.view(-1)[torch.from_numpy(front)] = symbols
            known[0][here] = inputs[symbols][:, None]
        decoder.finish()
        return self._decoder_centres()[index][None]

    # ---------------------------------------------------------------- frozen integers

    @torch.no_grad()
    def freeze(self) -> None:
        """See EntropyModel."""
        for layer in self.layers():
            layer.freeze("the context model")
        self.centres_int.copy_(quantise(self.centres, CENTRE_BITS, "The centres"))
        steps = torch.arange(EXP_SIZE).double() * 2.0**-ACTIVATION_BITS
        self.exponentials.copy_(torch.floor(2**EXP_BITS * torch.exp(-steps) + 0.5).to(torch.int32))
        self.check_exact()
        self.frozen.fill_(True)

    def thaw(self) -> None:
        """See EntropyModel."""
        self.require_saved_frozen()
        self.check_exact()
        for layer in self.layers():
            layer.thaw()
        with torch.no_grad():
            self.centres.copy_(self._decoder_centres())

    def check_exact(self) -> None:
        """Raise CheckpointError for integers whose sums could lose exactness, or that are no exponentials."""
        for layer in self.layers():
            layer.check_exact("the context model")
        e = self.exponentials.cpu()
        if int(e[0]) < 1 or bool((e < 0).any()) or bool((e > 2**EXP_BITS).any()):
            raise CheckpointError("The checkpoint's table of exponentials is damaged; fetch or train it again.")

    def tables(self) -> None:
        """See EntropyModel: each symbol has its own."""
        self.require_frozen()

    def _integers(self) -> list[Tensor]:
        layers = [tensor for layer in self.layers() for tensor in (layer.weight_int, layer.bias_int)]
        return [self.centres_int, self.exponentials, *layers]

    def identity(self) -> bytes:
        """See EntropyModel."""
        return self._identity.get(self._integers(), lambda: digest_of(b"causal;", self._integers()))


def _sum(a: Tensor, b: Tensor, exact: bool) -> Tensor:
    """a + b, clamped like every activation where integers must stay exact."""
    return (a + b).clamp(1 - ACTIVATION_LIMIT, ACTIVATION_LIMIT - 1) if exact else a + b


def _wavefronts(depth: int, height: int, width: int) -> list[np.ndarray]:
    """Flat positions of a volume (depth, height, width), in groups that can be decoded together, in order."""
    d, h, w = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij")
    front = (w + 2 * h + 4 * d).reshape(-1)
    order = np.argsort(front, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(front[order])) + 1)
