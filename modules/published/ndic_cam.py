"""NDIC-CAM as a codec of this project: cross-attention aligns features of x_side with those of the decoded latent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import CamModelConfig, Config
from modules.codec import CodecOutput
from modules.factorized import Factorized
from modules.noise import Draws
from modules.published.layers import GDN, deconv5, gdn_analysis
from modules.published.ndic import GAINS, W_NOISE_STD
from modules.published.peer import Peer, reconstruction
from modules.transforms import STRIDE

GRID = 4
"""Cells of a feature map along either axis."""
DROPOUT = 0.1


def build(config: Config) -> NDICCAM:
    """The codec of a configuration with model.codec `ndic_cam`."""
    return NDICCAM(config)


class NDICCAM(Peer):
    """NDIC-CAM: Mital, Özyılkan, Garjani, Gündüz, "Neural Distributed Image Compression with Cross-Attention Feature
    Alignment", WACV 2023, arXiv 2207.08489.

    ```
     sender    x ─ g_a ─► y ─ entropy: factorized prior ─► file
     receiver  file ─► y_hat ───┬─ up ─ cat ─┬─ up ─ cat ─┬─ up ─ cat ─┬─ up ─► x_hat
               x_side ─ e_side ─► w          CAM          CAM          CAM
               x_side ─ side_a ─┴─ up ───────┴─ up ───────┴─ up ───────┘
    ```
    NDIC with a factorized prior (`modules/published/ndic.py`), whose decoder of x gets, after each of its first three
    layers, the features of the side image's decoder, aligned by a cross-attention module. side_a and its decoder have
    to run at the receiver. A token is one channel in one of 4x4 cells of the map: 16 x 192 tokens of 32, 128 and 512
    values. No token knows its place.

    Loss: bpp + lambda D of x alone; published for MS-SSIM with a window of 7 (`--loss.distortion-weight 0
    --loss.ms-ssim-weight 65025` at published lambdas), as which the window at 128x256 is here too.

    Departures. 25.0 M parameters for published 29.7 M: half of both projections to query, key and value, the last layer
    of the side image's decoder and the priors of latents that are never sent have no effect and no gradient in the
    released model, and are left out. Otherwise those of NDIC.

    Traps avoided. The weights depend on the image's size; other sizes are refused by a sentence, not by a shape error.
    """

    stride = STRIDE

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        model = config.model
        assert isinstance(model, CamModelConfig)
        c = model.channels
        self.only_size = (model.height, model.width)
        self.g_a, self.e_side, self.side_a = gdn_analysis(c), gdn_analysis(c), gdn_analysis(c)
        self.entropy = Factorized(c, self.levels, GAINS)
        self.up = nn.ModuleList(nn.Sequential(deconv5(2 * c, c), GDN(c, inverse=True)) for _ in range(3))
        self.side_up = nn.ModuleList(nn.Sequential(deconv5(width, c), GDN(c, inverse=True)) for width in (2 * c, c, c))
        values = [model.height * model.width // (GRID * 2**n) ** 2 for n in (3, 2, 1)]
        self.cam = nn.ModuleList(CrossAttention(count, model.attention, model.heads) for count in values)
        self.last = deconv5(2 * c, 3)

    def reconstruct(self, y_hat: Tensor, x_side: Tensor) -> Tensor:
        """See Peer."""
        return self.decode_with(y_hat, x_side, None)

    def decode_with(self, y_hat: Tensor, x_side: Tensor, draws: Draws | None) -> Tensor:
        """x_hat; in training, with draws, w is noisy and the attention has dropout."""
        w = self.e_side(x_side)
        if draws is not None:
            w = w + W_NOISE_STD * draws.normal("w", tuple(w.shape[1:]))
        own, other = torch.cat([y_hat, w], dim=1), torch.cat([self.side_a(x_side), w], dim=1)
        for number, (up, side_up, cam) in enumerate(zip(self.up, self.side_up, self.cam, strict=True)):
            own, other = up(own), side_up(other)
            own = torch.cat([cam(own, other, draws, f"dropout_{number}"), own], dim=1)
        return self.last(own)  # type: ignore[no-any-return]

    def train_on(self, output: CodecOutput, y: Tensor, x: Tensor, x_side: Tensor, draws: Draws) -> None:
        """x alone."""
        output.tasks = [reconstruction(x, self.decode_with(output.y_hat, x_side, draws))]


class CrossAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V with queries from x and keys and values from x_side, d = `width` in each head."""

    def __init__(self, values: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.embed_side = nn.Linear(values, width), nn.Linear(values, width)
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * width, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * width, bias=False)
        self.project, self.out = nn.Linear(heads * width, width), nn.Linear(width, values)

    def forward(self, own: Tensor, other: Tensor, draws: Draws | None, name: str) -> Tensor:
        """own, other (B, C, H, W) -> what attention finds in `other` (B, C, H, W); dropout of the projection."""
        q = self.query(self.norm(self.embed(tokens(own))))
        k, v = self.key_value(self.norm(self.embed_side(tokens(other)))).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        found = self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        if draws is not None:
            kept = draws.uniform(name, tuple(found.shape[1:])) >= DROPOUT
            found = found * kept / (1 - DROPOUT)
        return maps(self.out(found), own.shape[2:])


def tokens(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 16 C, H W / 16): the values of each channel in each of 4x4 cells."""
    cells = features.unflatten(3, (GRID, -1)).unflatten(2, (GRID, -1))  # (B, C, 4, H/4, 4, W/4)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(1, 3)


def maps(token: Tensor, size: torch.Size) -> Tensor:
    """The inverse of `tokens`, for maps of this height and width."""
    height, width = size
    cells = token.unflatten(1, (GRID, GRID, -1)).unflatten(-1, (height // GRID, width // GRID))
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
