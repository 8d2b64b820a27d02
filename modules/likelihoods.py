"""Probabilities of quantised latents: the Gaussian's and the factorized prior's, and the coder's tables made from them.

The probability of a symbol q is the density's mass between q - 1/2 and q + 1/2: convolved with a unit box, the density
is at once the one of the latent with uniform noise and, at integers, the symbols' probabilities (Ballé, Laparra,
Simoncelli 2017, arXiv 1611.01704, section 3).
"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import torch
from torch import Tensor

from modules.coder import PRECISION, quantise_pmf
from modules.integer import ACTIVATION_BITS

with warnings.catch_warnings():  # CompressAI's import warns of what torch deprecates, on which no user can act.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from compressai.entropy_models import EntropyBottleneck
    from compressai.ops import LowerBound
    from compressai.ops.bound_ops import LowerBoundFunction

__all__ = ["LowerBound"]

SCALES = 64
"""Number of Gaussian tables: standard deviations from SCALE_MIN to SCALE_MAX in geometric steps."""
SCALE_MIN = 0.11
SCALE_MAX = 64.0
SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1)
Y_LIMIT = 255
"""Symbols of y lie in [-255, 255] around the mean; larger ones saturate (the encoder sees the same y_hat)."""
Z_LIMIT = 127
"""Symbols of z lie in [-127, 127] around the median of their channel."""
LIKELIHOOD_BOUND = 2.0**-PRECISION
"""No entry of the coder's tables is rarer, so no symbol costs more."""


def scale_of(index: Tensor) -> Tensor:
    """Index of a Gaussian table, 0 to SCALES - 1 and fractions between -> the standard deviation sigma."""
    # sigma_i = SCALE_MIN (SCALE_MAX / SCALE_MIN)^(i / (SCALES - 1))
    return SCALE_MIN * torch.exp(SCALE_STEP * index)


def gaussian_likelihood(residual: Tensor, scale: Tensor) -> Tensor:
    """P(round to residual) under N(0, scale^2): the Gaussian's mass on [residual - 1/2, residual + 1/2].

    Minnen, Ballé, Toderici 2018 (arXiv 1809.02736), section 3; residual = y - mean.
    """
    # Phi((1/2 - |r|) / sigma) - Phi((-1/2 - |r|) / sigma): by symmetry both arguments are in the lower tail, where
    # float32 keeps small differences.
    distance = residual.abs()
    upper = torch.special.ndtr((0.5 - distance) / scale)
    lower = torch.special.ndtr((-0.5 - distance) / scale)
    return upper - lower


def round_ste(x: Tensor) -> Tensor:
    """Rounding whose gradient is the identity (straight-through: Bengio et al. 2013, arXiv 1308.3432)."""
    return x + (torch.round(x) - x).detach()


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) whose gradient passes below the bound wherever a descent step would raise x.

    A clamp gives no gradient there, and a scale is below the bound at initialisation: it would never be learned.
    """
    return LowerBoundFunction.apply(x, torch.full((), bound, dtype=x.dtype, device=x.device))


_LISTS = {"matrix": "matrices", "bias": "biases", "factor": "factors"}


class FactorizedPrior(EntropyBottleneck):
    """CompressAI's EntropyBottleneck (Ballé et al. 2018, arXiv 1802.01436, appendix), for given values (B, C, H, W).

    CompressAI 1.2.6 names the parameters of layer i _matrix0, later releases matrices.0; a state dict has the latter.
    """

    def _names(self) -> dict[str, str]:
        """Own name -> name in a state dict, where they differ."""
        own = (re.fullmatch(r"_(matrix|bias|factor)(\d+)", name) for name in self._parameters)
        return {found[0]: f"{_LISTS[found[1]]}.{found[2]}" for found in own if found}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for own, name in self._names().items():
            destination[prefix + name] = destination.pop(prefix + own)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for own, name in self._names().items():
            if prefix + name in state_dict:
                state_dict[prefix + own] = state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def values_likelihood(self, values: Tensor) -> Tensor:
        """Mass of each channel's density on [v - 1/2, v + 1/2]."""
        batch, channels, height, width = values.shape
        flat = values.permute(1, 0, 2, 3).reshape(channels, 1, -1)
        likelihood, _, _ = self._likelihood(flat)
        return likelihood.view(channels, batch, height, width).permute(1, 0, 2, 3)

    def mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Mass of each channel's density between values (B, C, H, W)."""
        batch, channels, height, width = low.shape
        lower, upper = (
            self._logits_cumulative(v.permute(1, 0, 2, 3).reshape(channels, 1, -1), stop_gradient=False)
            for v in (low, high)
        )
        # Both arguments in the lower tail of the sigmoid, where float32 keeps small differences.
        sign = -torch.sign(lower + upper).detach()
        likelihood = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        return likelihood.view(channels, batch, height, width).permute(1, 0, 2, 3)

    def medians(self) -> Tensor:
        """(C,)."""
        return self.quantiles[:, 0, 1]


def z_table(prior: FactorizedPrior, medians: Tensor) -> Tensor:
    """The coder's frequencies (C, 2 Z_LIMIT + 1) int32 of z, for integer medians (C,) with 8 fractional bits."""
    centres = medians.float() * 2.0**-ACTIVATION_BITS
    steps = torch.arange(-Z_LIMIT, Z_LIMIT + 1, device=medians.device).float()
    values = centres[None, :, None, None] + steps[None, None, None, :]
    pmf = prior.values_likelihood(values)[0, :, 0].cpu().double().numpy()
    return torch.from_numpy(quantise_pmf(pmf))


def y_table() -> Tensor:
    """The coder's frequencies (SCALES, 2 Y_LIMIT + 1) int32 of y, one row a standard deviation."""
    scales = scale_of(torch.arange(SCALES, dtype=torch.float64))
    symbols = torch.arange(-Y_LIMIT, Y_LIMIT + 1, dtype=torch.float64)
    return torch.from_numpy(quantise_pmf(gaussian_likelihood(symbols, scales[:, None]).numpy()))
