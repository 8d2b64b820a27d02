"""Training looks into every file before its first step: the last of many pairs is named, and no run is begun."""

from pathlib import Path

import pytest
from image_files import encode, noise, write
from trainers import config_on, trainer

from utils.errors import DataError


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("view", ["left", "right"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_truncated_last_png_is_named_before_the_first_step(tmp_path: Path, split: str, view: str) -> None:
    whole = encode(noise(64, 64))
    for folder, count in (("train", 300), ("val", 20)):
        for number in range(count):
            for side in ("left", "right"):
                write(tmp_path / "data" / folder / side / f"{number:03d}.png", whole)
    last = max((tmp_path / "data" / split / view).iterdir())
    write(last, whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{last} is cut short at {len(whole) // 2} bytes"):
        trainer(config_on(tmp_path / "data"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
