"""Two trainings of two processes each at once on one machine: each launch finds a port of its own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import torchrun

from utils.training.checkpoints import damage, step_folders


@pytest.mark.slow
def test_two_trainings_at_once_end_both(folder_data: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda runs: torchrun("tests/worker.py", "noting", str(folder_data), str(runs), "2"), folders)
        for runs, done in zip(folders, ends, strict=True):
            assert done.returncode == 0, done.stderr[-3000:]
            last = step_folders(runs / "resumed" / "checkpoints")[-1]
            assert (last.name, damage(last)) == ("step_00000002", None)
