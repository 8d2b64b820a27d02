"""Which number format a device computes in without emulation."""

from __future__ import annotations

from pathlib import Path

import torch

from modules.codec import Codec

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Of x86 (the first two) and ARM processors that multiply in bfloat16."""


def bfloat16_instructions() -> list[str]:
    """The processor's instructions for bfloat16, by the names the system gives; none where it does not tell."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return sorted(flags & BFLOAT16_FLAGS)


def set_decoding_precision(codec: Codec, precision: str) -> None:
    """Have the networks of `codec`'s receiver compute in float32 (`no`) or bfloat16 (`bf16`); `auto`: see `resolve`."""
    device = next(codec.parameters()).device
    codec.decoding_dtype = torch.bfloat16 if resolve(precision, device.type) == "bf16" else None


def resolve(precision: str, device_type: str) -> str:
    """`auto` becomes `bf16` where the device multiplies in it, else `no`; other values stay.

    Emulated bfloat16 is several times slower than float32.
    """
    if precision != "auto":
        return precision
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if bfloat16_instructions() else "no"
