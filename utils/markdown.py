"""Reports of the studies, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.files import write_whole, writing


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def publish(lines: Sequence[str], out: Path | None) -> None:
    """Print a report, and write it to `out`, whose folder is made."""
    print("\n".join(lines))
    if out is not None:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
