"""What a codec asks of its entropy model, whichever that is, and the gain units that several of them share.

`Hyperprior` (modules/entropy.py), `Factorized` (modules/factorized.py) and the models of published codecs implement it.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from modules.coder import END_BYTES, MAX_SYMBOL_BYTES, ProbabilityTables
from modules.integer import KNOT_SPACING
from modules.noise import Draws
from utils.errors import BitstreamError, CheckpointError

GAIN_BITS = 20
"""Fractional bits of an inverse gain."""


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
        z_symbols: Tensor | None,
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


def digest_of(head: bytes, tensors: Sequence[Tensor]) -> bytes:
    """SHA-256 over `head`, and over the shapes and values of integer tensors."""
    digest = hashlib.sha256(head)
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().numpy().astype("<i4").tobytes())
    return digest.digest()


def checked_tables(frequencies: Tensor) -> ProbabilityTables:
    """The coder's tables (tables, K); CheckpointError for frequencies that are none."""
    try:
        return ProbabilityTables(frequencies.cpu().numpy())
    except ValueError as error:
        raise CheckpointError(
            f"The checkpoint's probability tables are damaged ({error}); fetch or train it again."
        ) from error


class EntropyModel(nn.Module, ABC):
    """Quantises a latent, prices it, and writes and reads its bytes.

    Training computes in floats. Files depend on integers alone, which `freeze` derives from the floats, a checkpoint
    stores and `thaw` checks: both ends have them to the bit.
    """

    levels: int = 1
    """Number of rate levels; 1: fixed rate."""
    frozen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))

    @abstractmethod
    def forward(self, y: Tensor, level: Tensor, draws: Draws | None = None) -> Coded:
        """y (B, M, h, w), level (B,). With draws: training, differentiable. Without: exactly what a file carries."""

    @abstractmethod
    def encode(self, coded: Coded) -> bytes:
        """The payload of one quantised latent (batch of one) that `forward` gave without draws."""

    @abstractmethod
    def decode(self, payload: bytes, size: tuple[int, int], level: int) -> Tensor:
        """Payload -> y_hat (1, M, h, w) on the CPU, the same on every machine; `size`: that of the coarsest latent.

        Raises BitstreamError for a level beyond the model's, and for bytes that are no code or too many.
        """

    @abstractmethod
    def identity(self) -> bytes:
        """SHA-256 over everything that decides how a file is read: two models with equal identity read equal y_hat."""

    @abstractmethod
    def freeze(self) -> None:
        """Derive every integer the coder depends on from the float weights; call after training and before coding.

        Raises CheckpointError for weights whose integers do not fit or could make sums inexact.
        """

    @abstractmethod
    def thaw(self) -> None:
        """Check loaded integers and set the float weights that they stand for. Raises CheckpointError."""

    @abstractmethod
    def tables(self) -> object:
        """The coder's tables, if any; RuntimeError before `freeze`, CheckpointError for damaged integers."""

    def loss(self) -> Tensor:
        """What the model's own parts learn from beside the rate, a scalar; nothing else learns from it."""
        return torch.zeros((), device=self.frozen.device)

    def networks(self) -> list[nn.Module]:
        """The networks inside that may be compiled."""
        return []

    def require_frozen(self) -> None:
        """Raise RuntimeError before `freeze`."""
        if not bool(self.frozen):
            raise RuntimeError(
                "Call freeze() before coding: the integer tables have not been derived from the weights."
            )

    def require_saved_frozen(self) -> None:
        """Raise CheckpointError for a checkpoint that was written before `freeze`."""
        if not bool(self.frozen):
            raise CheckpointError(
                "The checkpoint's entropy model was never frozen, so it has no tables; save it again."
            )

    def check_file(self, payload: bytes, symbols: int, level: int) -> None:
        """Raise BitstreamError for a level beyond the model's, and for more bytes than so many symbols can have."""
        if not 0 <= level < self.levels:
            raise BitstreamError(
                f"The file has rate level {level}, but this model has levels 0 to {self.levels - 1}; it is damaged."
            )
        most = MAX_SYMBOL_BYTES * symbols + END_BYTES
        if len(payload) > most:
            raise BitstreamError(
                f"The payload has {len(payload)} bytes, but one of this size and model has at most {most}; the file is "
                "damaged: copy or encode it again."
            )


class GainedModel(EntropyModel):
    """An entropy model whose `levels` rate levels share one set of weights through gain units; 1 level: no gain.

    Cui et al., "Asymmetric Gained Deep Image Compression With Continuous Rate Adaptation", CVPR 2021.
    """

    inverse_gain: Tensor

    def __init__(self, latent: int, levels: int, gains: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        self.latent, self.levels = latent, levels
        if levels > 1:
            line = torch.linspace(math.log(gains[0]), math.log(gains[1]), self.knots)
            self.log_gain = nn.Parameter(line[:, None].repeat(1, latent))
        self.register_buffer("inverse_gain", torch.zeros(levels, latent, dtype=torch.int32))

    @property
    def knots(self) -> int:
        """Number of rate levels whose gains are learned."""
        return (self.levels + KNOT_SPACING - 1) // KNOT_SPACING + 1 if self.levels > 1 else 1

    def gain(self, level: Tensor) -> Tensor:
        """(B,) integer rate levels -> (B, M, 1, 1) float gains."""
        if self.levels == 1:
            return torch.ones(len(level), self.latent, 1, 1, device=level.device)
        left = torch.div(level, KNOT_SPACING, rounding_mode="floor")
        fraction = ((level - left * KNOT_SPACING).float() / KNOT_SPACING)[:, None]
        # gain = gain_left^(1 - f) gain_right^f between two learned knots (Cui et al. 2021, exponential interpolation).
        return (self.log_gain[left] * (1 - fraction) + self.log_gain[left + 1] * fraction).exp()[:, :, None, None]

    def frozen_gain(self, level: Tensor) -> Tensor:
        """(B,) integer rate levels -> (B, M, 1, 1) gains as a decoder has them, float64 on the CPU."""
        return 2.0**GAIN_BITS / self.inverse_gain.cpu()[level.cpu()].double()[:, :, None, None]

    def freeze_gain(self) -> None:
        """Derive the inverse gains of all levels."""
        gain = self.gain(torch.arange(self.levels, device=self.inverse_gain.device))[:, :, 0, 0].cpu().double()
        self.inverse_gain.copy_(torch.floor(2**GAIN_BITS / gain + 0.5).clamp(1, 2**31 - 1).to(torch.int32))

    def check_gain(self) -> None:
        """Raise CheckpointError for inverse gains that no model has."""
        if bool((self.inverse_gain < 1).any()):
            raise CheckpointError(
                "The checkpoint's gain table has entries below 1; it is damaged: fetch or train it again."
            )
