"""Runs that are killed again and again end as if nothing had happened; and the comparison sees what differs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from utils.checkpoint import MODEL_FILE
from utils.crashes import Evaluation, Training
from utils.training_state import STATE_FILE

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["training", "evaluation"])
def test_a_killed_run_ends_like_one_in_one_go(subject: str) -> None:
    flags = ["--evaluation"] if subject == "evaluation" else []
    done = subprocess.run(
        [sys.executable, "scripts/crash_test.py", "--kills", "3", *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert sum(line.startswith("kill ") for line in lines) == 3
    closing = re.fullmatch(
        rf"3 kills, (\d+) identical of (\d+) runs that ended \({subject}, seed 0, \d+ s\)", lines[-1]
    )
    assert closing is not None and closing[1] == closing[2] != "0"


def test_the_comparison_of_training_runs_sees_one_bit(tmp_path: Path) -> None:
    run = tmp_path / "whole" / "tiny"
    for folder, names in (("step_00000012", (MODEL_FILE, STATE_FILE)), ("best", (MODEL_FILE,))):
        (run / "checkpoints" / folder).mkdir(parents=True)
        for name in names:
            save_file({"weights": torch.ones(4)}, run / "checkpoints" / folder / name)
    (run / "metrics.jsonl").write_text('{"step": 12, "val/loss": 1.0}\n')
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "whole", other)
    training = Training()
    assert training.difference(tmp_path / "whole", other) is None
    (other / "tiny" / "metrics.jsonl").write_text('{"step": 12, "val/loss": 1.5}\n')
    assert training.difference(tmp_path / "whole", other) == "metrics.jsonl differs"
    changed = torch.ones(4)
    changed[2] = 1 + 2**-23
    save_file({"weights": changed}, other / "tiny" / "checkpoints" / "step_00000012" / STATE_FILE)
    assert "weights in tiny/checkpoints/step_00000012" in str(training.difference(tmp_path / "whole", other))


def test_the_comparison_of_evaluations_leaves_out_times_only(tmp_path: Path) -> None:
    def write(name: str, bpp: float, milliseconds: float) -> Path:
        out = tmp_path / name
        out.mkdir()
        (out / "summary.json").write_text(json.dumps({"points": [{"bpp": bpp, "encode_ms": milliseconds}]}))
        (out / "images.csv").write_text(f"id,bpp,decode_ms\na,0.5,{milliseconds}\n")
        return out

    evaluation = Evaluation.__new__(Evaluation)
    whole = write("whole", 0.5, 3.0)
    assert evaluation.difference(whole, write("later", 0.5, 4.0)) is None
    assert evaluation.difference(whole, write("other", 0.25, 3.0)) == "summary.json differs"
    table = write("table", 0.5, 3.0)
    (table / "images.csv").write_text("id,bpp,decode_ms\nb,0.5,3.0\n")
    assert evaluation.difference(whole, table) == "images.csv differs"
