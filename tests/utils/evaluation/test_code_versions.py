"""The digest of the code that measures: every file that decides a figure is in it, and none that only shows one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy
import pytest

from utils.evaluation.code import DECIDING, ROOT, code_digest
from utils.run import environment


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the digest may be of, elsewhere, so that a test can change them."""
    root = tmp_path_factory.mktemp("somewhere") / "else"
    for file in [file for pattern in (*DECIDING, "utils/*/*.py") for file in ROOT.glob(pattern)]:
        target = root / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return root


def changed(file: Path) -> str:
    """The digest while a file of the copy is another."""
    before = file.read_bytes()
    file.write_bytes(before + b"\n# changed\n")
    try:
        return code_digest(next(parent for parent in file.parents if parent.name == "else"))
    finally:
        file.write_bytes(before)


def test_the_digest_is_of_the_content_not_of_the_place(copy: Path) -> None:
    assert code_digest(copy) == code_digest()


@pytest.mark.parametrize(
    "name",
    [
        *("config.py", "data/images.py", "data/files/kitti.py", "modules/codec.py", "modules/pretrained/weights.py"),
        *("utils/images.py", "utils/metrics/deep.py", "utils/evaluation/anchors.py", "utils/training/precision.py"),
    ],
)
def test_a_change_of_a_file_that_decides_a_figure_is_seen(copy: Path, name: str) -> None:
    assert changed(copy / name) != code_digest(copy)


@pytest.mark.parametrize("name", ["utils/report/page.py", "utils/report/rd.py", "utils/training/optimisation.py"])
def test_a_change_of_the_report_or_of_training_measures_nothing_anew(copy: Path, name: str) -> None:
    assert changed(copy / name) == code_digest(copy)


def test_the_libraries_that_compute_figures_are_named_with_their_versions() -> None:
    found = environment()["packages"]
    assert found["numpy"] == numpy.__version__ and None not in found.values()
