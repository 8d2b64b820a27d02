"""Exact resuming: everything training carries from one step to the next, without pickling.

Noise, order of the data and learning rate are functions of the step, so weights, their moving average, the optimizer's
moments and the loss scale are all there is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from utils.checkpoint import read_tensors
from utils.errors import CheckpointError

STATE_FILE = "training_state.safetensors"
REMEDY = "remove the folder to resume from the checkpoint before it"


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
