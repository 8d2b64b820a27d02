"""Nearest upsampling and a convolution as smaller convolutions before the upsampling, one for each phase of the output.

Where a line is repeated u times, output u i + p is phase p at place i of the line. The taps of its kernel that fall on
one place are added up beforehand: with u = 2, a window of 2 x 2 places stands for a kernel of 3 x 3, and one of 3 x 3
for 5 x 5. Nothing but sums is rearranged, so with integers the results are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Phases:
    """The merged kernels, for channels-last images: places then are rows of the matrix product.

    That makes it several times faster than with places as columns where they are few. `weight` (u^2, t x t x inputs,
    outputs) holds the kernels of the phases, rows before columns. In either direction, the window of phase p at place i
    is of `size` t and begins at place i - `before` + `first[p]`.
    """

    weight: Tensor
    size: int
    before: int
    first: list[int]

    @classmethod
    def of(cls, weight: Tensor, upsample: int) -> Phases:
        """From a kernel (outputs, inputs, k, k), k odd, that is centred on the output."""
        outputs, _, kernel, _ = weight.shape
        places = [[(p + k - kernel // 2) // upsample for k in range(kernel)] for p in range(upsample)]
        size = max(line[-1] - line[0] for line in places) + 1
        falls_on = weight.new_zeros(upsample, size, kernel)
        for phase, line in enumerate(places):
            for tap, place in enumerate(line):
                falls_on[phase, place - line[0], tap] = 1
        merged = torch.einsum("ptk,qul,oikl->pqtuio", falls_on, falls_on, weight)
        before = -places[0][0]
        return cls(
            merged.reshape(upsample**2, -1, outputs).contiguous(), size, before, [line[0] + before for line in places]
        )

    def windows(self, x: Tensor) -> Tensor:
        """x (B, H, W, C), zero outside -> a view of its windows (B, rows, columns, t, t, C); see `sums`."""
        after = max(self.first) + self.size - 1 - self.before
        x = F.pad(x, (0, 0, self.before, after, self.before, after))
        return x.unfold(1, self.size, 1).unfold(2, self.size, 1).permute(0, 1, 2, 4, 5, 3)

    def sums(self, windows: Tensor, top: int, bottom: int, width: int) -> Tensor:
        """The convolution at `width` places of rows `top` to `bottom`, exclusive: (u^2, B, rows x width, outputs)."""
        parts = [windows[:, top + i : bottom + i, j : j + width] for i in self.first for j in self.first]
        phases, taps, outputs = self.weight.shape
        columns = torch.stack(parts).view(phases, -1, taps)
        return torch.bmm(columns, self.weight).view(phases, len(windows), -1, outputs)

    def bytes_of(self, places: int) -> int:
        """Memory that `sums` takes for the windows of so many places."""
        return places * self.weight[:, :, 0].numel() * self.weight.element_size()
