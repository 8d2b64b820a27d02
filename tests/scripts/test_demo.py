"""The demo in a minimal form: the same script, fewer steps and pairs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_config

from modules.codec import Codec
from utils.checkpoint import MODEL_FILE, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ROOT / "checkpoints" / "small"


@pytest.mark.slow
def test_the_demo_leaves_a_report(tmp_path: Path, tiny_codec: Codec) -> None:
    checkpoint = RELEASED
    if not (RELEASED / MODEL_FILE).is_file():
        checkpoint = tmp_path / "checkpoint"
        save_checkpoint(checkpoint / MODEL_FILE, tiny_codec, tiny_config(), 0)
    out = tmp_path / "demo"
    settings = {
        "PYTHON": sys.executable,
        "DEMO_STEPS": "2",
        "DEMO_LIMIT": "2",
        "DEMO_OUT": str(out),
        "DEMO_CKPT": str(checkpoint),
        "DEMO_ARGS": "--rates 0 1 --anchors jpeg",
        "TORCH_HOME": os.devnull,
    }
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "demo.sh")], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (out / "report.html").stat().st_size > 10_000
    summary = json.loads((out / "summary.json").read_text())
    assert {point["codec"] for point in summary["points"]} >= {"jpeg"}
    assert len(summary["points"]) >= 3
    assert (out / "runs" / "demo" / "checkpoints").is_dir()
    for rate in ("0", "0.5", "1"):
        assert (out / f"left_{rate}.bin").stat().st_size > 0
        assert (out / f"left_{rate}.png").stat().st_size > 0
