"""Where the time goes: the operators that take most of it in our encode and decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from utils.benchmark.ours import NAME
from utils.benchmark.subjects import Subject

CALLS = 3
ROWS = 20


def top_operators(subjects: list[Subject], device: torch.device) -> Iterator[tuple[str, str]]:
    """(what, table of its top operators) for encoding and decoding, without their parts, after one call to warm up."""
    for subject in subjects:
        if subject.codec == NAME and "." not in subject.operation:
            subject.run()
            yield f"{subject.key}, {CALLS} calls", _profiled(subject.run, device)


def _profiled(function: Callable[[], object], device: torch.device) -> str:
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for _ in range(CALLS):
            function()
    order = f"self_{device.type}_time_total"
    return str(profiler.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=40))
