"""How networks compute: number format, strips of rows, compilation, and the Accelerator that trains them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from config import TrainConfig
from modules.codec import Codec
from modules.diffusion_codec import DiffusionCodec
from modules.tiling import LEAST_ROWS, OVERLAP
from utils.errors import ConfigError
from utils.launch import check_launch

if TYPE_CHECKING:
    from accelerate import Accelerator

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Of x86 (the first two) and ARM processors that multiply in bfloat16."""


def bfloat16_instructions() -> list[str]:
    """The processor's instructions that make bfloat16 fast, by the system's names; none where it does not tell."""
    text = CPU_INFO.read_text() if CPU_INFO.is_file() else ""
    lines = [line for line in text.splitlines() if line.lower().startswith(("flags", "features"))]
    found = {flag for line in lines for flag in line.split()} & BFLOAT16_FLAGS
    if "GenuineIntel" in text:
        found.discard("avx512_bf16")  # Measured on a Xeon without AMX: half of float32's speed.
    return sorted(found)


def set_decoding_precision(codec: Codec, precision: str) -> None:
    """Have the networks of `codec`'s receiver compute in float32 (`no`) or bfloat16 (`bf16`); `auto`: see `resolve`."""
    device = next(codec.parameters()).device
    codec.decoding_dtype = torch.bfloat16 if resolve(precision, device.type) == "bf16" else None


def set_tile_rows(codec: Codec, rows: int | None) -> None:
    """--tile-rows: have `codec` work in strips of at most `rows` rows, which takes less memory and some more time.

    None leaves it its own number. Raises ConfigError for too few, and for codecs that take images whole.
    """
    if rows is None:
        return
    if rows < LEAST_ROWS:
        raise ConfigError(
            f"--tile-rows is {rows}; strips need at least {LEAST_ROWS} rows, of which they share {OVERLAP}."
        )
    if not isinstance(codec, DiffusionCodec):
        raise ConfigError(f"--tile-rows does not apply: the codec {codec.name} takes images whole; leave it out.")
    codec.tile_rows = rows


def resolve(precision: str, device_type: str) -> str:
    """`auto` becomes `bf16` where that is faster than float32, else `no`; other values stay."""
    if precision != "auto":
        return precision
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if bfloat16_instructions() else "no"


def build_accelerator(train: TrainConfig, cpu: bool) -> Accelerator:
    """Accelerate for one process or many. Raises ConfigError for a precision that the device lacks."""
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    check_launch(cpu)
    if cpu and train.precision == "fp16":
        raise ConfigError("train.precision fp16 does nothing on a CPU; use auto, bf16 or no.")
    precision = resolve(train.precision, "cpu" if cpu else "cuda")
    parallel = DistributedDataParallelKwargs(
        find_unused_parameters=True,  # Which parts of a codec a loss uses is the codec's affair.
        broadcast_buffers=False,  # The first process's are saved, and a codebook broadcasts its own.
    )
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=4))  # The others wait while one process validates.
    try:
        return Accelerator(
            cpu=cpu,
            mixed_precision=precision,
            dynamo_backend="inductor" if train.compile else "no",
            kwargs_handlers=[parallel, patience],
        )
    except ValueError as error:
        raise ConfigError(
            f"train.precision {precision} cannot be used on this device ({error}); use auto or no."
        ) from error
