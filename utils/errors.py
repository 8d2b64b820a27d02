"""Errors that a user can act on: entry points print their one sentence and exit with status 1, no other is caught.

Failures that come from outside the program (a full disk, a process that died) have their sentences here as well.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

UNTRAINED_DENOISER = "its denoiser has not been trained (stage 1 trains the mean image): use gamma 0, or train stage 2."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOADER = "DataLoader worker"
_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "recvValue failed",
    "Socket Timeout",
    "Timed out waiting",
    "NCCL communicator was aborted",
    "remote process exited",
)
"""What gloo, NCCL and the rendezvous store say in a process whose partner is gone."""


class ProjectError(Exception):
    """Base class: the message is one sentence that says what is wrong, where, and what to do."""


class ConfigError(ProjectError, ValueError):
    """A configuration field, preset or command-line value is unknown or out of range."""


class DataError(ProjectError):
    """A data set, image or archive is missing, damaged or not what its name promises."""


class OutputError(ProjectError):
    """A file cannot be written: the disk is full, a quota or limit is reached, or the place refuses."""


class CheckpointError(ProjectError):
    """A checkpoint is missing, damaged, or not made by a compatible version."""


class BitstreamError(ProjectError):
    """A compressed file is truncated, altered, foreign, or belongs to another model."""


class WeightsError(ProjectError):
    """Pretrained weights that a loss or a metric needs cannot be had; the message gives the remedy."""


def refusal(path: Path | str, error: Exception) -> str:
    """The sentence for a write to `path` that ended with OSError, or with safetensors' own error for the same."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"os error (\d+)", str(error))):
        number = int(found[1])
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    remedy = (
        "free some space there, or raise the limit, and run the same command again"
        if number in _FULL
        else "choose another place or make its folder"
    )
    return f"{path} cannot be written ({reason}); {remedy}."


def loader_died(reason: str) -> str:
    """The sentence for a data-loader process that has died; `reason` is what PyTorch or the system says."""
    full = "if /dev/shm is full, enlarge it (docker: --shm-size=1g), or"
    memory = full if _of_shared_memory(reason) else "if memory ran out,"
    return (
        f"A process that loads data has died ({reason.rstrip('. ')}); {memory} lower data.workers or "
        "train.batch_size, and run the same command again: it goes on from the last checkpoint."
    )


def _of_shared_memory(reason: str) -> bool:
    # Batches wait in /dev/shm, and a write beyond the end of a full one is a bus error.
    return any(words in reason for words in ("Bus error", "shared memory", "/torch_"))


def explain(error: Exception) -> str | None:
    """The sentence for a full disk and for a dead data-loader worker or partner process; None for anything else."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _FULL:
        return refusal(error.filename or "A file", error)
    if _LOADER in text:
        # "Caught ... in DataLoader worker" comes with the worker's traceback, whose last line is its error.
        reason = str(error).strip().splitlines()[-1] if "Caught" in text else text
        return loader_died(reason) if reason == text or _of_shared_memory(reason) else None
    lost = next((text.index(words) for words in _LOST if words in text), None)
    if isinstance(error, RuntimeError) and lost is not None:
        said = text[lost:][:80].rstrip(". ")
        return (
            f"Another process of this command is gone ({said}); what it printed last says why: run the same "
            "command again, and it goes on from what was saved."
        )
    return None
