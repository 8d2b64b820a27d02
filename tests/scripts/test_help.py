"""Every script answers --help, quickly and from any folder, and names what it takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    [
        *(path for path in (ROOT / "scripts").rglob("*.py") if "__main__" in path.read_text()),
        *(ROOT / name for name in ("train.py", "evaluate.py") if (ROOT / name).is_file()),
    ]
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", str(script), "--help"],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "100", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage" in done.stdout.lower() and "--" in done.stdout
    assert list(tmp_path.iterdir()) == []
