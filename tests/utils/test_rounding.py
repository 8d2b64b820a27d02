"""Images of floats and of bytes."""

import numpy as np
import pytest
import torch

from data.tensors import to_float, to_uint8
from utils.training.validation import psnr


def test_mistake_08_images_are_rounded_to_nearest_and_then_measured() -> None:
    """Flooring would be half a grey level darker, and the float would be better than the image that is written."""
    values = torch.tensor([0.0, 0.499, 0.501, 100.4, 100.6, 254.6, 300.0, -3.0]) / 255
    image = values.view(1, 2, 4).expand(3, 2, 4)
    assert to_uint8(image)[:, :, 0].flatten().tolist() == [0, 0, 1, 100, 101, 255, 255, 0]
    stored = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (to_uint8(to_float(stored)) == stored).all()
    other = stored.copy()
    other[0, 0, 0] ^= 16
    assert psnr(stored, other) == pytest.approx(10 * np.log10(255**2 / (16**2 / stored.size)))
