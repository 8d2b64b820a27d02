"""Checkpoint folders: whole or absent, checked by hash, and the last good one outlives damage and pruning."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from utils.checkpoint import MODEL_FILE
from utils.errors import CheckpointError
from utils.files import MANIFEST
from utils.training.checkpoints import STATE_FILE, damage, newest_good, prune, publish, step_folders, sweep_up


def write(checkpoints: Path, *steps: int) -> list[Path]:
    """Checkpoint folders with two small files each."""
    folders = [checkpoints / f"step_{step:08d}" for step in steps]
    for step, folder in zip(steps, folders, strict=True):
        with publish(folder) as temporary:
            for name in (MODEL_FILE, STATE_FILE):
                save_file({"weights": torch.full((100,), float(step))}, temporary / name)
    return folders


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES: list[tuple[str, Callable[[Path], None], str]] = [
    (STATE_FILE, cut, "bytes where manifest.json says"),
    (STATE_FILE, flip, "SHA-256"),
    (MODEL_FILE, flip, "SHA-256"),
    (MODEL_FILE, Path.unlink, "is missing"),
    (MANIFEST, cut, "is damaged"),
    (MANIFEST, lambda path: path.write_text('{"files": {}}'), "does not list"),
]


@pytest.mark.parametrize(("name", "spoil", "reason"), DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_a_sentence(tmp_path, name, spoil, reason):
    first, second, third = write(tmp_path, 1, 2, 3)
    warnings: list[str] = []
    assert newest_good(tmp_path, warnings.append) == third and not warnings
    spoil(third / name)
    spoil(second / name)
    assert newest_good(tmp_path, warnings.append) == first
    assert len(warnings) == 2
    assert str(third / name) in warnings[0] and reason in warnings[0] and "step_00000003 is skipped" in warnings[0]


def test_all_damaged_is_an_error_and_none_is_a_new_run(tmp_path: Path) -> None:
    assert newest_good(tmp_path, pytest.fail) is None
    for folder in write(tmp_path, 1, 2):
        flip(folder / STATE_FILE)
    with pytest.raises(CheckpointError, match=r"step_00000002.*is altered.*start afresh"):
        newest_good(tmp_path, lambda _: None)


def test_a_save_that_fails_leaves_nothing_and_a_killed_one_is_no_checkpoint(tmp_path: Path) -> None:
    (good,) = write(tmp_path, 1)
    with pytest.raises(KeyError), publish(tmp_path / "step_00000002") as temporary:
        (temporary / MODEL_FILE).touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == [good]
    shutil.copytree(good, tmp_path / "step_00000002.tmp")
    shutil.copytree(good, tmp_path / "best")
    (tmp_path / "best" / "model.safetensors.tmp").touch()
    assert step_folders(tmp_path) == [good]
    sweep_up(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["best", "step_00000001"]
    assert not (tmp_path / "best" / "model.safetensors.tmp").exists()


def test_a_damaged_folder_is_replaced_by_the_same_step(tmp_path: Path) -> None:
    (folder,) = write(tmp_path, 1)
    flip(folder / STATE_FILE)
    write(tmp_path, 1)
    assert damage(folder) is None and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(("damaged", "left"), [((), (4, 5)), ((5,), (4, 5)), ((4, 5), (3, 4, 5))])
def test_pruning_spares_the_newest_good_one(tmp_path: Path, damaged: tuple[int, ...], left: tuple[int, ...]) -> None:
    folders = write(tmp_path, 1, 2, 3, 4, 5)
    for step in damaged:
        flip(folders[step - 1] / STATE_FILE)
    prune(tmp_path, 2)
    assert list(tmp_path.iterdir()) and step_folders(tmp_path) == [folders[step - 1] for step in left]


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    rename = Path.rename
    monkeypatch.setattr("utils.files.sync", lambda path: order.append(path.name))
    monkeypatch.setattr("utils.training.checkpoints.sync", lambda path: order.append(path.name))
    monkeypatch.setattr(Path, "rename", lambda path, to: (order.append("rename"), rename(path, to))[1])
    write(tmp_path, 1)
    assert order == [MODEL_FILE, STATE_FILE, MANIFEST, "step_00000001.tmp", "rename", tmp_path.name]
