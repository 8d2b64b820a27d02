"""Scripts of the project as modules, so that a test can call their functions in its own process."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def load_script(name: str) -> ModuleType:
    """scripts/NAME.py, fresh."""
    key = f"script_{name.replace('/', '_')}"
    spec = importlib.util.spec_from_file_location(key, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # Dataclasses look for their module there.
    spec.loader.exec_module(module)
    return module


def one_line(result: tuple[int, str, str]) -> str:
    """The sentence of a command that failed; everything else about its end is checked."""
    status, out, err = result
    assert status == 1 and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err
    return err
