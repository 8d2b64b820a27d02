"""Codecs for `torch.hub`, from anywhere: `torch.hub.load(REPO, "small", source="local")`, REPO this folder.

Each checkpoint in checkpoints/ is an entry point; `codec` loads any other by its path. This repository's packages have
common names (utils, data, ...): they are imported aside, so that a caller's own of the same name stay as they are.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

dependencies = ["torch", "numpy", "safetensors", "compressai", "constriction"]

_ROOT = Path(__file__).resolve().parent
_NAMES = {path.stem for path in _ROOT.glob("*.py")} | {path.parent.name for path in _ROOT.glob("*/__init__.py")}
_modules: dict[str, ModuleType] = {}
"""Ours, once imported."""


@contextmanager
def _our_modules() -> Iterator[None]:
    """Within it, `import utils` and the like mean this repository's; afterwards what they meant before."""
    theirs = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in _NAMES}
    path = list(sys.path)
    sys.modules.update(_modules)
    sys.path.insert(0, str(_ROOT))
    try:
        yield
    finally:
        sys.path[:] = path
        _modules.update({name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in _NAMES})
        sys.modules.update(theirs)


def codec(path: str, device: str = "cpu") -> Any:
    """The codec of a run, a checkpoint folder or a model file, in evaluation mode; a `modules.codec.Codec`.

    `codec.compress(x, rate)` -> bytes and `codec.decompress(data, x_side)` -> x_hat, for x, x_side and x_hat float
    (3, H, W) in [0, 1] and rate in [0, 1]. Raises CheckpointError, with what to do, for another path.
    """
    with _our_modules():
        from utils.checkpoint import load_checkpoint

        return load_checkpoint(path, device).codec


def _released(folder: Path) -> Callable[[], Any]:
    def load(device: str = "cpu") -> Any:
        return codec(str(folder), device)

    load.__name__ = load.__qualname__ = folder.name
    load.__doc__ = f"The codec of checkpoints/{folder.name}, whose card (README.md) says what it is; see `codec`."
    return load


for _file in sorted(_ROOT.glob("checkpoints/*/model.safetensors")):
    globals()[_file.parent.name] = _released(_file.parent)
