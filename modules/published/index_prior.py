"""A codebook whose indices are predicted from those before them, so that they cost fewer bits than their number."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.entropy_model import Coded, Quantised, digest_of
from modules.published.causal_network import CausalNetwork, as_inputs
from modules.published.codebook import VECTOR_BITS, Codebook

WIDTH = 64
"""Channels of the context model."""


class PredictedCodebook(Codebook):
    """`Codebook` with an autoregressive prior of the indices: p(index | vectors above and to the left).

    NDSC's "+ prior" curves are of a transformer of four blocks, 128 wide, over all earlier indices (arXiv 2106.02797),
    and of its cross-entropy. Attention has softmaxes and norms in floats, which no two machines compute alike, so here
    four causal 3x3 convolutions in exact integers predict (`CausalNetwork`): a smaller context, but real bytes. The
    prior is trained beside the codec instead of after it; it sees constants, so the codec learns nothing from it.
    """

    def __init__(self, channels: int, bits: int) -> None:
        super().__init__(channels, bits)
        self.prior = CausalNetwork(channels, WIDTH, 2**bits)

    def _bits(self, index: Tensor, y_hat: Tensor) -> Tensor:
        return self.prior.bits(y_hat.detach()[:, None], index[:, None]).sum((1, 2, 3))

    def _quantise(self, index: Tensor, vectors: Tensor) -> Quantised:
        y_hat = self._lookup(index, vectors)
        return self.prior.quantised(index.cpu()[:, None], self._inputs(), lambda: y_hat, y_hat.device)

    def _inputs(self) -> Tensor:
        return as_inputs(self.vectors_int, VECTOR_BITS)

    def encode(self, coded: Coded) -> bytes:
        """See EntropyModel."""
        return self.prior.encode(coded)

    @torch.no_grad()
    def decode(self, payload: bytes, size: tuple[int, int], level: int) -> Tensor:
        """See EntropyModel; the size is that of y."""
        self.tables()
        self.check_file(payload, size[0] * size[1], level)
        return self._lookup(self.prior.decode(payload, size, self._inputs()), self._decoder_vectors())

    def freeze(self) -> None:
        """See EntropyModel."""
        self.prior.freeze()
        super().freeze()

    def thaw(self) -> None:
        """See EntropyModel."""
        super().thaw()
        self.prior.thaw()

    def identity(self) -> bytes:
        """See EntropyModel."""
        integers = [self.vectors_int, *self.prior.integers()]
        return self._identity.get(integers, lambda: digest_of(b"predicted codebook;", integers))
