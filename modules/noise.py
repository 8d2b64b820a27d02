"""Random numbers with a key, so that neither batch size, process count nor device can change a result."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def sampler_noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """The noise a decoder starts from: float32 N(0, 1) of this shape, from Philox4x64 with key `seed`, on the CPU.

    Normal numbers come from pairs of 53-bit uniforms by the Box-Muller transform in float64, so the specification rests
    on the counter-based generator alone and on no library's sampling method.
    """
    count = int(np.prod(shape))
    half = (count + 1) // 2
    raw = np.random.Philox(key=seed % 2**128).random_raw(2 * half)
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:half]))
    angle = 2.0 * np.pi * uniform[half:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return torch.from_numpy(normal.astype(np.float32)).view(shape)


def payload_seed(payload: bytes) -> int:
    """The seed that a file carries without a byte for it: the first 64 bits of its payload's SHA-256."""
    return int.from_bytes(hashlib.sha256(payload).digest()[:8], "little")


class Draws:
    """Every random number of a training step, by name, each sample from a generator of its own.

    `keys` (B) identify the samples (the run's seed and the sample's number in it); two processes with half of the batch
    each thus draw what one process draws for the whole. `has_side` (B,) bool: which samples have a side image at all.
    """

    def __init__(self, keys: list[int], device: torch.device | str = "cpu", has_side: Tensor | None = None) -> None:
        self.keys = keys
        self.device = device
        self.has_side = torch.ones(len(keys), dtype=torch.bool) if has_side is None else has_side

    @staticmethod
    def key(seed: int, sample: int) -> int:
        """The key of sample number `sample` of a run (counted over all steps, so the step is in it)."""
        return _mix(f"{seed}/{sample}")

    def _generators(self, name: str) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(_mix(f"{key}/{name}")) for key in self.keys]

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) float32 N(0, 1)."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators(name)]).to(self.device)

    def keeps_side(self, dropout: float) -> Tensor:
        """(B,) bool: which samples are shown their side image; each that has one loses it with this probability."""
        return (self.uniform("side_dropout") >= dropout) & self.has_side.to(self.device)

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) float32 in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g) for g in self._generators(name)]).to(self.device)


def _mix(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
