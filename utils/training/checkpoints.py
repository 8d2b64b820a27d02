"""The checkpoints of a run: folders step_NNNNNNNN with the model and all that training carries from step to step.

Each appears complete or not at all, with the hashes of its files. Noise, order of the data and learning rate are
functions of the step, so weights, their moving average, the optimizers' moments and the loss scale are all there is to
carry. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from utils.checkpoint import MODEL_FILE, read_tensors
from utils.errors import CheckpointError, OutputError
from utils.files import MANIFEST, alteration, sync, write_manifest, writing

STATE_FILE = "training_state.safetensors"
REMEDY = "remove the folder to resume from the checkpoint before it"


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
    """What is wrong with a checkpoint folder, as a clause that names the file; None for a complete, unaltered one."""
    for path in (folder / MANIFEST, folder / MODEL_FILE, folder / STATE_FILE):
        if not path.is_file():
            return f"{path} is missing"
    return alteration(folder / MODEL_FILE) or alteration(folder / STATE_FILE)


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


def save_training_state(
    folder: Path,
    step: int,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    extra: dict[str, Any],
) -> None:
    """Write folder/training_state.safetensors. `extra`: JSON types that come back from `load_training_state`."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in modules.items():
        tensors |= {f"{prefix}.{k}": v for k, v in module.state_dict().items()}
    for prefix, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}.{index}.{k}": v for k, v in state.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    save_file(tensors, folder / STATE_FILE, {"step": str(step), "extra": json.dumps(extra)})


def load_training_state(
    folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
) -> tuple[int, dict[str, Any]]:
    """Fill modules and optimizers from a checkpoint folder; the step it was saved after, and `extra`.

    Raises CheckpointError if the file is damaged, something else, or of another architecture.
    """
    metadata, tensors = read_tensors(folder / STATE_FILE)
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in (*modules, *optimizers)}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        if part not in parts:
            raise CheckpointError(f"{folder / STATE_FILE} is no training state of this kind (it has {name}); {REMEDY}.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{folder / STATE_FILE} has values in {name} that are not finite; {REMEDY}.")
        parts[part][key] = tensor
    try:
        for part, module in modules.items():
            module.load_state_dict(parts[part])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"The training state in {folder} does not fit this configuration ({reason}).") from error
    for part, optimizer in optimizers.items():
        _load_optimizer(optimizer, part, parts[part], folder)
    try:
        return int(metadata["step"]), json.loads(metadata["extra"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / STATE_FILE} does not say which step it is of; {REMEDY}.") from error


def _load_optimizer(optimizer: torch.optim.Optimizer, part: str, tensors: dict[str, Tensor], folder: Path) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    packed = optimizer.state_dict()
    known = {str(index) for group in packed["param_groups"] for index in group["params"]}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        if index not in known or not key:
            raise CheckpointError(f"{folder / STATE_FILE} has a state of no parameter ({part}.{name}); {REMEDY}.")
        states.setdefault(int(index), {})[key] = tensor
    packed["state"] = states
    optimizer.load_state_dict(packed)
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.ndim and value.shape != parameter.shape:
                raise CheckpointError(f"The optimizer's state in {folder} is of other parameters; {REMEDY}.")
            if value.ndim:  # Laid out as the optimizer itself does, or every later step is slower.
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
