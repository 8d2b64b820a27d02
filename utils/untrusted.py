"""What a model file from elsewhere claims, judged before memory is taken for it."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from config import Config
from utils.configio import read_config
from utils.configrules import check_codec
from utils.errors import CheckpointError, ConfigError

MAX_WIDTH = 8192
"""Channels of one layer: some twenty times those of the largest preset."""
MAX_BLOCKS = 64
MAX_SCALES = 8
"""Entries of a tuple that runs over scales."""
MAX_TIMESTEPS = 1_000_000
MAX_STEPS = 20_000
"""Decoding steps that a checkpoint may choose for a receiver who chooses none."""
_TYPES = {
    "BOOL": torch.bool,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def parse_config(text: str) -> Config:
    """The configuration in a model file's metadata.

    Raises ConfigError for unknown and mistyped fields, for numbers that are not finite, and for sizes and counts beyond
    the bounds of this module, which a network that is merely built would turn into memory and time.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ConfigError("it is nested too deeply") from None
    config = read_config(values, fill=True)
    _check_finite(dataclasses.asdict(config), "config")
    for name, value in dataclasses.asdict(config.model).items():
        most = MAX_BLOCKS if name.endswith("_blocks") else MAX_WIDTH
        if isinstance(value, tuple) and len(value) > MAX_SCALES:
            raise ConfigError(f"model.{name} has {len(value)} entries; at most {MAX_SCALES} are allowed")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not 0 <= number <= most:
                raise ConfigError(f"model.{name} is {number}; at most {most} is allowed")
    for name, most in (("timesteps", MAX_TIMESTEPS), ("steps", MAX_STEPS)):
        number = getattr(config.diffusion, name, 0)
        if number > most:
            raise ConfigError(f"diffusion.{name} is {number}; at most {most} are allowed")
    check_codec(config)
    return config


def _check_finite(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _check_finite(part, f"{path}.{name}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value}; it must be finite")


def read_outline(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata of a safetensors file, and its tensors on the meta device: names, types and shapes without their data.

    Raises CheckpointError if the file is damaged, something else, or holds types that no model file has.
    """
    outline = {}
    try:
        with safe_open(file, framework="pt") as handle:
            metadata = dict(handle.metadata() or {})
            for name in handle.keys():  # noqa: SIM118
                part = handle.get_slice(name)
                kind = str(part.get_dtype())
                if kind not in _TYPES:
                    raise CheckpointError(f"{file} has {name} as {kind}, which no checkpoint uses; fetch it again.")
                outline[name] = torch.empty(part.get_shape(), dtype=_TYPES[kind], device="meta")
    except (SafetensorError, OSError, struct.error, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{file} is no readable safetensors file ({error}); fetch or train it again.") from error
    return metadata, outline
