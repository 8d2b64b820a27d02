"""Which code and which libraries decide the figures, so that rows measured by another version never mix with these.

The rule: every project file that imports lead to from the modules that read, code and measure, wherever in a file the
import stands, and every library that these files import. Nothing is run and no path is looked at but those below the
root, so the answer is the same for every entry point and in every folder. Pretrained weights are in it by their hashes,
which stand in a file that the metrics import and are checked when weights are loaded; weights inside a library, by its
version.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[__name__.count(".")]


def code_digest(starts: Sequence[str], root: Path = _ROOT) -> str:
    """Of all files below `root` that the modules `starts` (dotted names) lead to. Raises ValueError; see `reach`."""
    digest = hashlib.sha256()
    for name, file in sorted(reach(starts, root)[0].items()):
        digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def library_versions(starts: Sequence[str]) -> dict[str, str]:
    """The versions of the installed libraries that the same files import, by the names that pip knows."""
    installed = packages_distributions()
    names = {found for library in reach(starts)[1] for found in installed.get(library, ())}
    return {name: version(name) for name in sorted(names)}


def reach(starts: Sequence[str], root: Path = _ROOT) -> tuple[dict[str, Path], set[str]]:
    """The project's modules that `starts` lead to, with their files, and the names of the libraries they import.

    Raises ValueError for a start that is no module of the project.
    """
    files: dict[str, Path] = {}
    libraries: set[str] = set()
    todo, seen = list(starts), set[str]()
    if unknown := [name for name in starts if _file(name, root) is None]:
        raise ValueError(f"{root} has no module {', '.join(unknown)}.")
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        package = name.rpartition(".")[0]
        if package:
            todo.append(package)  # importing a.b runs a/__init__.py too
        if file := _file(name, root):
            files[name] = file
            imported, named = _names(file.read_bytes(), name if file.name == "__init__.py" else package)
            todo += imported
            todo += [text for text in named if _file(text, root)]
        elif not package and name not in sys.stdlib_module_names:
            libraries.add(name)
    return files, libraries


@cache
def _names(source: bytes, package: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a file of `package` imports, and its strings that could be names for importlib.import_module.

    The names are dotted; one that is no module (`from a import b`) leads nowhere.
    """
    imported, named = [], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            imported += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            named.append(node.value)
    return tuple(imported), tuple(named)


def _file(name: str, root: Path) -> Path | None:
    """The file of a module of the project; None if it has none, or if the text is no module's name."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    path = root.joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
