"""On a terminal, whatever can take more than ten seconds shows how far it is and how long it will take."""

import io
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from evaluation_files import write_split
from image_files import write_pairs
from script_files import SCRIPTS, load_script

from data.sources import open_source, verify

TIME_LEFT = r"\d+/\d+ \[\d\d:\d\d<"


class Terminal(io.StringIO):
    """stderr as a terminal."""

    def isatty(self) -> bool:
        return True


def shown(function: Callable[[], object]) -> str:
    """What a call writes to a terminal."""
    screen = Terminal()
    with redirect_stderr(screen):
        function()
    return screen.getvalue()


def test_looking_into_files(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", ["a", "b", "c"])
    text = shown(lambda: verify(open_source("folder", split="train", root=tmp_path)))
    assert re.search(r"checking train:.*" + TIME_LEFT, text)


def test_exporting_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_split(tmp_path / "data", "val", ["a", "b"])
    given = [tmp_path / "out", "--dataset", "folder", "--data-root", root, "--split", "val"]
    monkeypatch.setattr(sys, "argv", ["export_pairs", *map(str, given)])
    assert re.search(TIME_LEFT, shown(load_script("export_pairs").main))


def test_the_demo_lets_the_progress_of_its_steps_through() -> None:
    """A bar is one line until it ends: a filter of lines would hold it back, and hide a failure."""
    commands = re.sub(r"\\\n", "", (SCRIPTS / "demo.sh").read_text()).splitlines()
    steps = [line for line in commands if "train.py" in line or "evaluate.py" in line]
    assert steps and not any("|" in line or "2>" in line for line in steps if not line.startswith(("#", "say")))
