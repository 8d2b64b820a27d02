"""The study of steps and gamma on the command line."""

from __future__ import annotations

import sys

import pytest
from script_files import load_script


def test_rates_are_one_or_one_for_each_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything else would leave out a checkpoint, or give it the rate of another."""
    arguments = ["study_decoding.py", "--ckpt", "a", "b", "c", "--rate", "0.3", "0.4"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        load_script("study_decoding").main()
    assert "--rate has 2 values for 3 checkpoints" in capsys.readouterr().err
