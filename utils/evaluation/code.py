"""Which code decides the figures, so that rows measured by another version never mix with these.

Pretrained weights are in it by their hashes, which stand in a file of `modules` and are checked when weights are
loaded; weights inside a library, by its version, which `utils.run.environment` names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DECIDING = (
    *("config.py", "data/**/*.py", "modules/**/*.py", "utils/*.py", "utils/coding/*.py", "utils/metrics/*.py"),
    *("utils/evaluation/*.py", "utils/training/precision.py"),
)
"""Files that read, code or measure; those that only train or show figures are not among them."""


def code_digest(root: Path = ROOT) -> str:
    """Of all project files that may decide a figure, by content and place below `root`."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in DECIDING for path in root.glob(pattern)}):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
