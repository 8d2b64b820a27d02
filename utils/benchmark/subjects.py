"""What is timed, and what can be said of it without timing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

PRECISIONS = ("float32", "bfloat16")
EIGHT_BIT = "8-bit"
"""Stands for a precision with image formats, which compute in integers."""


@dataclass(frozen=True)
class Subject:
    """One operation of one codec on one input.

    `operation` is a name such as "decode" or "encode.coder", the part after the dot a part of the whole before it.
    `run` does it once. `missing` gives the seconds of work that the calls since it was last asked left out, for each
    call, where work is extrapolated; `flops` counts operations where those of `run` are not the answer.
    """

    codec: str
    operation: str
    precision: str
    run: Callable[[], object]
    height: int
    width: int
    steps: int | None = None
    batch: int = 1
    parameters: int | None = None
    file_bytes: int | None = None
    note: str = ""
    missing: Callable[[], float] | None = None
    flops: Callable[[], int] | None = None

    @property
    def key(self) -> str:
        """A name that no other subject of a session has."""
        steps = "" if self.steps is None else f"@{self.steps}"
        return f"{self.codec}/{self.operation}{steps}/{self.height}x{self.width}/{self.precision}"


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which floats are computed: as they are, or in bfloat16 by autocast."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def parameters_of(*parts: nn.Module | None) -> int:
    """The number of weights that some parts of a codec hold."""
    return sum(p.numel() for part in parts if part is not None for p in part.parameters())
