"""Vector quantisation as an entropy model: each position of y becomes the index of a vector, written as plain bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modules.derived import Derived
from modules.entropy_model import Coded, EntropyModel, Quantised, digest_of
from modules.integer import quantise
from modules.noise import Draws
from utils.errors import BitstreamError

DECAY = 0.99
"""Of the moving averages from which the codebook is learned."""
UNUSED = 0.01
"""A vector that fewer positions of a batch choose, on average, is replaced by a position of the batch."""
VECTOR_BITS = 16
"""Fractional bits of the codebook's values in files' terms."""


class Codebook(EntropyModel):
    """y (B, C, h, w) -> the nearest of 2^bits vectors at each position: van den Oord et al. 2017, arXiv 1711.00937.

    The vectors are moving averages of the positions that choose them (its appendix A.1); gradients pass straight to y.
    A file has `bits` bits for each position, row by row, the high bit first, and zeros up to a whole byte. In several
    processes the first one's batch decides. Departure: vectors begin at, and unused ones move to, positions of the
    batch; otherwise most of a large codebook is never used.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    vectors_int: Tensor

    def __init__(self, channels: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        size = 2**bits
        self.register_buffer("vectors", torch.randn(size, channels))
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, channels))
        self.register_buffer("vectors_int", torch.zeros(size, channels, dtype=torch.int32))
        self._identity: Derived[bytes] = Derived()

    def forward(self, y: Tensor, level: Tensor, draws: Draws | None = None) -> Coded:
        """See EntropyModel. In training the vectors move, unless the sender rests."""
        with torch.autocast(y.device.type, enabled=False):
            y = y.float()
            if draws is None:
                self.tables()
                vectors = self._decoder_vectors().to(y.device)
                return self._quantise(self._nearest(y, vectors), vectors)
            if y.requires_grad and self.training:
                self._learn(y.detach(), draws)
            index = self._nearest(y, self.vectors)
            nearest = self._lookup(index, self.vectors)
            return Coded(y + (nearest - y).detach(), self._bits(index, nearest))

    def _nearest(self, y: Tensor, vectors: Tensor) -> Tensor:
        """Indices (B, h, w) of the vectors with the least squared distance."""
        # |y - v|^2 = |y|^2 - 2 y v + |v|^2, whose first term is the same for all v.
        distance = vectors.square().sum(1)[:, None, None] - 2 * torch.einsum("bchw,kc->bkhw", y, vectors)
        return distance.argmin(1)

    def _lookup(self, index: Tensor, vectors: Tensor) -> Tensor:
        return vectors[index].permute(0, 3, 1, 2).contiguous()

    def _quantise(self, index: Tensor, vectors: Tensor) -> Quantised:
        y_hat = self._lookup(index, vectors)
        return Quantised(lambda: y_hat, lambda: self._bits(index, y_hat), None, index, index)

    def _bits(self, index: Tensor, y_hat: Tensor) -> Tensor:
        return torch.full((len(index),), float(self.bits * index[0].numel()), device=index.device)

    @torch.no_grad()
    def _learn(self, y: Tensor, draws: Draws) -> None:
        size = len(self.vectors)
        positions = y.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h w, C)
        # How many positions choose each vector, and their sum: moving averages, of which the vectors are the quotients.
        index = self._nearest(y, self.vectors).flatten(1)
        chosen = torch.nn.functional.one_hot(index.flatten(), size).float()
        self.counts.lerp_(chosen.sum(0), 1 - DECAY)
        self.sums.lerp_(chosen.T @ positions.flatten(0, 1), 1 - DECAY)
        # Vector k, if unused, becomes a random position of sample k mod B.
        where = (draws.uniform("codebook", (size,)) * positions.shape[1]).long()
        number = torch.arange(size, device=y.device)
        sample = number % len(y)
        unused = self.counts < UNUSED
        self.sums[unused] = positions[sample, where[sample, number]][unused]
        self.counts[unused] = 1
        self.vectors.copy_(self.sums / self.counts[:, None])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in (self.counts, self.sums, self.vectors):
                torch.distributed.broadcast(buffer, 0)

    # ---------------------------------------------------------------- files

    def encode(self, coded: Coded) -> bytes:
        """See EntropyModel."""
        assert coded.y_symbols is not None
        if len(coded.y_symbols) != 1:
            raise ValueError("encode takes one image at a time.")
        index = coded.y_symbols.cpu().numpy().reshape(-1, 1)
        return np.packbits(((index >> np.arange(self.bits)[::-1]) & 1).astype(np.uint8)).tobytes()

    @torch.no_grad()
    def decode(self, payload: bytes, size: tuple[int, int], level: int) -> Tensor:
        """See EntropyModel; the size is that of y."""
        self.tables()
        self.check_file(payload, 2**62, level)
        used = self.bits * size[0] * size[1]
        bits = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
        if len(payload) != -(-used // 8) or bits[used:].any():
            raise BitstreamError(
                f"The payload has {len(payload)} bytes, but one of this size has {-(-used // 8)}, with zeros at its "
                "end; the file is damaged: copy or encode it again."
            )
        index = bits[:used].reshape(-1, self.bits) @ (1 << np.arange(self.bits)[::-1])
        return self._lookup(torch.from_numpy(index).view(1, *size), self._decoder_vectors())

    def _decoder_vectors(self) -> Tensor:
        return (self.vectors_int.cpu().double() * 2.0**-VECTOR_BITS).float()

    def freeze(self) -> None:
        """See EntropyModel."""
        self.vectors_int.copy_(quantise(self.vectors, VECTOR_BITS, "The vectors of the codebook"))
        self.frozen.fill_(True)

    def thaw(self) -> None:
        """See EntropyModel."""
        self.require_saved_frozen()
        self.vectors.copy_(self._decoder_vectors())

    def tables(self) -> None:
        """See EntropyModel: there are none."""
        self.require_frozen()

    def identity(self) -> bytes:
        """See EntropyModel."""
        return self._identity.get([self.vectors_int], lambda: digest_of(b"codebook;", [self.vectors_int]))
