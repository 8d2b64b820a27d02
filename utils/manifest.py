"""manifest.json of a folder: the size in bytes and the SHA-256 of every file in it, so that damage is noticed."""

from __future__ import annotations

import json
from pathlib import Path

from utils.files import sha256, sync

MANIFEST = "manifest.json"
FORMAT = 1


def write_manifest(folder: Path) -> None:
    """Write folder/manifest.json; before and after, wait until everything is on the disk."""
    files = {}
    for path in sorted(folder.iterdir()):
        sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, "files": files}, indent=2) + "\n")
    sync(manifest)
    sync(folder)


def alteration(path: Path) -> str | None:
    """How a file differs from what the manifest beside it says, as a clause that names the file.

    None if it does not differ, or if there is no manifest.
    """
    manifest = path.with_name(MANIFEST)
    if not manifest.exists():
        return None
    try:
        facts = json.loads(manifest.read_text())["files"][path.name]
        size, digest = int(facts["bytes"]), str(facts["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{manifest} is damaged or does not list {path.name}"
    try:
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes where {MANIFEST} says {size}"
        if sha256(path) != digest:
            return f"{path} is altered: its SHA-256 is not the one in {MANIFEST}"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None
