"""Checkpoints that a test alters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors."""
    with safe_open(path, framework="pt") as handle:
        return dict(handle.metadata())


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], Any]) -> None:
    """Alter tensors and metadata of a safetensors file."""
    tensors, data = load_file(path), metadata(path)
    change(tensors, data)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, data)
