"""Data-loader processes hand batches over in /dev/shm, which a container may limit to 64 MB."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import explain

ROOT = Path(__file__).resolve().parents[3]
LOAD = """
import sys
sys.path.insert(0, "tests")
from data.mixture import make_loader
from config import AugmentConfig
from tiny import tiny_config
from data.training import training_data
from utils.cli import run

def main():
    data = {"folder_root": sys.argv[1], "augment": AugmentConfig(height=512, width=512)}
    size = int(sys.argv[2])
    loader = make_loader(training_data(tiny_config(data=data)), range(4 * size), size, workers=4)
    print(sum(len(batch["id"]) for batch in loader))

run(main)
"""
MOUNT = "mount -t tmpfs -o size=64m tmpfs /dev/shm"


def with_64_megabytes(command: str) -> subprocess.CompletedProcess[str]:
    """A shell command that sees a /dev/shm of its own; the test is skipped where that is not permitted."""
    private = ["unshare", "--map-root-user", "--mount", "bash", "-c"]
    try:
        permitted = subprocess.run([*private, MOUNT], capture_output=True).returncode == 0
    except FileNotFoundError:
        permitted = False
    if not permitted:
        pytest.skip("this user may not mount a /dev/shm of its own (unshare --map-root-user --mount)")
    return subprocess.run(
        [*private, f"{MOUNT} && {command}"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("size", "fits"), [(4, True), (48, False)])  # 6 MB a batch, and 75 MB.
def test_four_workers_fit_or_one_sentence_says_what_is_full(folder_data: Path, size: int, fits: bool) -> None:
    done = with_64_megabytes(shlex.join([sys.executable, "-c", LOAD, str(folder_data), str(size)]))
    if fits:
        assert (done.returncode, done.stdout.split()) == (0, ["16"]), done.stderr[-3000:]
        return
    assert done.returncode == 1, done.stderr[-3000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "/dev/shm" in errors[0] and "--shm-size" in errors[0], done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_a_bus_error_means_shared_memory_and_another_signal_does_not() -> None:
    for signal, named in (("Bus error", True), ("Killed", False)):
        sentence = explain(RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {signal}. "))
        assert sentence is not None and ("/dev/shm" in sentence) == named and "data.workers" in sentence
