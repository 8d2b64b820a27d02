"""A codec begins as transform coding: y holds DCT coefficients of x, and the mean image is their inverse transform.

Fresh weights would first have to find that an image is made of frequencies, which takes thousands of steps. The path of
the shortcut, 1/4 and 1/8 of the image, is linear as long as the residual blocks of both transforms add nothing; on it
the DCT of 16x16 blocks is composed from those of 8x8 and 4x4 blocks. All else starts from random weights as usual.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from modules.entropy import Hyperprior
from modules.fusion import FusionSynthesis
from modules.likelihoods import SCALE_MIN, SCALE_STEP, SCALES
from modules.transforms import PATCH, Analysis, Down, HyperAnalysis, ResBlock, Up, dct

SCALE = 2.0
"""y over coefficients of images in [-1, 1]: a rounded y is then coarse at the gains of low rates, fine at high ones."""
MEAN_STD, DETAIL_STD, CHROMA = 12.0, 1.5, 0.25
"""Standard deviations of photographs' coefficients: of the mean, of frequency f times f, and of colours over grey."""


@torch.no_grad()
def begin_as_transform_coding(g_a: Analysis, entropy: Hyperprior, g_s: FusionSynthesis, mean: nn.Conv2d) -> None:
    """Set the weights of a codec with shortcuts, whose first scale has at least 48 channels, as the module says."""
    assert g_a.shortcut is not None and g_s.shortcut is not None
    down = cast(Down, g_a.pyramid.downs[0]).conv
    up, up_from_sixteenth = (cast(Up, layer).conv for layer in g_s.ups)
    fine = 3 * PATCH**2
    # 1. Residual blocks add nothing at first.
    for module in (*g_a.modules(), *g_s.modules()):
        if isinstance(module, ResBlock):
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()  # type: ignore[union-attr]
    # 2. 1/4: the DCT of 4x4 blocks in the first 48 channels, and its inverse.
    _silence(g_a.pyramid.stem, fine)
    g_a.pyramid.stem.weight[:fine, :, 1, 1] = _spectrum(PATCH).float()
    mean.weight.zero_()
    mean.bias.zero_()  # type: ignore[union-attr]
    mean.weight[:, :fine, 1, 1] = _spectrum(PATCH).T.float()
    # 3. 1/8: of 8x8 blocks, the coefficients with the largest deviations.
    eighth = min(down.out_channels, g_s.shortcut.conv.out_channels // 4, 4 * fine)
    to_eighth = _merge(_spectrum(PATCH), PATCH, eighth)
    _begin(down, to_eighth)
    _begin(up, to_eighth.T)
    # 4. 1/16: of 16x16 blocks, straight to y and back; the path through the features at 1/16 adds nothing at first.
    kept = _spectrum(2 * PATCH)[_largest(2 * PATCH)[:eighth]]
    latent = min(g_a.head.out_channels, 4 * eighth)
    to_y = _merge(kept, 2 * PATCH, latent)
    g_a.head.weight.zero_()
    g_a.head.bias.zero_()  # type: ignore[union-attr]
    _begin(g_a.shortcut.conv, SCALE * to_y)
    _begin(g_s.shortcut.conv, to_y.T / SCALE)
    _silence(up_from_sixteenth, 4 * eighth)
    # 5. What the side image offers adds nothing at first either.
    for scale, channels in ((0, fine), (1, eighth)):
        for name in ("project", "project_picture", "project_warped"):
            layer = getattr(g_s.fuse[scale], name, None)
            if layer is not None:
                _silence(layer, channels)
    # 6. The scale indices of y from the deviations of the coefficients, at the gain of each knot.
    deviation = SCALE * _deviations(4 * PATCH).sort(descending=True).values[:latent]
    last = entropy.h_s.convolutions()[-1]
    gain = entropy.log_gain.exp()[:, :latent] if entropy.levels > 1 else torch.ones(1, latent)
    index = (deviation * gain / SCALE_MIN).log() / SCALE_STEP
    last.bias[:, entropy.latent : entropy.latent + latent] = index.clamp(0, SCALES - 1).float()
    # What depends on z adds little to them at first.
    last.weight.mul_(0.1)
    cast(HyperAnalysis, entropy.h_a).layers[0].weight.div_(SCALE)  # type: ignore[union-attr, operator]


def _spectrum(size: int) -> Tensor:
    """The DCT of blocks of 3 colours x size x size pixels, orthonormal, float64: (coefficients, pixels)."""
    return torch.kron(dct(3), torch.kron(dct(size), dct(size)))


def _deviations(size: int) -> Tensor:
    """Of each coefficient, as natural images have them: falling with the frequency, less for colours than for grey."""
    line = torch.arange(size, dtype=torch.float64) * (4 * PATCH / size)
    frequency = torch.hypot(line[:, None], line).flatten()
    grey = torch.where(frequency > 0, DETAIL_STD / frequency.clamp(min=1), MEAN_STD)
    return torch.cat([grey, CHROMA * grey, CHROMA * grey])


def _largest(size: int) -> Tensor:
    """The coefficients by falling deviation."""
    return _deviations(size).argsort(descending=True, stable=True)


def _merge(kept: Tensor, size: int, count: int) -> Tensor:
    """`count` coefficients of blocks of 2 size from those of their four blocks of `size`: (count, coefficients x 4).

    `kept` (K, pixels): the coefficients that each small block has, as rows of its spectrum. The result's rows are
    orthonormal also where high frequencies of the small blocks are missing.
    """
    large = _spectrum(2 * size)[_largest(2 * size)].view(-1, 3, 2, size, 2, size)
    blocks = large.permute(0, 2, 4, 1, 3, 5).reshape(len(large), 2, 2, -1)  # Pixels of each of the four blocks.
    rows = torch.einsum("nijp,kp->nkij", blocks, kept).reshape(len(large), -1)  # Channels c x 4 + place.
    # Gram-Schmidt in the order of the deviations.
    q, r = torch.linalg.qr(rows[:count].T)
    return (q * r.diagonal().sign()).T


def _silence(layer: nn.Conv2d, count: int) -> None:
    """The first `count` outputs of a layer are zero."""
    layer.weight[:count] = 0
    layer.bias[:count] = 0  # type: ignore[index]


def _begin(layer: nn.Conv2d, matrix: Tensor) -> None:
    """The first outputs of a 1x1 convolution are `matrix` (outputs, inputs) of its first inputs, and nothing else."""
    _silence(layer, len(matrix))
    layer.weight[: len(matrix), : matrix.shape[1], 0, 0] = matrix.float()
