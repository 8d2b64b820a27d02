"""On a terminal, whatever can take more than ten seconds shows how far it is and how long it will take."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_files import write_split
from image_files import write_pairs
from script_files import SCRIPTS, load_script

from data.sources import open_source, verify
from utils.report.rd import differences

TIME_LEFT = r"\d+/\d+ \[\d\d:\d\d<"


class Terminal(io.StringIO):
    """stderr as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def call(name: str, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """scripts/NAME.py with these arguments."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    load_script(name).main()


def test_looking_into_files(terminal: Terminal, tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", ["a", "b", "c"])
    verify(open_source("folder", split="train", root=tmp_path))
    assert re.search(r"checking train:.*" + TIME_LEFT, terminal.getvalue())


def test_exporting_pairs(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_split(tmp_path / "data", "val", ["a", "b"])
    given: list[Any] = [tmp_path / "out", "--dataset", "folder", "--data-root", root, "--split", "val"]
    call("export_pairs", *given, monkeypatch=monkeypatch)
    assert re.search(TIME_LEFT, terminal.getvalue())


def test_refreshing_documents(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "doc.md"
    document.write_text("<!-- run\necho one\necho two\n-->\n<!-- end -->\n")
    call("refresh_docs", document, monkeypatch=monkeypatch)
    assert "two\n<!-- end -->" in document.read_text()
    assert re.search(r"2/2 \[", terminal.getvalue()) and re.search(TIME_LEFT, terminal.getvalue())


def test_intervals_of_bd_rates(terminal: Terminal) -> None:
    def point(codec: str, rate: float) -> dict[str, Any]:
        quality = float(30 + 5 * np.log(rate))
        return {"codec": codec, "side": None, "steps": None, "gamma": None, "bpp": rate, "rate": rate,
                "metrics": {"psnr": {"mean": quality, "ci95": None, "n": 1}}}  # fmt: skip

    points = [point(codec, factor * rate) for codec, factor in (("ours", 1.0), ("jpeg", 2.0)) for rate in (1, 2, 3, 4)]
    assert len(differences(points)) == 1
    assert re.search(r"BD-rates:.*" + TIME_LEFT, terminal.getvalue())


def test_the_demo_lets_the_progress_of_its_steps_through() -> None:
    """A bar is one line until it ends: a filter of lines would hold it back, and hide a failure."""
    commands = re.sub(r"\\\n", "", (SCRIPTS / "demo.sh").read_text()).splitlines()
    steps = [line for line in commands if "train.py" in line or "evaluate.py" in line]
    assert steps and not any("|" in line or "2>" in line for line in steps if not line.startswith(("#", "say")))
