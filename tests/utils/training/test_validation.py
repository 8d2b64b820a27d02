"""Validation inside training: its values, from a codec whose file sizes and errors are known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from config import Config, LossConfig, PaperLossConfig
from data.pair import Pair, PairSource
from modules.codec import Codec
from utils.training.validation import rates_of, validate

SIZE = (16, 32)
BYTES = {None: 64, 0.0: 32, 0.5: 64, 1.0: 128}
ERROR = {64: 4, 32: 8, 128: 2}
NONE_ERROR = 16


class Ours(nn.Module):
    """Files of BYTES[rate] bytes; decoded values are ERROR (without side image NONE_ERROR) of 255 too high."""

    needs_side = accepts_no_side = True

    def __init__(self, variable_rate: bool) -> None:
        super().__init__()
        self.variable_rate = variable_rate

    def compress(self, x: Tensor, rate: float | None) -> bytes:
        assert not self.training
        self.x = x
        return bytes(BYTES[rate])

    def decompress(self, data: bytes, x_side: Tensor | None) -> Tensor:
        return self.x + (NONE_ERROR if x_side is None else ERROR[len(data)]) / 255


class Grey(PairSource):
    """Two grey pairs of 16x32 pixels."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Pair:
        image = np.full((*SIZE, 3), 100 + index, np.uint8)
        return Pair(image, image, str(index), "drive")

    def ids(self) -> Sequence[str]:
        return ["0", "1"]

    def groups(self) -> Sequence[str]:
        return ["drive", "drive"]


def values_of(
    tmp_path: Path, variable_rate: bool, sections: dict[str, Any] | None = None, **loss: Any
) -> dict[str, float]:
    codec = cast(Codec, Ours(variable_rate).train())
    config = Config(loss=LossConfig(lambda_min=0.1, lambda_max=0.4, lmbda=0.3, **loss))
    config = replace(config, **(sections or {}))
    values = validate(codec, {"grey": Grey()}, config, tmp_path / "sample.png")
    assert values is not None and codec.training
    return values


def test_the_loss_is_of_true_bits_and_of_8_bit_errors(tmp_path: Path) -> None:
    values = values_of(tmp_path, True)
    expected = [0.5 + 0.1 * 64, 1 + 0.2 * 16, 2 + 0.4 * 4]
    assert [values[f"val/bpp@{rate}"] for rate in ("0", "0.5", "1")] == [0.5, 1.0, 2.0]
    for rate, error in (("0", 8), ("0.5", 4), ("1", 2)):
        assert values[f"val/psnr@{rate}"] == pytest.approx(20 * np.log10(255 / error))
        assert values[f"val/psnr_no_side@{rate}"] == pytest.approx(20 * np.log10(255 / NONE_ERROR))
    assert values["val/loss"] == pytest.approx(np.mean(expected))
    sample = np.asarray(Image.open(tmp_path / "sample.png"))
    assert [int(sample[i * SIZE[0], 0, 0]) for i in range(5)] == [100, 100, 108, 104, 102]


def test_only_rates_that_are_trained_are_validated(tmp_path: Path) -> None:
    values = values_of(tmp_path, True, rates=(0.5, 0.5))
    assert {name for name in values if "bpp" in name} == {"val/bpp@0.5"}
    assert values["val/loss"] == pytest.approx(1 + 0.2 * 16)
    assert rates_of(LossConfig()) == (0.0, 0.5, 1.0) and rates_of(LossConfig(rates=(0.5, 0.75))) == (0.5, 0.625, 0.75)


def test_a_fixed_rate_codec_has_one_point_at_its_own_lambda(tmp_path: Path) -> None:
    values = values_of(tmp_path, False)
    assert set(values) == {"val/bpp", "val/psnr", "val/psnr_no_side", "val/loss"}
    assert values["val/loss"] == pytest.approx(1 + 0.3 * 16)


def test_the_papers_lambda_is_on_the_rate(tmp_path: Path) -> None:
    values = values_of(tmp_path, False, {"loss": PaperLossConfig(lmbda=0.3)})
    assert values["val/loss"] == pytest.approx(0.3 * 1 + 16)


def test_giving_up_leaves_no_values_and_no_picture(tmp_path: Path) -> None:
    codec = cast(Codec, Ours(True))
    assert validate(codec, {"grey": Grey()}, Config(), tmp_path / "sample.png", given_up=lambda: True) is None
    assert not list(tmp_path.iterdir())
