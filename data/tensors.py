"""Between uint8 images (H, W, 3), in which everything is measured, and float tensors (3, H, W) in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_float(image: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(255)


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """float (3, H, W) -> uint8 (H, W, 3): clamped to [0, 1] and rounded to the nearest level."""
    return torch.round(image.clamp(0, 1) * 255).to("cpu", torch.uint8).permute(1, 2, 0).numpy()
