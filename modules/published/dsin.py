"""DSIN as a codec of this project: patches of x_side that resemble the decoded image refine it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config, DsinModelConfig
from modules.codec import CodecOutput
from modules.noise import Draws
from modules.published.causal import CausalContext
from modules.published.layers import conv5, deconv5, full_precision
from modules.published.peer import Peer, reconstruction

DECODED_WEIGHT, REFINED_WEIGHT = 0.3, 0.7
"""Weights of the errors of the image before and after refinement."""
PATCH = (16, 32)
"""Largest height and width of a patch in pixels."""
PATCHES_AT_ONCE = 64
DILATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 1)
SLOPE = 0.2


def build(config: Config) -> DSIN:
    """The codec of a configuration with model.codec `dsin`."""
    return DSIN(config)


class DSIN(Peer):
    """DSIN: Ayzik and Avidan, "Deep Image Compression using Decoder Side Information", ECCV 2020, arXiv 2001.04753.

    ```
     sender    x ─ g_a ─► y: heat map, code ─ entropy: 6 centres, masked, context model ─► file
     receiver  file ─► y_hat ─ g_s ─► x_dec ───────────────────────────┬──────────────┐
               x_side ─ g_a, centres, g_s ─► x_side_dec ─ search ◄─────┘              ├─ refine ─► x_hat
               x_side ──────────── patches at the places found ─► x_syn ──────────────┘
    ```
    For each patch of x_dec, the place in x_side_dec with the largest correlation (of R + G, R - G, (R + B) / 2) times a
    Gaussian around the patch's own place, half the image wide; both images carry the same coding noise. The patch of
    the original x_side at that place goes into x_syn. No gradient passes the search. 10.1 M parameters; /8, 32
    channels of code. Patches have 16x32 pixels where that divides the image, else 8, 16 or 32 a side: published, they
    have 20x24, which do not divide 128x256.

    Loss: bpp + lambda (0.3 L1 of x_dec + 0.7 L1 of x_hat). Bits in training are (H + H x mask) / 2, as published.

    Departures. Published, the rate is held at a target by a hinge; here lambda prices it, as in every other codec. The
    auto-encoder and the refinement are trained together from the start, in x and x_side equally scaled to about unit
    variance, without weight decay. The context model pads every layer, not only its input, and runs in integers.

    Traps avoided. The released search crops patches with wrong normalised boxes, about 5 % stretched. Its entropy is
    an estimate; here the context model's symbols are coded, all of them, masked ones too.
    """

    stride = 8
    entropy: CausalContext

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.model, DsinModelConfig)
        model = config.model
        narrow, wide = model.channels // 2, model.channels
        self.g_a = nn.Sequential(
            Normalise(),
            ConvNorm(conv5(3, narrow, bias=False)),
            ConvNorm(conv5(narrow, wide, bias=False)),
            Trunk(wide),
            ConvNorm(conv5(wide, 1 + model.code, bias=False), relu=False),
        )
        self.entropy = CausalContext(model.code, model.centres)
        first = nn.ConvTranspose2d(model.code, wide, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.g_s = nn.Sequential(
            ConvNorm(first),
            Trunk(wide),
            ConvNorm(deconv5(wide, narrow, bias=False)),
            ConvNorm(deconv5(narrow, 3, bias=False), relu=False),
        )
        self.refine = refinement(model.refine_channels)

    def reconstruct(self, y_hat: Tensor, x_side: Tensor) -> Tensor:
        """See Peer."""
        return self.both(y_hat, x_side)[1]

    def both(self, y_hat: Tensor, x_side: Tensor) -> tuple[Tensor, Tensor]:
        """The image before and after its refinement, in [0, 1]."""
        x_dec = self.g_s(y_hat)
        with torch.no_grad():
            code, *_ = self.entropy.nearest(self.g_a(x_side).float(), self.entropy.centres)
            x_syn = synthetic(_denormalise(x_dec), _denormalise(self.g_s(code)), x_side)
        refined = self.refine(torch.cat([x_dec, _normalise(x_syn)], dim=1))
        return _denormalise(x_dec), _denormalise(refined)

    def train_on(self, output: CodecOutput, y: Tensor, x: Tensor, x_side: Tensor, draws: Draws) -> None:
        """Both images count."""
        x_dec, x_hat = self.both(output.y_hat, x_side)
        output.tasks = [reconstruction(x, x_dec, DECODED_WEIGHT), reconstruction(x, x_hat, REFINED_WEIGHT)]


@torch.no_grad()
def synthetic(x_dec: Tensor, x_side_dec: Tensor, x_side: Tensor) -> Tensor:
    """x_dec, x_side_dec, x_side (B, 3, H, W), H and W multiples of 8 -> x_syn, made of x_side's patches."""
    height, width = x_dec.shape[2:]
    sizes = zip(PATCH, (height, width), strict=True)
    patch = tuple(next(n for n in (most, 16, 8) if n <= most and edge % n == 0) for most, edge in sizes)
    with full_precision(x_dec.device):
        triples = zip(_colours(x_dec), _colours(x_side_dec), x_side.float(), strict=True)
        found = [_search(*images, patch) for images in triples]
    return F.fold(torch.stack(found), (height, width), patch, stride=patch)


def _search(decoded: Tensor, side_decoded: Tensor, side: Tensor, patch: tuple[int, ...]) -> Tensor:
    """For one image each (3, H, W): the patches (3 p q, n) of `side` that stand for those of `decoded`, row by row."""
    rows, columns = patch
    height, width = decoded.shape[1:]
    wanted = F.unfold(decoded[None], patch, stride=patch)[0].T  # (n, 3 p q)
    wanted = F.normalize(wanted - wanted.mean(1, keepdim=True), dim=1).view(-1, 3, rows, columns)
    # Standard deviation of every window: sqrt(sum v^2 - (sum v)^2 / m).
    moments = torch.stack([side_decoded.sum(0), side_decoded.square().sum(0)])[:, None]
    total, squares = (v[0] for v in F.avg_pool2d(moments, patch, stride=1) * (rows * columns))
    deviation = (squares - total**2 / (3 * rows * columns)).clamp(min=1e-6).sqrt()
    vertical = torch.arange(height - rows + 1, device=side.device)
    horizontal = torch.arange(width - columns + 1, device=side.device)
    patches = []
    for first in range(0, len(wanted), PATCHES_AT_ONCE):
        some = wanted[first : first + PATCHES_AT_ONCE]
        # Pearson's correlation of patch and window, times exp(-d^2 / (2 (edge / 2)^2)), d the distance along an axis.
        number = torch.arange(first, first + len(some), device=side.device)
        top, left = number // (width // columns) * rows, number % (width // columns) * columns
        near = torch.exp(-2 * ((vertical - top[:, None]) / height) ** 2)[:, :, None]
        near = near * torch.exp(-2 * ((horizontal - left[:, None]) / width) ** 2)[:, None]
        score = F.conv2d(side_decoded[None], some)[0] / deviation * near
        best = score.flatten(1).argmax(1).tolist()
        corners = [divmod(place, len(horizontal)) for place in best]
        patches += [side[:, row : row + rows, column : column + columns].flatten() for row, column in corners]
    return torch.stack(patches, dim=1)


def _colours(image: Tensor) -> Tensor:
    red, green, blue = image.float().unbind(1)
    return torch.stack([red + green, red - green, (red + blue) / 2], dim=1)


def _normalise(image: Tensor) -> Tensor:
    return 4 * image - 2


def _denormalise(image: Tensor) -> Tensor:
    return (image.float() + 2) / 4


class Normalise(nn.Module):
    """Image in [0, 1] -> about unit variance."""

    def forward(self, image: Tensor) -> Tensor:
        """Any shape."""
        return _normalise(image)


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation, and ReLU."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, relu: bool = True) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = conv, nn.BatchNorm2d(conv.out_channels), relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, h, w)."""
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class Trunk(nn.Module):
    """Five groups of three residual blocks, each group with a skip, one more block, and a skip over all."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def block() -> nn.Sequential:
            first, second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
            return nn.Sequential(ConvNorm(first), ConvNorm(second, relu=False))

        self.groups = nn.ModuleList(nn.ModuleList(block() for _ in range(3)) for _ in range(5))
        self.last = block()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        h = x
        for group in self.groups:
            start = h
            for block in group:  # type: ignore[attr-defined]
                h = h + block(h)
            h = h + start
        return x + h + self.last(h)  # type: ignore[no-any-return]


def refinement(channels: int) -> nn.Sequential:
    """siNet: nine dilated 3x3 convolutions and a 1x1 one, which begin by passing the decoded image through."""
    layers: list[nn.Module] = []
    for number, dilation in enumerate(DILATIONS):
        conv = nn.Conv2d(channels if number else 6, channels, 3, padding=dilation, dilation=dilation)
        layers += [conv, nn.LeakyReLU(SLOPE)]
    layers.append(nn.Conv2d(channels, 3, 1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    with torch.no_grad():  # All but the first channels begin at zero: from here they get a gradient.
        layers[-1].weight.add_(0.02 * torch.randn_like(layers[-1].weight))  # type: ignore[operator, arg-type, union-attr]
    return nn.Sequential(*layers)
