"""The checkpoint folders of a run, step_NNNNNNNN: each appears complete or not at all, with the hashes of its files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.checkpoint import MODEL_FILE, read_tensors
from utils.errors import CheckpointError, OutputError
from utils.files import sync, writing
from utils.manifest import MANIFEST, alteration, write_manifest
from utils.training.training_state import STATE_FILE


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """A temporary folder for the block to write a checkpoint's files into; after the block it becomes `folder`.

    Everything is on the disk before it gets its name. If the block fails, nothing is left of the temporary folder.
    Raises OutputError if the disk is full or the place refuses.
    """
    temporary = folder.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with writing(folder):
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary)
            _remove(folder)  # A damaged one of the same step, which was skipped on resuming.
            temporary.rename(folder)
            sync(folder.parent)
    except OutputError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OutputError(f"The checkpoints before it are intact, but {error}") from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def step_folders(checkpoints: Path) -> list[Path]:
    """The folders step_NNNNNNNN, oldest first, complete or not; those that a save left unfinished end in .tmp."""
    return sorted(f for f in checkpoints.glob("step_*") if f.name.removeprefix("step_").isdecimal() and f.is_dir())


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, as a clause that names the file; None for a complete, unaltered one.

    A folder without a manifest, from before there were any, counts as good if its files can be read.
    """
    check = alteration if (folder / MANIFEST).exists() else _unreadable
    for path in (folder / MODEL_FILE, folder / STATE_FILE):
        if not path.is_file():
            return f"{path} is missing"
        if reason := check(path):
            return reason
    return None


def _unreadable(path: Path) -> str | None:
    try:
        read_tensors(path)
    except CheckpointError as error:
        return str(error).split(";")[0]
    return None


def newest_good(checkpoints: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest complete checkpoint folder; `warn` gets a sentence for each damaged one that is skipped.

    None if there is no folder at all. Raises CheckpointError if there are some and all are damaged.
    """
    first = ""
    for folder in reversed(step_folders(checkpoints)):
        reason = damage(folder)
        if reason is None:
            return folder
        first = first or reason
        warn(f"warning: {reason}; {folder.name} is skipped for the checkpoint before it")
    if first:
        raise CheckpointError(
            f"No checkpoint in {checkpoints} can be used (of the newest, {first}); restore one from a copy, or delete "
            "the run's folder to start afresh."
        )
    return None


def prune(checkpoints: Path, keep: int) -> None:
    """Remove all but the last `keep` step folders, and the newest good one in any case."""
    folders = step_folders(checkpoints)
    good = next((folder for folder in reversed(folders) if damage(folder) is None), None)
    for folder in folders[:-keep]:
        if folder != good:
            _remove(folder)


def sweep_up(checkpoints: Path) -> None:
    """Remove what a killed process left unfinished: folders and files whose names end in .tmp."""
    for path in [*checkpoints.glob("*.tmp"), *checkpoints.glob("best/*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _remove(folder: Path) -> None:
    """Remove a folder that may be absent; a process killed meanwhile leaves no half of it under its name."""
    if folder.exists():
        dying = folder.with_name(folder.name + ".removed.tmp")
        shutil.rmtree(dying, ignore_errors=True)
        folder.rename(dying)
        shutil.rmtree(dying)
