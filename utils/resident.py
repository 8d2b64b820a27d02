"""How much memory processes hold, as Linux tells in /proc; nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
_GROUP, _PAGES = 2, 21
"""Places of process group and resident pages in /proc/PID/stat, counted from the state (man 5 proc)."""


def peak_resident() -> int | None:
    """The largest resident set of this process so far, in bytes; None where the system does not tell.

    Not `ru_maxrss`, which a process inherits from the one that started it.
    """
    try:
        match = re.search(r"^VmHWM:\s+(\d+) kB", (PROC / "self" / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if match is None else 1024 * int(match[1])


def group_members(group: int) -> list[int]:
    """The ids of the processes of a process group that have not ended; none where the system does not tell."""
    return [number for number, _ in _group(group)]


def group_resident(group: int) -> int:
    """Bytes that the processes of a group have resident, summed: pages that they share count once for each."""
    return sum(pages for _, pages in _group(group)) * os.sysconf("SC_PAGE_SIZE")


def _group(group: int) -> Iterator[tuple[int, int]]:
    for path in PROC.glob("[0-9]*/stat"):
        try:
            state, *fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # It has ended meanwhile.
            continue
        if int(fields[_GROUP - 1]) == group and state != "Z":
            yield int(path.parent.name), int(fields[_PAGES - 1])
