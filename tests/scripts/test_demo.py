"""The demo in a minimal form: the same script, fewer steps and pairs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT


@pytest.mark.slow
def test_the_demo_leaves_a_report(tmp_path: Path, ckpt: Path) -> None:
    out = tmp_path / "demo"
    settings = {
        **{"PYTHON": sys.executable, "TORCH_HOME": os.devnull},
        **{"DEMO_STEPS": "1", "DEMO_LIMIT": "2", "DEMO_OUT": str(out), "DEMO_CKPT": str(ckpt)},
        "DEMO_ARGS": "--rates 0 1 --anchors jpeg",
    }
    done = subprocess.run(
        ["bash", "scripts/demo.sh"], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True
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
