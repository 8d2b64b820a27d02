"""Pairs written as a folder data set come back as they were, at the size asked for."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.sources import open_source

ROOT = Path(__file__).resolve().parents[2]


def export(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/export_pairs.py"), str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_exported_pairs_are_a_folder_data_set(tmp_path: Path, scale: float) -> None:
    done = export(tmp_path, "--dataset", "synthetic", "--split", "val", "--limit", "2", "--scale", str(scale))
    assert done.returncode == 0, done.stderr
    original = open_source("synthetic", split="val", limit=2)
    exported = open_source("folder", split="val", root=tmp_path)
    assert len(exported) == 2 and exported.groups == original.groups
    for index in range(2):
        a, b = original[index], exported[index]
        assert b.x.shape == b.x_side.shape == (round(a.x.shape[0] * scale), round(a.x.shape[1] * scale), 3)
        if scale == 1:
            assert np.array_equal(a.x, b.x) and np.array_equal(a.x_side, b.x_side)
        else:
            assert abs(float(a.x.mean()) - float(b.x.mean())) < 1


def test_a_scale_out_of_range_is_a_sentence(tmp_path: Path) -> None:
    done = export(tmp_path, "--scale", "0")
    assert done.returncode == 1 and "--scale" in done.stderr and "Traceback" not in done.stderr
