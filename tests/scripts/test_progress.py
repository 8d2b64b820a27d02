"""On a terminal, whatever can take more than ten seconds shows how far it is and how long it will take."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_files import write_split, write_untrained
from image_files import encode, noise, write_pairs
from script_files import SCRIPTS, load_script

from config import Config
from data.sources import open_source, verify
from utils.report.rd import differences

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


def call(name: str, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """scripts/NAME.py with these arguments."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    load_script(name).main()


def test_looking_into_files(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", ["a", "b", "c"])
    text = shown(lambda: verify(open_source("folder", split="train", root=tmp_path)))
    assert re.search(r"checking train:.*" + TIME_LEFT, text)


def test_exporting_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_split(tmp_path / "data", "val", ["a", "b"])
    given: list[Any] = [tmp_path / "out", "--dataset", "folder", "--data-root", root, "--split", "val"]
    assert re.search(TIME_LEFT, shown(lambda: call("export_pairs", *given, monkeypatch=monkeypatch)))


@pytest.mark.parametrize("budget", [["--rate", "0.5"], ["--bytes", "1000000"]])
def test_one_large_picture(budget: list[str], tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of the picture, steps of decoding, and the rate levels that are tried for a budget."""
    monkeypatch.setattr("utils.cli.DELAY", 0)
    source, side, file = tmp_path / "x.png", tmp_path / "side.png", tmp_path / "x.bin"
    for path in (source, side):
        path.write_bytes(encode(noise(320, 64, 0)))
    rows = ["--ckpt", write_untrained(tmp_path / "ckpt", tiny), "--tile-rows", 192]
    encoding = shown(lambda: call("compress", source, file, *rows, *budget, monkeypatch=monkeypatch))
    assert re.search(r"encoding:.*" + TIME_LEFT, encoding)
    assert bool(re.search(r"rate levels:.*" + TIME_LEFT, encoding)) == ("--bytes" in budget)
    given = [file, tmp_path / "x_hat.png", "--side", side, *rows, "--steps", 2, "--gamma", 1]
    decoding = shown(lambda: call("decompress", *given, monkeypatch=monkeypatch))
    assert re.search(r"decoding: 100%.* 3/3 \[\d\d:\d\d<", decoding) and " 0/2 [" in decoding


def test_refreshing_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "doc.md"
    document.write_text("<!-- run\necho one\necho two\n-->\n<!-- end -->\n")
    text = shown(lambda: call("refresh_docs", document, monkeypatch=monkeypatch))
    assert "two\n<!-- end -->" in document.read_text()
    assert re.search(r"2/2 \[", text) and re.search(TIME_LEFT, text)


def test_intervals_of_bd_rates() -> None:
    def point(codec: str, rate: float) -> dict[str, Any]:
        quality = float(30 + 5 * np.log(rate))
        return {"codec": codec, "side": None, "steps": None, "gamma": None, "bpp": rate, "rate": rate,
                "metrics": {"psnr": {"mean": quality, "ci95": None, "n": 1}}}  # fmt: skip

    points = [point(codec, factor * rate) for codec, factor in (("ours", 1.0), ("jpeg", 2.0)) for rate in (1, 2, 3, 4)]
    assert re.search(r"BD-rates:.*" + TIME_LEFT, shown(lambda: differences(points)))


def test_the_demo_lets_the_progress_of_its_steps_through() -> None:
    """A bar is one line until it ends: a filter of lines would hold it back, and hide a failure."""
    commands = re.sub(r"\\\n", "", (SCRIPTS / "demo.sh").read_text()).splitlines()
    steps = [line for line in commands if "train.py" in line or "evaluate.py" in line]
    assert steps and not any("|" in line or "2>" in line for line in steps if not line.startswith(("#", "say")))
