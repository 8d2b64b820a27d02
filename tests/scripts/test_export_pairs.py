"""Pairs written as a folder data set come back as they were, at the size asked for."""

import numpy as np
import pytest
from script_files import one_line

from data.sources import open_source


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_exported_pairs_are_a_folder_data_set(command, tmp_path, scale):
    assert command("export_pairs", tmp_path, *["--split", "val", "--limit", "2", "--scale"], scale)[0] == 0
    original = open_source("builtin", split="val", limit=2)
    exported = open_source("folder", split="val", root=tmp_path)
    assert len(exported) == 2 and exported.groups == original.groups
    for a, b in zip(original, exported, strict=True):
        assert b.x.shape == b.x_side.shape == (round(128 * scale), round(256 * scale), 3)
        if scale == 1:
            assert np.array_equal(a.x, b.x) and np.array_equal(a.x_side, b.x_side)
        else:
            assert abs(float(a.x.mean()) - float(b.x.mean())) < 1


def test_a_scale_out_of_range_is_a_sentence(command, tmp_path):
    assert "--scale" in one_line(command("export_pairs", tmp_path, "--scale", 0))
