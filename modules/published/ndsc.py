"""NDSC as a codec of this project: a vector-quantised code whose decoder sees features of x_side."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from config import Config, NdscModelConfig
from modules.codec import CodecOutput
from modules.noise import Draws
from modules.published.codebook import Codebook
from modules.published.index_prior import PredictedCodebook
from modules.published.layers import upsample
from modules.published.peer import Peer

COMMITMENT = 0.25
"""Weight of the squared distance of y from its vectors, beside the squared error of the image."""


def build(config: Config) -> NDSC:
    """The codec of a configuration with model.codec `ndsc`."""
    return NDSC(config)


class NDSC(Peer):
    """NDSC: Whang, Nagle, Acharya, Kim, Dimakis, "Neural Distributed Source Coding", arXiv 2106.02797, JSAIT 2024.

    ```
     sender    x ─ g_a ─► y ─ entropy: index of the nearest of 2^bits vectors ─► file
     receiver  file ─► y_hat ─ embed ─┐
               x_side ─ e_side ───────┴─ + ─► g_s ─► x_hat
    ```
    A conditional VQ-VAE. Three 4x4 convolutions of stride 2 widen `hidden` to 2, 4 and 8 times as many channels;
    residual layers follow; GELU. One index of `bits` bits for each 8x8 pixels, so that the rate is bits / 64 bpp,
    chosen by the size of the codebook. 2.6 M parameters.

    Loss: lambda 255^2 (MSE + 0.25 |y - y_hat|^2); the rate is constant, so lambda only scales it. The codebook learns
    by moving averages (`modules/published/codebook.py`). With model.prior (preset `ndsc_prior`) indices are predicted
    from earlier ones, which lowers the rate (`modules/published/index_prior.py`): compare it with the curve
    "+ prior", and without it with the other one.

    Departures. This is the published "8x" model; where our source leaves the layout open (widths inside residual
    layers, how y_hat meets the features of x_side) it is ours, with the published number of parameters. Causal
    convolutions stand for the prior's transformer. Unused vectors of the codebook are replaced.

    Traps avoided. The flip of training takes both views at once; published, it is drawn for each view by itself, so
    that half of the pairs do not match.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        model = config.model
        assert isinstance(model, NdscModelConfig)
        self.stride = 2**model.halvings
        wide = model.hidden * self.stride
        self.g_a = nn.Sequential(
            down(model.hidden, model.halvings),
            residual_layers(wide, model.hidden, model.residual_layers),
            nn.Conv2d(wide, model.code, 1),
        )
        if model.prior:
            self.name = "ndsc_prior"
        self.entropy = (PredictedCodebook if model.prior else Codebook)(model.code, model.bits)
        self.e_side = down(model.hidden, model.halvings)
        self.embed = nn.Conv2d(model.code, wide, 1)
        self.g_s = nn.Sequential(
            residual_layers(wide, model.hidden, model.residual_layers), up(model.hidden, model.halvings)
        )

    def reconstruct(self, y_hat: Tensor, x_side: Tensor) -> Tensor:
        """See Peer."""
        return self.g_s(self.embed(y_hat) + self.e_side(x_side))  # type: ignore[no-any-return]

    def train_on(self, output: CodecOutput, y: Tensor, x: Tensor, x_side: Tensor, draws: Draws) -> None:
        """And the commitment of y to its vectors."""
        super().train_on(output, y, x, x_side, draws)
        assert self.lmbda is not None
        output.aux = COMMITMENT * self.lmbda * 255**2 * F.mse_loss(y.float(), output.y_hat.detach())


class Residual(nn.Module):
    """x + 1x1(GELU(3x3(GELU(x)))), narrower inside."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, inside, 3, padding=1), nn.Conv2d(inside, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        return x + self.conv2(F.gelu(self.conv1(F.gelu(x))))


def residual_layers(channels: int, inside: int, count: int) -> nn.Sequential:
    """`count` residual layers, then GELU."""
    return nn.Sequential(*(Residual(channels, inside) for _ in range(count)), nn.GELU())


def down(hidden: int, halvings: int) -> nn.Sequential:
    """Image (B, 3, H, W) -> features (B, hidden 2^n, H / 2^n, W / 2^n)."""
    layers: list[nn.Module] = [nn.Conv2d(3, hidden, 3, padding=1)]
    for n in range(halvings):
        layers += [nn.GELU(), nn.Conv2d(hidden * 2**n, hidden * 2 ** (n + 1), 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def up(hidden: int, halvings: int) -> nn.Sequential:
    """Features (B, hidden 2^n, h, w) -> image (B, 3, 2^n h, 2^n w)."""
    layers: list[nn.Module] = []
    for n in reversed(range(halvings)):
        layers += [upsample(hidden * 2 ** (n + 1), hidden * 2**n), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(hidden, 3, 3, padding=1))
