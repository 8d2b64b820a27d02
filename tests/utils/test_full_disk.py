"""A disk that is full: one sentence that says where and what to do, no half-written file, the last good one intact."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from script_files import one_line
from tiny import tiny_config
from trainers import config_on, trainer

import train as training
from utils import cli
from utils.checkpoint import MODEL_FILE
from utils.errors import OutputError
from utils.evaluation.store import Row, Store
from utils.files import write_whole
from utils.run import RunFolder
from utils.training.checkpoints import damage, step_folders

FULL = Path("/dev/full")  # Linux's device on which every write ends with ENOSPC.
BEST = f"checkpoints/best/{MODEL_FILE}"
needs_dev_full = pytest.mark.skipif(not FULL.is_char_device(), reason="this system has no /dev/full")
pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("real", [True, False])
def test_a_full_disk_while_saving_leaves_the_last_checkpoint(folder_data: Path, tmp_path: Path, real: bool) -> None:
    run = trainer(config_on(folder_data, train={"save_every": 1}), tmp_path)
    save = training.save_training_state

    def full(folder: Path, step: int, *rest: Any) -> None:
        if step < 3:
            save(folder, step, *rest)
        elif real:
            with file_limit(1 << 20):
                save(folder, step, *rest)
        else:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with patch.object(training, "save_training_state", full), pytest.raises(OutputError) as caught:
        run.train()
    message = str(caught.value)
    assert "step_00000003 cannot be written" in message and "free some space" in message and "\n" not in message
    assert ("File too large" if real else "No space left") in message
    assert sorted(f.name for f in run.run.checkpoints.iterdir()) == ["step_00000001", "step_00000002"]
    assert [damage(folder) for folder in step_folders(run.run.checkpoints)] == [None, None]
    assert trainer(run.config, tmp_path).step == 2


@needs_dev_full
@pytest.mark.parametrize("name", ["metrics.jsonl", "samples/.step_00000001.png.tmp", BEST])
def test_a_full_disk_beside_the_checkpoints_is_one_sentence(folder_data: Path, tmp_path: Path, name: str) -> None:
    run = trainer(config_on(folder_data, train={"steps": 1}), tmp_path)
    if name != BEST:
        (run.run.path / name).symlink_to(FULL)
    no_best = patch("utils.checkpoint.save_file", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    expected = name.replace("/.", "/").removesuffix(".tmp") + r" cannot be written \(No space left"
    with no_best if name == BEST else nullcontext(), pytest.raises(OutputError, match=expected):
        run.train()
    assert not list(run.run.path.rglob("*.tmp"))


@needs_dev_full
def test_a_full_disk_under_the_log_and_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path, tiny_config("a"), writes=True)
    (run.path / "log.txt").symlink_to(FULL)
    with pytest.raises(OutputError, match=r"log\.txt cannot be written"):
        run.log("a sentence for the terminal at least")
    assert "at least" in capsys.readouterr().err
    run.open_events(0)
    full = OSError(errno.ENOSPC, "No space left on device")
    with patch.object(run._events, "add_scalar", side_effect=full), pytest.raises(OutputError, match="free some space"):
        run.metrics(1, {"a": 1.0})
    run.close_events()


@needs_dev_full
def test_a_full_disk_under_an_evaluation(tmp_path: Path) -> None:
    store = Store(tmp_path, ["a"])
    store.open({}, writes=True)
    store._log.symlink_to(FULL)
    with pytest.raises(OutputError, match=r"rows-0\.jsonl cannot be written \(No space left on device\); free some"):
        store.append(Row("p", 0, "a", 64, 64, 1, 8.0, 1.0, 1.0, [], {}))
    with file_limit(100), pytest.raises(OutputError, match="File too large"):
        store.write_bytes(tmp_path / "folder" / "image.png", bytes(1000))
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    with file_limit(100), pytest.raises(OutputError, match="free some space there, or raise the limit"):
        write_whole(tmp_path / "a", bytes(1000))
    assert (tmp_path / "a").read_bytes() == b"old" and list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_full_disk_anywhere_else_is_one_line_at_the_entry_point(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "report.html")

    with pytest.raises(SystemExit) as stop:
        cli.run(full)
    said = one_line((stop.value.code, *capsys.readouterr()))
    assert said.startswith("error: report.html cannot be written (No space left on device); free")

    def absent() -> int:
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    with pytest.raises(FileNotFoundError):  # Any other is a bug, and its traceback is wanted.
        cli.run(absent)
