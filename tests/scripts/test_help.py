"""Every script answers --help, quickly and from any folder, names what it takes, and says how to give names like -a."""

import pytest
from processes import ROOT, python

from utils.cli import DASH

SCRIPTS = sorted(
    [
        *(path for path in (ROOT / "scripts").rglob("*.py") if "__main__" in path.read_text()),
        *(ROOT / name for name in ("train.py", "evaluate.py")),
    ]
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help(script, tmp_path):
    done = python("-W", "error::SyntaxWarning", script, "--help", cwd=tmp_path, env={"COLUMNS": "100"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage" in done.stdout.lower() and "--" in done.stdout and DASH in done.stdout
    assert list(tmp_path.iterdir()) == []
