"""On a terminal, whatever can take more than ten seconds shows how far it is and how long it will take."""

import io
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from evaluation_files import write_split, write_untrained
from image_files import encode, noise, write_pairs
from script_files import SCRIPTS, load_script

from config import Config
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


def call(script: str, *given: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's main with these words on its command line."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, given)])
    load_script(script).main()


def test_looking_into_files(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", ["a", "b", "c"])
    text = shown(lambda: verify(open_source("folder", split="train", root=tmp_path)))
    assert re.search(r"checking train:.*" + TIME_LEFT, text)


def test_exporting_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_split(tmp_path / "data", "val", ["a", "b"])
    given = [tmp_path / "out", "--dataset", "folder", "--data-root", root, "--split", "val"]
    assert re.search(TIME_LEFT, shown(lambda: call("export_pairs", *given, monkeypatch=monkeypatch)))


@pytest.mark.parametrize("budget", [["--rate", "0.5"], pytest.param(["--bytes", "1000000"], marks=pytest.mark.slow)])
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
    assert " 0/3 [" in decoding and " 0/2 [" in decoding  # Three strips, two steps.


def test_the_demo_lets_the_progress_of_its_steps_through() -> None:
    """A bar is one line until it ends: a filter of lines would hold it back, and hide a failure."""
    commands = re.sub(r"\\\n", "", (SCRIPTS / "demo.sh").read_text()).splitlines()
    steps = [line for line in commands if "train.py" in line or "evaluate.py" in line]
    assert steps and not any("|" in line or "2>" in line for line in steps if not line.startswith(("#", "say")))
