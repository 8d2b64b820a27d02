"""The integers on which every file depends, derived from the float weights of an entropy model and checked.

Both ends must have the same mean, scale and tables to the bit; `modules/integer.py` has the proof for h_s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modules.coder import ProbabilityTables
from modules.derived import Derived
from modules.entropy_model import GainedModel, checked_tables, digest_of
from modules.integer import ACTIVATION_BITS, ACTIVATION_LIMIT, IntegerSynthesis, quantise
from modules.likelihoods import (
    LIKELIHOOD_BOUND,
    SCALES,
    Y_LIMIT,
    Z_LIMIT,
    FactorizedPrior,
    LowerBound,
    y_table,
    z_table,
)
from utils.errors import CheckpointError


class FrozenIntegers(GainedModel):
    """The integers of an entropy model: tables of z and y, medians of z, inverse gains, and the layers of h_s.

    `freeze` derives them, a checkpoint stores them, `thaw` checks loaded ones. Exactness at both ends of h_s:
    - what goes in, 2^8 times a symbol of z plus a median, must be an activation: at most 2^20 - 1 (`check_exact`);
    - y_hat = (2^8 symbol + mean) x inverse gain / 2^28 has a numerator of at most
      (2^8 255 + 2^20 - 1) (2^31 - 1) < 2^52 and is rounded once, to float32.
    """

    h_s: IntegerSynthesis
    prior: FactorizedPrior
    z_frequencies: Tensor
    z_medians: Tensor
    y_frequencies: Tensor

    def __init__(self, latent: int, hyper: int, levels: int, gains: tuple[float, float]) -> None:
        super().__init__(latent, levels, gains)
        self.hyper = hyper
        self._likelihood_low = LowerBound(LIKELIHOOD_BOUND)
        self.register_buffer("z_frequencies", torch.zeros(hyper, 2 * Z_LIMIT + 1, dtype=torch.int32))
        self.register_buffer("z_medians", torch.zeros(hyper, dtype=torch.int32))
        self.register_buffer("y_frequencies", torch.zeros(SCALES, 2 * Y_LIMIT + 1, dtype=torch.int32))
        self._tables: Derived[tuple[ProbabilityTables, ProbabilityTables]] = Derived()
        self._identity: Derived[bytes] = Derived()

    @torch.no_grad()
    def freeze(self) -> None:
        """See EntropyModel."""
        self.h_s.freeze()
        self.z_medians.copy_(quantise(self.prior.medians(), ACTIVATION_BITS, "The medians of z"))
        self.freeze_gain()
        self.check_exact()
        self.z_frequencies.copy_(z_table(self.prior, self.z_medians))
        self.y_frequencies.copy_(y_table())
        self.frozen.fill_(True)
        self.tables()

    def thaw(self) -> None:
        """See EntropyModel; the float weights of h_s follow from its integers."""
        self.require_saved_frozen()
        self._likelihood_low.bound.fill_(LIKELIHOOD_BOUND)  # A constant of this module, whatever a file says.
        self.tables()
        self.h_s.thaw()

    def check_exact(self) -> None:
        """Raise CheckpointError for integers with which the coder's parameters could differ between machines."""
        self.h_s.check_exact()
        if int(self.z_medians.cpu().long().abs().max()) + Z_LIMIT * 2**ACTIVATION_BITS >= ACTIVATION_LIMIT:
            raise CheckpointError(
                "The medians of z are beyond the range of activations, so sums could lose exactness and files would "
                "not decode everywhere; lower the learning rate and train again."
            )
        self.check_gain()

    def tables(self) -> tuple[ProbabilityTables, ProbabilityTables]:
        """The coder's tables for z (one a channel) and y (one a scale).

        Everything that codes, saves or loads asks for them, so this is where the integers are checked, again whenever
        one of them has changed. Raises CheckpointError.
        """
        self.require_frozen()
        return self._tables.get(self._integers(), self._checked_tables)

    def _checked_tables(self) -> tuple[ProbabilityTables, ProbabilityTables]:
        self.check_exact()
        return checked_tables(self.z_frequencies), checked_tables(self.y_frequencies)

    def _integers(self) -> list[Tensor]:
        """All that decides how a file is read, besides the layers' shapes; in the order of `identity`."""
        layers = self.h_s.convolutions()
        tables = [self.z_frequencies, self.z_medians, self.y_frequencies, self.inverse_gain]
        return tables + [tensor for layer in layers for tensor in (layer.weight_int, layer.bias_int)]

    def identity(self) -> bytes:
        """See EntropyModel."""
        return self._identity.get(self._integers(), self._digest)

    def _digest(self) -> bytes:
        head = ""
        for spec in (layer.spec for layer in self.h_s.convolutions()):
            head += f"{spec.inputs},{spec.outputs},{spec.kernel},{spec.upsample},{spec.activation};"
        return digest_of(head.encode(), self._integers())
