"""What one call costs besides time: floating-point operations and memory."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What is written to RESET to set the process's peak resident set size to its present one (man 5 proc)."""


def count_flops(function: Callable[[], object]) -> int:
    """Operations of the convolutions and matrix products of one call; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def peak_memory(function: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that one call adds, at its peak, to what is in memory before it; None where the system does not tell.

    On CUDA the memory of tensors there; on a CPU the resident set of the process (Linux), after freed memory has been
    given back to the system, so that what earlier calls left behind hides nothing. The call is made in any case.
    """
    gc.collect(1)  # What the last calls left in cycles; older objects are few, and a full collection takes a second.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back()
    resident = _reset_peak()
    function()
    peak = _status("VmHWM") if resident is not None else None
    return None if resident is None or peak is None else max(0, peak - resident)


def _reset_peak() -> int | None:
    """Forget the peak so far and return the resident bytes, None where that cannot be done."""
    try:
        RESET.write_text(RESET_PEAK)
        return _status("VmRSS")
    except OSError:
        return None


def _give_back() -> None:
    """Have the C library return freed memory, where it knows how."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(field: str) -> int | None:
    match = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    return None if match is None else 1024 * int(match[1])
