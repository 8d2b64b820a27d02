"""LDMIC as a codec of this project, for one sent view: joint context transfer between the views at the decoder."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config, NdicModelConfig
from modules.integer import LayerSpec
from modules.published.checkerboard import Checkerboard, CheckerboardSynthesis
from modules.published.layers import GDN, deconv5, full_precision, gdn_analysis
from modules.published.ndic import GAINS
from modules.published.peer import Peer
from modules.published.transforms import PaperHyperAnalysis

HEADS = 2


def build(config: Config) -> LDMIC:
    """The codec of a configuration with model.codec `ldmic`."""
    return LDMIC(config)


class LDMIC(Peer):
    """LDMIC, one-sided: Zhang, Shao, Zhang, "LDMIC: Learning-based Distributed Multi-view Image Coding", ICLR 2023,
    arXiv 2301.09799, adapted to a side image that the receiver has uncompressed.

    ```
     sender    x ─ g_a ─► y ─ entropy: hyperprior, checkerboard context ─► file
     receiver  file ─► y_hat ──┬─ transfer ─► up ──┬─ transfer ─► up ─► x_hat
               x_side ─ g_a ───┴─ transfer ─► up ──┘
    ```
    One encoder for both views. `transfer` (joint context transfer) lets a view attend to the other with efficient
    attention, at 1/16 and at 1/4; its weights are the same for both views. Of x_side it is computed to the point where
    x needs it last. 20.3 M parameters, 192 wide; the context model is that of LDMIC-fast.

    Loss: bpp + lambda 255^2 MSE of x; the paper's default lambda 2048 (images in [0, 1]) is 0.0315 here.

    Departures. The paper codes both views and has the mean of their losses; here y_side is neither quantised nor sent,
    and the loss is that of x. Entropy parameters are computed in exact integers: nearest upsampling and a 5x5
    convolution stand for each transposed one, the slope of their LeakyReLU is 1/4, and scales are indices of tables.

    Traps avoided. Estimated bits are those of the file: context and symbols are the same in both. No state depends on
    the batch or the image's size. The best checkpoint is chosen on `val`, not on `test`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.model, NdicModelConfig)
        c = config.model.channels
        self.g_a = gdn_analysis(c)
        layers = [
            LayerSpec(c, c, kernel=5, upsample=2, activation="leaky_relu"),
            LayerSpec(c, 3 * c // 2, kernel=5, upsample=2, activation="leaky_relu"),
            LayerSpec(3 * c // 2, 2 * c, kernel=3, activation="none"),
        ]
        widths = (4 * c, 10 * c // 3, 8 * c // 3, 2 * c)
        head = [
            LayerSpec(a, b, kernel=1, activation="leaky_relu" if b != 2 * c else "none") for a, b in pairwise(widths)
        ]
        h_s = CheckerboardSynthesis(layers, head, c, self.levels)
        self.entropy = Checkerboard(c, c, PaperHyperAnalysis(c, (c, c, c)), h_s, self.levels, GAINS)
        self.transfers = nn.ModuleList(Transfer(c) for _ in range(2))
        self.up1 = nn.Sequential(deconv5(c, c), GDN(c, inverse=True), deconv5(c, c), GDN(c, inverse=True))
        self.up2 = nn.Sequential(deconv5(c, c), GDN(c, inverse=True), deconv5(c, 3))

    def reconstruct(self, y_hat: Tensor, x_side: Tensor) -> Tensor:
        """See Peer."""
        coarse, fine = self.transfers
        y_side = self.g_a(x_side).float()
        own, other = self.up1(coarse(y_hat, y_side)), self.up1(coarse(y_side, y_hat))
        return self.up2(fine(own, other))  # type: ignore[no-any-return]


class Transfer(nn.Module):
    """Joint context transfer: features of a view, and what attention finds for them in the other view."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.extract = nn.Sequential(ResidualBlock(channels, channels), ResidualBlock(channels, channels))
        self.attend = CrossAttention(channels)
        self.merge = nn.Sequential(ResidualBlock(2 * channels, channels), ResidualBlock(channels, channels))

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Both (B, channels, h, w) -> the same shape."""
        a, b = self.extract(own), self.extract(other)
        return own + self.merge(torch.cat([a, self.attend(a, b)], dim=1))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Efficient attention (Shen et al. 2021, arXiv 1812.01243): linear in the number of positions.

    out = softmax_channels(q) (softmax_positions(k)^T v), in each head; q from the own view, k and v from the other.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        keys, values = max(HEADS, channels // 8), max(HEADS, channels // 4)
        self.query, self.key = nn.Conv2d(channels, keys, 1), nn.Conv2d(channels, keys, 1)
        self.value, self.out = nn.Conv2d(channels, values, 1), nn.Conv2d(values, channels, 1)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Both (B, channels, h, w) -> the same shape."""
        parts = (self.query(own), self.key(other), self.value(other))
        q, k, v = (part.float().flatten(2).unflatten(1, (HEADS, -1)) for part in parts)
        with full_precision(own.device):
            summary = v @ k.softmax(-1).transpose(-1, -2)  # (B, heads, value, key)
            found = (summary @ q.softmax(-2)).flatten(1, 2).unflatten(-1, own.shape[2:])
        return self.out(found)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with LeakyReLU beside a shortcut, 1x1 where the width changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        h = F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x))))
        return h + self.shortcut(x)  # type: ignore[no-any-return]
