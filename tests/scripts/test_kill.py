"""Killed runs end as if nothing had happened; and what a comparison of two runs sees."""

import json
from pathlib import Path

import pytest
import torch
from processes import python
from safetensors.torch import save_file

from scripts.stress.kill import difference


def write_run(folder: Path, weight: float = 1.0, value: float = 2.0, name: str = "a.bin") -> Path:
    folder.mkdir()
    save_file({"w": torch.tensor([weight])}, folder / "model.safetensors")
    points = {"points": [{"psnr": value, "decode_ms": weight}]}
    (folder / "summary.json").write_text(json.dumps(points))
    (folder / name).write_bytes(b"1")
    (folder / "log.txt").write_text(str(folder))
    return folder


def test_equal_runs_have_no_difference(tmp_path: Path) -> None:
    assert difference(write_run(tmp_path / "a"), write_run(tmp_path / "b")) is None


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"weight": 1 + 2**-20}, "model.safetensors differs"),
        ({"value": 2.0000001}, "summary.json differs"),
        ({"name": "b.bin"}, "a.bin is only in one of them"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, changes: dict[str, float], found: str) -> None:
    assert difference(write_run(tmp_path / "a"), write_run(tmp_path / "b", **changes)) == found


@pytest.mark.slow
def test_a_killed_training_ends_like_one_in_one_go() -> None:
    done = python("scripts/stress/kill.py", "training", "--runs", "1", "--per-run", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["differ"] == 0 and result["runs"] == 1
