"""scripts/study_rates.py: every level of a checkpoint, from true files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from evaluation_files import write_untrained
from script_files import load_script

from config import Config
from data.sources import open_source
from modules.codec import Codec
from utils.checkpoint import load_checkpoint
from utils.errors import ConfigError
from utils.images import to_float


def study(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    module = load_script("study_rates")
    monkeypatch.setattr(sys, "argv", ["scripts/study_rates.py", *words])
    module.main()


def test_growth_is_of_true_files_from_level_to_level(
    ckpt: Path, evaluation_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of 1000 bytes, 1 % more at each level, but for one jump, and one image that jumps elsewhere."""
    sizes: dict[tuple[int, int], int] = {}

    def compress(codec: Codec, x: object, rate: float) -> bytes:
        level, image = codec.level(rate), len(sizes) % 2
        size = round(100_000 * 1.01**level * (1.1 if level > 99 else 1) * (1.3 if image and level == 199 else 1))
        sizes[level, image] = size
        return bytes(size)

    monkeypatch.setattr(Codec, "compress", compress)
    study(monkeypatch, "--ckpt", str(ckpt), "--data-root", str(evaluation_data), "--limit", "2")
    out = capsys.readouterr().out
    pixels = 64 * 64
    assert len(sizes) == 512 and f"| 0 | {8 * 100_000 / pixels:.4f} |" in out and "2 images" in out
    # 1.01 x 1.15 = 1.1615 as the mean of both images, 1.01 x 1.3 = 1.313 of the one; back at level 200.
    assert "by 16.15 % at most (level 198 to 199), those of a single image by 31.30 % at most (level 198 to 199)" in out
    assert "they shrink in 1 of 255 steps" in out


def test_it_measures_what_the_codec_writes(
    ckpt: Path, evaluation_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study(monkeypatch, "--ckpt", str(ckpt), "--data-root", str(evaluation_data), "--limit", "1")
    out = capsys.readouterr().out
    x = to_float(open_source("folder", split="val", root=evaluation_data)[0].x)
    codec = load_checkpoint(ckpt).codec
    for level in (0, 102, 255):
        bpp = 8 * len(codec.compress(x, level / 255)) / (x.shape[1] * x.shape[2])
        assert f"| {level} | {bpp:.4f} |" in out


def test_a_fixed_rate_model_has_no_levels(
    tiny: Config, tmp_path: Path, evaluation_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = write_untrained(tmp_path / "fixed", tiny, variable_rate=False)
    with pytest.raises(ConfigError, match="is a fixed-rate model"):
        study(monkeypatch, "--ckpt", str(fixed), "--data-root", str(evaluation_data))
    with pytest.raises(ConfigError, match="pairs at 256 levels take long"):
        variable = write_untrained(tmp_path / "variable", tiny)
        study(monkeypatch, "--ckpt", str(variable), "--dataset", "synthetic", "--split", "train")
