"""File names that a console cannot show, and names that look like options."""

import sys
from pathlib import Path

import pytest
from image_files import encode, noise, write
from processes import python
from script_files import SCRIPTS

from utils.cli import DASH, Parser

ROOT = SCRIPTS.parent
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
SAY = """
import sys
sys.path.insert(0, {root!r})
from utils.cli import run
run(lambda: [print({name}, file=stream) for stream in (sys.stdout, sys.stderr)] and None)
"""


@pytest.mark.parametrize("name", ["caf\u00e9.bin", "\u5de6.png", "\udce9.png"])
def test_a_console_that_lacks_the_letters(name: str) -> None:
    code = SAY.format(root=str(ROOT), name=ascii(name))
    done = python("-c", code, env=ASCII)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == done.stderr.strip() == name.encode("ascii", "backslashreplace").decode()


def test_a_whole_export_on_such_a_console(tmp_path: Path) -> None:
    """Its manifest is UTF-8 whatever the console's encoding is."""
    for folder in ("left", "right"):
        write(tmp_path / "in" / folder / "caf\u00e9.png", encode(noise()))
    folders = ["--dataset", "folder", "--data-root", tmp_path / "in", tmp_path / "\u5de6"]
    done = python(SCRIPTS / "export_pairs.py", *folders, env=ASCII)
    assert done.returncode == 0, done.stderr
    assert "caf\u00e9" in (tmp_path / "\u5de6" / "manifest.csv").read_text(encoding="utf-8")
    assert (tmp_path / "\u5de6" / "test" / "left" / "caf\u00e9.png").is_file()


def parser() -> Parser:
    made = Parser("Codes.")
    made.add_argument("image")
    made.add_argument("file")
    made.add_argument("--side")
    made.add_argument("--rate", type=float)
    return made


def test_names_that_begin_with_a_dash_are_accepted() -> None:
    for arguments in (
        ["--rate", "0.5", "--side=-r.png", "--", "-a.png", "-h.bin"],
        ["--side=-r.png", "--", "-a.png", "-h.bin"],
    ):
        found = parser().parse_args(arguments)
        assert (found.image, found.file, found.side) == ("-a.png", "-h.bin", "-r.png")
    assert parser().parse_args(["./-a.png", "b", "--side", "./-r.png"]).side == "./-r.png"


@pytest.mark.parametrize(
    "arguments", [["-a.png", "b.bin"], ["a.png", "-b.bin"], ["a.png", "b.bin", "--side", "-r.png"]]
)
def test_the_usage_error_says_how(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["codes", *arguments])
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args()
    assert stopped.value.code == 2 and capsys.readouterr().err.endswith(f". {DASH}\n")
