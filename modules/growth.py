"""A codec begins as a narrower one that was trained before: it computes the same, and has room to learn more.

As Net2Net (Chen, Goodfellow, Shlens 2016, arXiv 1511.05641), but new channels get fresh weights and no way to the old
ones, instead of copies: the networks have no normalisation, so what the old channels compute stays as it was.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

IN_PARTS = re.compile(r"(gate\.compare|refine\.compare|merges\.\d+)\.weight")
"""Layers whose inputs are two features side by side, of which each grows."""
OUT_PARTS = re.compile(r"(modulate|entropy\.h_s\.layers\.2)\.(weight|bias)")
"""Layers whose outputs are two features side by side: scale and shift, mean and index."""
ADDED = re.compile(r"(shortcut\.conv|find\.value)\.(weight|bias)")
"""Last layers of parts that a narrower codec may lack, whose results are added to what it has: zero at first."""


@torch.no_grad()
def grow(codec: nn.Module, narrow: nn.Module) -> bool:
    """Give `codec` the weights of `narrow`, a codec of its structure with at most its widths; False for another one.

    Parts that `narrow` lacks stay fresh, and what only `narrow` has is dropped: another kind of fusion learns anew. New
    channels of y cost bits from the start, and would soon be silenced: `loss.rate_warmup` lets the decoder find a use.
    """
    known = dict(narrow.named_parameters())
    common = {name: parameter for name, parameter in codec.named_parameters() if name in known}
    if not common or any(not _fits(known[name], parameter) for name, parameter in common.items()):
        return False
    for name, parameter in codec.named_parameters():
        if name in common:
            _widen(name, parameter, known[name])
        elif ADDED.search(name):
            parameter.zero_()
    return True


def _fits(narrow: Tensor, wide: Tensor) -> bool:
    return narrow.ndim == wide.ndim and all(a <= b for a, b in zip(narrow.shape, wide.shape, strict=True))


def _widen(name: str, wide: Tensor, narrow: Tensor) -> None:
    # 1. Where the narrow tensor's entries stand in the wide one, dimension by dimension.
    places = [torch.arange(size) for size in narrow.shape]
    channels = 0 if name.endswith("weight") or narrow.ndim == 1 else 1  # Biases of h_s are (knots, outputs).
    if OUT_PARTS.search(name):
        places[channels] = _in_halves(narrow.shape[channels], wide.shape[channels])
    if IN_PARTS.search(name):
        places[1] = _in_halves(narrow.shape[1], wide.shape[1])
    # 2. Old outputs see nothing of new inputs; new outputs keep their fresh weights.
    if name.endswith("weight") and narrow.ndim > 1:
        wide[places[0]] = 0
    wide[torch.meshgrid(*places, indexing="ij") if places else ()] = narrow


def _in_halves(narrow: int, wide: int) -> Tensor:
    return torch.cat([torch.arange(narrow // 2), wide // 2 + torch.arange(narrow // 2)])
