"""Two trainings of two processes each at once on one machine: each launch finds a port of its own."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import ROOT, torchrun

from utils.training.checkpoints import damage, step_folders


@pytest.mark.slow
def test_two_trainings_at_once_end_both(folder_data: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda runs: torchrun("tests/worker_ids.py", str(folder_data), str(runs), "2"), folders)
        for runs, done in zip(folders, ends, strict=True):
            assert done.returncode == 0, done.stderr[-3000:]
            last = step_folders(runs / "resumed" / "checkpoints")[-1]
            assert (last.name, damage(last)) == ("step_00000002", None)


@pytest.mark.parametrize("file", ["README.md", "evaluate.py", "docs/reliability.md"])
def test_every_documented_torchrun_asks_for_a_free_port(file: str) -> None:
    """Without --standalone torchrun 2.4 takes port 29500, and the second of two launches fails."""
    commands = re.findall(r"torchrun (?=-).*", (ROOT / file).read_text())
    assert commands and all(command.startswith("torchrun --standalone ") for command in commands), commands
