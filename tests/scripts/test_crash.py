"""Runs that are killed again and again end as if nothing had happened; and the crash test sees what differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scripts.stress import crash_test
from scripts.stress.crash_test import STEPS, Evaluation, Training
from scripts.stress.crashes import Kill, Outcome
from utils.checkpoint import MODEL_FILE
from utils.training.checkpoints import STATE_FILE

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "stress" / "crash_test.py"


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["training", "evaluation"])
def test_a_killed_run_ends_like_one_in_one_go(subject: str, tmp_path: Path) -> None:
    flags = ["--evaluation"] if subject == "evaluation" else []
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "3", "--out", str(tmp_path / "table.md"), *flags],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert sum(line.startswith("kill ") for line in done.stderr.splitlines()) == 3
    *text, last = done.stdout.splitlines()
    assert text == (tmp_path / "table.md").read_text().splitlines() and text[-1].startswith("| all | 3 | 3 |")
    summary = json.loads(last)
    assert summary["subject"] == subject and summary["kills"] == summary["identical"] == 3
    assert summary["runs_ended"] == summary["runs_identical"] > 0 and sum(summary["phases"].values()) == 3


# ---------------------------------------------------------------- what is compared


def training_run(root: Path) -> Path:
    """What `difference` looks at of a finished run."""
    run = root / "tiny"
    for folder, names in ((f"step_{STEPS:08d}", (MODEL_FILE, STATE_FILE)), ("best", (MODEL_FILE,))):
        (run / "checkpoints" / folder).mkdir(parents=True)
        for name in names:
            save_file({"weights": torch.ones(4)}, run / "checkpoints" / folder / name, {"step": "12"})
    (run / "metrics.jsonl").write_text('{"step": 12, "val/loss": 1.0}\n')
    (run / "log.txt").write_text("2026-01-01 00:00:00 done\n")
    (run / "samples").mkdir()
    (run / "samples" / "step_00000012.png").write_bytes(b"png")
    return root


def test_the_comparison_of_training_runs_sees_one_bit(tmp_path: Path) -> None:
    whole, training = training_run(tmp_path / "whole"), Training()
    other = tmp_path / "other"

    def afresh() -> Path:
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(whole, other)
        return other / "tiny"

    afresh().joinpath("log.txt").write_text("2026-01-01 00:00:00 resumed after step 2 from here\n")
    (other / "tiny" / "events.out.tfevents.1.0").write_bytes(b"events")
    assert training.difference(whole, other) is None
    afresh().joinpath("metrics.jsonl").write_text('{"step": 12, "val/loss": 1.5}\n')
    assert training.difference(whole, other) == "tiny/metrics.jsonl differs"
    afresh().joinpath("samples", "step_00000012.png").write_bytes(b"gnp")
    assert training.difference(whole, other) == "tiny/samples/step_00000012.png differs"
    afresh().joinpath("checkpoints", "step_00000010.tmp").write_bytes(b"left over")
    assert training.difference(whole, other) == "tiny/checkpoints/step_00000010.tmp is only in one of them"
    changed = torch.ones(4)
    changed[2] = 1 + 2**-23
    for file in (f"step_{STEPS:08d}/{MODEL_FILE}", f"step_{STEPS:08d}/{STATE_FILE}", f"best/{MODEL_FILE}"):
        save_file({"weights": changed}, afresh() / "checkpoints" / file, {"step": "12"})
        assert training.difference(whole, other) == f"weights in tiny/checkpoints/{file} differs"
        save_file({"weights": torch.ones(4)}, afresh() / "checkpoints" / file, {"step": "11"})
        assert training.difference(whole, other) == f"metadata in tiny/checkpoints/{file} differs"


def evaluation_run(out: Path, bpp: float = 0.5, milliseconds: float = 3.0, stream: bytes = b"bits") -> Path:
    """What `difference` looks at of a finished evaluation."""
    for folder in ("bitstreams/ours", "work"):
        (out / folder).mkdir(parents=True)
    (out / "summary.json").write_text(json.dumps({"points": [{"bpp": bpp, "encode_ms": milliseconds}]}))
    (out / "images.csv").write_text(f"id,bpp,decode_ms\na,{bpp},{milliseconds}\n")
    (out / "bitstreams" / "ours" / "a.bin").write_bytes(stream)
    return out


def test_the_comparison_of_evaluations_leaves_out_times_only(tmp_path: Path) -> None:
    evaluation = Evaluation.__new__(Evaluation)
    whole = evaluation_run(tmp_path / "whole")
    assert evaluation.difference(whole, evaluation_run(tmp_path / "later", milliseconds=4.0)) is None
    assert evaluation.difference(whole, evaluation_run(tmp_path / "rate", bpp=0.25)) == "summary.json differs"
    table = evaluation_run(tmp_path / "table")
    (table / "images.csv").write_text("id,bpp,decode_ms\nb,0.5,3.0\n")
    assert evaluation.difference(whole, table) == "images.csv differs"
    stream = evaluation_run(tmp_path / "stream", stream=b"bytes")
    assert evaluation.difference(whole, stream) == "bitstreams/ours/a.bin differs"
    (stream / "bitstreams" / "ours" / "a.bin").rename(stream / "bitstreams" / "ours" / "a.bin.tmp")
    assert evaluation.difference(whole, stream) == "bitstreams/ours/a.bin is only in one of them"


# ---------------------------------------------------------------- when it was killed, and what was lost


def test_the_phase_of_training_is_told_from_what_this_start_has_written(tmp_path: Path) -> None:
    training, folder = Training(), tmp_path / "tiny"
    checkpoints = folder / "checkpoints"
    (checkpoints / "best").mkdir(parents=True)
    since = time.time() - 10

    def phase(*steps: str) -> str:
        (folder / "metrics.jsonl").write_text("".join(f"{step}\n" for step in steps))
        return training.phase(tmp_path, tmp_path, since)

    assert training.phase(tmp_path, tmp_path, since) == phase() == "starting up"
    assert phase('{"step": 3}') == phase('{"step": 5}', '{"step": 5, "val/loss": 1}') == "training"
    assert phase('{"step": 5}') == phase('{"step": 12}') == "validating"
    left = checkpoints / "step_00000002.tmp"
    left.mkdir()
    assert phase('{"step": 3}') == "writing a checkpoint"
    assert training.phase(tmp_path, tmp_path, time.time() + 10) == "starting up"  # All of that is older than the start.
    left.rename(checkpoints / "step_00000002.removed.tmp")
    assert phase('{"step": 3}') == "removing an old checkpoint"
    (checkpoints / "step_00000002.removed.tmp").rmdir()
    (checkpoints / "best" / f"{MODEL_FILE}.tmp").write_bytes(b"half")
    assert phase('{"step": 5}', '{"step": 5, "val/loss": 1}') == "writing a checkpoint"
    (checkpoints / "best" / f"{MODEL_FILE}.tmp").unlink()
    (folder / "log.txt").write_text("2026-01-01 00:00:00 resumed after step 4 from folder\n")
    assert phase('{"step": 4}') == "starting up" and phase('{"step": 6}') == "training"
    (checkpoints / "step_00000012").mkdir()
    assert phase('{"step": 12}', '{"step": 12, "val/loss": 1}') == "ending"


def test_steps_done_again_are_those_since_the_checkpoint_that_the_run_went_on_from(tmp_path: Path) -> None:
    training, folder = Training(), tmp_path / "tiny"
    assert training.done(tmp_path) == training.repeated(tmp_path, 0) == 0
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 6}\n{"step": 7}\n{"ste')
    assert training.done(tmp_path) == training.repeated(tmp_path, 7) == 7
    (folder / "log.txt").write_text(
        "2026-01-01 00:00:00 resumed after step 2 from a\n2026-01-01 00:00:01 resumed after step 4 from b\n"
        "2026-01-01 00:00:02 done: run after 12 steps\n"
    )
    assert training.repeated(tmp_path, 7) == 3 > training.allowed


def test_images_measured_twice_are_noticed(tmp_path: Path) -> None:
    evaluation, log = Evaluation.__new__(Evaluation), tmp_path / "work" / "rows-0.jsonl"
    log.parent.mkdir()
    rows = [json.dumps({"point": "ours", "index": index}) for index in (0, 1, 2)]
    log.write_text(f"{rows[0]}\n{rows[1][:9]}\n{rows[1]}\n{rows[2][:9]}")
    assert evaluation.done(tmp_path) == 2 and evaluation.repeated(tmp_path, 2) == 0
    log.write_text(f"{rows[0]}\n{rows[1]}\n{rows[0]}\n")
    assert evaluation.repeated(tmp_path, 2) == 1 > evaluation.allowed


@pytest.mark.parametrize(
    ("difference", "again", "ended", "status"),
    [(None, 2, None, 0), ("weights differs", 2, None, 1), (None, 3, None, 1), (None, 0, "weights differs", 1)],
)
def test_a_difference_or_lost_work_is_a_failure(
    difference: str | None,
    again: int,
    ended: str | None,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kills = [Kill(1.0, False, "training", 3), Kill(2.0, True, "validating", 5)]
    outcomes = [Outcome(None, 1), Outcome(difference, again)]

    def crash(*given: Any) -> None:
        given[-2].extend(zip(kills, outcomes, strict=True))
        given[-1].extend([None, ended])

    monkeypatch.setattr(crash_test, "crash", crash)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--kills", "2", "--work", str(tmp_path / "work")])
    assert crash_test.main() == status
    *text, last = capsys.readouterr().out.splitlines()
    summary = json.loads(last)
    assert summary["identical"] == 1 + (difference is None) and summary["most_steps_done_again"] == max(1, again)
    assert summary["runs_identical"] == 1 + (ended is None) and summary["with_imports"] == 1
    assert f"| validating | 1 | {int(difference is None)} | {again} |" in text and "| training | 1 | 1 | 1 |" in text
    assert f"2 kills gave {summary['identical']} identical results" in "\n".join(text)
