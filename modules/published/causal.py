"""DSIN's entropy model: symbols of a few levels, each predicted from those before it (`causal_network.py`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.derived import Derived
from modules.entropy_model import Coded, EntropyModel, Quantised, digest_of
from modules.integer import quantise
from modules.noise import Draws
from modules.published.causal_network import CausalNetwork, as_inputs

CENTRE_BITS = 16
"""Fractional bits of a centre in a decoder."""


class CausalContext(EntropyModel):
    """Entropy model of a latent (B, 1 + D, h, w), whose first channel is a heat map and whose others are the code.

    mask_c = clip(D sigmoid(heat) - c, 0, 1) switches off the last channels of the code where little is to tell. Each
    value of mask x code becomes the nearest of `levels` learned centres; gradients pass as if it were their softmax
    mean, weighted by squared distance. Of the bits H of the symbols, training counts (H + H x mask) / 2, by which the
    heat map learns; a file has H, and y_hat (B, D, h, w) are the centres. The context model sees the distance of each
    centre from the first one, which its padding then stands for.
    """

    centres_int: Tensor

    def __init__(self, depth: int, centres: int = 6, width: int = 24) -> None:
        super().__init__()
        self.depth = depth
        self.centres = nn.Parameter(torch.linspace(-2, 2, centres))
        self.context = CausalNetwork(1, width, centres, depth)
        self.register_buffer("centres_int", torch.zeros(centres, dtype=torch.int32))
        self._identity: Derived[bytes] = Derived()

    # ---------------------------------------------------------------- training

    def forward(self, y: Tensor, level: Tensor, draws: Draws | None = None) -> Coded:
        """See EntropyModel."""
        with torch.autocast(y.device.type, enabled=False):
            if draws is None:
                return self._quantise(y.float())
            z_hat, index, mask = self.nearest(y.float(), self.centres)
            cost = self.context.bits((z_hat.detach() - self.centres[0].detach())[:, :, None], index)
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

    # ---------------------------------------------------------------- files

    @torch.no_grad()
    def _quantise(self, y: Tensor) -> Quantised:
        self.tables()
        index = self.nearest(y, self._decoder_centres().to(y.device))[1].cpu()
        return self.context.quantised(
            index, self._inputs(), lambda: self._decoder_centres()[index].to(y.device), y.device
        )

    def _decoder_centres(self) -> Tensor:
        return (self.centres_int.cpu().double() * 2.0**-CENTRE_BITS).float()

    def _inputs(self) -> Tensor:
        return as_inputs(self.centres_int - self.centres_int[0], CENTRE_BITS)[:, None]

    def encode(self, coded: Coded) -> bytes:
        """See EntropyModel."""
        return self.context.encode(coded)

    @torch.no_grad()
    def decode(self, payload: bytes, size: tuple[int, int], level: int) -> Tensor:
        """See EntropyModel; the size is that of y."""
        self.tables()
        self.check_file(payload, self.depth * size[0] * size[1], level)
        return self._decoder_centres()[self.context.decode(payload, size, self._inputs())][None]

    # ---------------------------------------------------------------- frozen integers

    @torch.no_grad()
    def freeze(self) -> None:
        """See EntropyModel."""
        self.centres_int.copy_(quantise(self.centres, CENTRE_BITS, "The centres"))
        self.context.freeze()
        self.frozen.fill_(True)

    def thaw(self) -> None:
        """See EntropyModel."""
        self.require_saved_frozen()
        self.context.thaw()
        with torch.no_grad():
            self.centres.copy_(self._decoder_centres())

    def tables(self) -> None:
        """See EntropyModel: each symbol has its own."""
        self.require_frozen()

    def identity(self) -> bytes:
        """See EntropyModel."""
        integers = [self.centres_int, *self.context.integers()]
        return self._identity.get(integers, lambda: digest_of(b"causal;", integers))
