"""Pictures to learn from must be as sharp as those to decode, or samples are as soft as the training was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from config import PRESETS, MixConfig
from data.sources import open_source
from data.training import training_data

KITTI = Path(__file__).resolve().parents[3] / "shared" / "kitti" / "protocol"


def high_frequency_energy(image: NDArray[np.uint8]) -> float:
    """Energy of an image's luma (H, W, 3) at frequencies above half of Nyquist in either direction."""
    luma = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    spectrum = np.abs(np.fft.fft2(luma - luma.mean())) ** 2 / luma.size
    rows, columns = np.abs(np.fft.fftfreq(luma.shape[0])), np.abs(np.fft.fftfreq(luma.shape[1]))
    return float(spectrum[np.maximum(rows[:, None], columns[None, :]) > 0.25].sum())


def energy(scale: float = 1.0, count: int = 60) -> float:
    """Mean high-frequency energy of training crops of the KITTI sample, as `small` makes them but for rare patches."""
    config = PRESETS["small"]
    mix = (MixConfig("kitti", "folder", str(KITTI), scale_max=scale),)
    data = replace(config.data, mix=mix, augment=replace(config.data.augment, shapes=(), flat=0.0, text=0.0))
    mixture = training_data(replace(config, data=data))
    return float(np.mean([high_frequency_energy(mixture[i]["x"].permute(1, 2, 0).numpy()) for i in range(count)]))


@pytest.mark.skipif(not KITTI.is_dir(), reason="the KITTI sample is not there (shared/kitti/protocol)")
def test_training_pictures_have_the_detail_of_val() -> None:
    val = open_source("folder", split="val", root=KITTI)
    expected = np.mean([high_frequency_energy(val[i].x) for i in range(len(val))])
    assert 0.7 < energy() / expected < 1.2
    assert energy(scale=1.25) / expected < 0.6  # What went wrong once, and what the bound is there to notice.
