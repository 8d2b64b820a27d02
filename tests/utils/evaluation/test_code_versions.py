"""The digest of the code that measures: every file that decides a figure is in it, and none that only shows one."""

import ast
import re
import shutil
from pathlib import Path

import numpy
import pytest

from utils.evaluation.code import DECIDING, ROOT, code_digest
from utils.run import environment

MEASURING = ("data/sources.py", "utils/evaluation/sweep.py", "utils/evaluation/summary.py")
"""What `evaluate` calls to read, code, measure and average; what it imports decides figures as well."""


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


def imported(file: Path) -> set[Path]:
    """The project's files that a file's code imports, at its top, in a function, or by a name in a string."""
    names = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0, f"{file} has a relative import"
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"(modules|utils|data)(\.\w+)+", str(node.value)):
            names.add(str(node.value))
    places = [ROOT / name.replace(".", "/") for name in names]
    return {file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}


def test_a_change_of_any_file_that_measuring_imports_is_seen(copy: Path) -> None:
    reached, waiting = set[Path](), {ROOT / name for name in MEASURING}
    while waiting:
        reached |= waiting
        waiting = {file for known in waiting for file in imported(known)} - reached
    names = {file.relative_to(ROOT).as_posix() for file in reached}
    assert names >= {"data/images.py", "modules/pretrained/weights.py", "modules/published/cdc.py", "data/tensors.py"}
    assert names >= {f"utils/metrics/{name}.py" for name in ("image", "deep", "sets", "suite", "bootstrap")}
    original = code_digest(copy)
    unseen = {name for name in names if not (copy / name).is_file() or changed(copy / name) == original}
    assert not unseen


@pytest.mark.parametrize("name", ["utils/report/page.py", "utils/report/rd.py", "utils/training/optimisation.py"])
def test_a_change_of_the_report_or_of_training_measures_nothing_anew(copy: Path, name: str) -> None:
    assert changed(copy / name) == code_digest(copy)


def test_the_libraries_that_compute_figures_are_named_with_their_versions() -> None:
    found = environment()["packages"]
    assert found["numpy"] == numpy.__version__ and None not in found.values()
