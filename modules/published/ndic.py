"""NDIC as a codec of this project: what both views have in common is extracted from x_side at the receiver."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config import Config, NdicModelConfig
from modules.codec import CodecOutput
from modules.entropy import Hyperprior
from modules.entropy_model import EntropyModel
from modules.factorized import Factorized
from modules.integer import IntegerSynthesis, LayerSpec
from modules.likelihoods import (
    LIKELIHOOD_BOUND,
    SCALE_MIN,
    FactorizedPrior,
    gaussian_likelihood,
    lower_bound,
    round_ste,
)
from modules.noise import Draws
from modules.published.layers import conv5, deconv5, full_precision, gdn_analysis, gdn_synthesis
from modules.published.peer import Peer, reconstruction
from modules.transforms import HYPER_STRIDE, STRIDE

W_NOISE_STD = 0.001**0.5
"""Standard deviation of the Gaussian noise on w in training; none when decoding."""
GAINS = (0.5, 3.0)
"""Gains at the lowest and the highest rate before training, of variable-rate models."""


def build(config: Config) -> NDIC:
    """The codec of a configuration with model.codec `ndic_bls17` or `ndic_bmshj18`."""
    return NDIC(config)


class NDIC(Peer):
    """NDIC: Mital, Özyılkan, Garjani, Gündüz, "Neural Distributed Image Compression Using Common Information",
    DCC 2022, arXiv 2106.11723.

    ```
     sender    x ──────── g_a ─► y ─ entropy ─► file
     receiver  file ─────────────────────────► y_hat ─┐
               x_side ─ e_side ─► w ─ + N(0, 0.001) ──┴─ cat ─► g_s ─► x_hat
     training  x_side ─ side_task.g_a ─► y_side ── cat(y_side, w) ─► side_task.g_s ─► x_side_hat
    ```
    w is the common information. In training it also has to help reconstruct x_side, whose own latent y_side is not
    quantised. Transforms are Ballé's, 192 wide: four 5x5 layers with GDN. Entropy of y: `ndic_bls17` a factorized prior
    (16.3 M parameters), `ndic_bmshj18` a hyperprior with zero mean (25.0 M). File and decoding need g_a, the entropy
    model, e_side and g_s alone.

    Loss: bpp of y + lambda 255^2 (MSE of x + MSE of x_side) + bpp of y_side and of w, which are never sent and act as
    regularisation: they are in the aux loss, and reach e_side and side_task alone.

    Departures. The decoder is trained on y rounded straight-through; published, on y with uniform noise. Files are
    real; h_s is exact in integers: nearest upsampling and a 5x5 convolution stand for each transposed one, and its
    outputs are indices of scale tables. The prior has one more filter (61 parameters a channel for 43). Adam is not
    amsgrad. The flip of training swaps the views, which keeps the disparity's sign.

    Traps avoided. The first releases used one transposed convolution twice. A ReLU of |y|, which does nothing, is left
    out; that no activation follows the first convolution of the hyper-analysis is as released. Images are rounded, not
    truncated; PSNR is the mean over images.
    """

    stride = STRIDE

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.model, NdicModelConfig)
        channels = config.model.channels
        self.g_a, self.e_side = gdn_analysis(channels), gdn_analysis(channels)
        self.g_s = gdn_synthesis(2 * channels, channels)
        self.entropy: EntropyModel
        hyper = config.model.codec == "ndic_bmshj18"
        if hyper:
            self.stride = HYPER_STRIDE
            h_s = IntegerSynthesis(
                [
                    LayerSpec(channels, channels, kernel=5, upsample=2),
                    LayerSpec(channels, channels, kernel=5, upsample=2),
                    LayerSpec(channels, channels, kernel=3, activation="none"),
                ],
                self.levels,
            )
            self.entropy = Hyperprior(channels, channels, hyper_analysis(channels), h_s, self.levels, GAINS)
        else:
            self.entropy = Factorized(channels, self.levels, GAINS)
        self.side_task = SideTask(channels, hyper)

    def reconstruct(self, y_hat: Tensor, x_side: Tensor) -> Tensor:
        """See Peer."""
        return self.decode_with(y_hat, self.e_side(x_side))

    def decode_with(self, y_hat: Tensor, w: Tensor) -> Tensor:
        """y_hat and w (B, channels, h, w) -> x_hat."""
        return self.g_s(torch.cat([y_hat, w.float()], dim=1))  # type: ignore[no-any-return]

    def train_on(self, output: CodecOutput, y: Tensor, x: Tensor, x_side: Tensor, draws: Draws) -> None:
        """Both views, from the same noisy w."""
        w = self.e_side(x_side)
        w = w + W_NOISE_STD * draws.normal("w", tuple(w.shape[1:]))
        x_side_hat, bits = self.side_task(x_side, w, draws)
        output.tasks = [
            reconstruction(x, self.decode_with(output.y_hat, w)),
            reconstruction(x_side, x_side_hat),
        ]
        output.aux = self.entropy.loss() + self.side_task.loss() + bits.mean() / x[0, 0].numel()


class SideTask(nn.Module):
    """The auto-encoder of x_side and the priors of y_side and w, which training alone has."""

    def __init__(self, channels: int, hyper: bool) -> None:
        super().__init__()
        self.g_a, self.g_s = gdn_analysis(channels), gdn_synthesis(2 * channels, channels)
        self.w_prior, self.prior = FactorizedPrior(channels), FactorizedPrior(channels)
        self.h_a = hyper_analysis(channels) if hyper else None
        self.h_s = (
            nn.Sequential(
                deconv5(channels, channels),
                nn.ReLU(),
                deconv5(channels, channels),
                nn.ReLU(),
                nn.ConvTranspose2d(channels, channels, 3, padding=1),
            )
            if hyper
            else None
        )

    def forward(self, x_side: Tensor, w: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """x_side (B, 3, H, W), w -> x_side_hat, and the bits (B,) that y_side and w would cost if they were sent."""
        y_side = self.g_a(x_side)
        with full_precision(x_side.device):
            latent = y_side.float()
            likelihoods = [self.w_prior.values_likelihood(w.float())]
            if self.h_a is None or self.h_s is None:
                likelihoods += [self.prior.values_likelihood(latent)]
            else:
                z = self.h_a(latent)
                medians = self.prior.medians().detach()[:, None, None]
                scale = lower_bound(self.h_s(round_ste(z - medians) + medians), SCALE_MIN)
                noise = draws.uniform("z_side", tuple(z.shape[1:])) - 0.5
                likelihoods += [self.prior.values_likelihood(z + noise), gaussian_likelihood(latent, scale)]
            bits = [-lower_bound(p, LIKELIHOOD_BOUND).log2().sum((1, 2, 3)) for p in likelihoods]
        return self.g_s(torch.cat([y_side, w], dim=1)), sum(bits[1:], bits[0])

    def loss(self) -> Tensor:
        """The quantiles' loss."""
        return self.prior.loss() + self.w_prior.loss()  # type: ignore[no-any-return]


def hyper_analysis(channels: int) -> nn.Sequential:
    """h_a of bmshj18: a 3x3 convolution, then two 5x5 of stride 2 with ReLU between: y (B, C, h, w) -> z, a quarter."""
    return nn.Sequential(
        Magnitude(),
        nn.Conv2d(channels, channels, 3, padding=1),
        conv5(channels, channels),
        nn.ReLU(),
        conv5(channels, channels, bias=False),
    )


class Magnitude(nn.Module):
    """|y|: a zero-mean scale hyperprior need not tell signs."""

    def forward(self, y: Tensor) -> Tensor:
        """Any shape."""
        return y.abs()
