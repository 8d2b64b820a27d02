"""DICM's codecs of signals that the receiver computes for itself: nothing of them is sent, so nothing is priced."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from modules.likelihoods import LIKELIHOOD_BOUND, FactorizedPrior, gaussian_likelihood, lower_bound, round_ste
from modules.noise import Draws
from modules.published.layers import full_precision
from modules.published.transforms import PaperAnalysis, PaperHyperAnalysis, PaperHyperSynthesis, PaperSynthesis

SCALE_BOUND = 0.1
"""Published lower bound of a Gaussian's standard deviation."""


class ReceiverHyperprior(nn.Module):
    """Mean-scale hyperprior that quantises y as a sent latent would be, in floats and without files.

    The mean is the offset of the quantisation, so it has to be learned, but the bits buy nothing: they are computed of
    detached latents, and a loss on them moves this module alone, never the transforms around it.
    """

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.h_a = PaperHyperAnalysis(latent_channels, (latent_channels,) * 3)
        self.h_s = PaperHyperSynthesis(latent_channels, (latent_channels,) * 3)
        self.prior = FactorizedPrior(latent_channels)

    def forward(self, y: Tensor, draws: Draws | None, name: str) -> tuple[Tensor, Tensor | None]:
        """y (B, M, h, w) -> y_hat, straight-through in its gradient, and in training (with draws) its bits (B,)."""
        with full_precision(y.device):
            # y_hat = round(y - mean) + mean, straight-through; mean and scale from z of the detached latent.
            y = y.float()
            fixed = y.detach()
            z = self.h_a(fixed)
            medians = self.prior.medians().detach()[:, None, None]
            mean, scale = self.h_s(round_ste(z - medians) + medians).chunk(2, dim=1)
            y_hat = round_ste(y - mean.detach()) + mean.detach()
            if draws is None:
                return y_hat, None
            # Bits with uniform noise in place of rounding, likelihoods and scales bounded below.
            z_noisy = z + draws.uniform(f"{name}_z", tuple(z.shape[1:])) - 0.5
            residual = fixed + draws.uniform(f"{name}_y", tuple(y.shape[1:])) - 0.5 - mean
            likelihoods = (
                self.prior.values_likelihood(z_noisy),
                gaussian_likelihood(residual, lower_bound(scale, SCALE_BOUND)),
            )
            bits = [-lower_bound(p, LIKELIHOOD_BOUND).log2().sum((1, 2, 3)) for p in likelihoods]
            return y_hat, bits[0] + bits[1]


@dataclass
class ReceiverOutput:
    """Contexts from fine to coarse; in training also `bpp`, a scalar: what the latent would cost if it were sent."""

    contexts: list[Tensor]
    bpp: Tensor | None


class ReceiverCodec(nn.Module):
    """One of DICM's two codecs of the side image; 13.7 M parameters at the published sizes, as the codec of x.

    x_side ─ g_a ─► y ─ quantise ─► y_hat ─ g_s ─► contexts
    """

    def __init__(self, dim: int, finest_context: int) -> None:
        super().__init__()
        self.g_a = PaperAnalysis(dim)
        self.hyperprior = ReceiverHyperprior(self.g_a.latent_channels)
        self.g_s = PaperSynthesis(dim, out_channels=finest_context)

    def forward(self, image: Tensor, draws: Draws | None, name: str) -> ReceiverOutput:
        """image (B, 3, H, W) in [-1, 1]; `name` tells the draws of one codec from another's."""
        y_hat, bits = self.hyperprior(self.g_a(image), draws, name)
        bpp = None if bits is None else bits.mean() / image[0, 0].numel()
        return ReceiverOutput(self.g_s(y_hat), bpp)
