"""Two processes on a CPU do what one does, and go on after SIGKILL. Started as a user would: `torchrun`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from processes import torchrun
from safetensors.torch import load_file
from torch import Tensor
from worker import first_gradients, shared_config

from train import Trainer
from utils.configio import to_dict
from utils.training.checkpoints import STATE_FILE


def flags(fields: dict[str, Any], prefix: str = "") -> list[str]:
    """A configuration as train.py's command line."""
    found: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            found += flags(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            found.append(f"--{prefix}{name}" if value else f"--{prefix}no-{name}")
        elif value not in ([], ()):  # Sets of pictures that are not given.
            found += [f"--{prefix}{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return found


@pytest.fixture(scope="module")
def runs(folder_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes of `tests/worker.py` left behind."""
    folder = tmp_path_factory.mktemp("runs")
    done = torchrun("tests/worker.py", "gradients", str(folder_data), str(folder))
    assert "SIGKILL" in done.stderr, done.stderr[-3000:]
    return folder


@pytest.fixture
def one_process(folder_data: Path, tmp_path: Path) -> Iterator[dict[str, Tensor]]:
    """Gradients of the whole batch in this process."""
    AcceleratorState._reset_state(True)
    yield first_gradients(Trainer(shared_config(str(folder_data), "one"), tmp_path, "", cpu=True))
    AcceleratorState._reset_state(True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["halves", "quarters"])
def test_mistake_05_half_the_batch_each_gives_one_process_s_gradients(runs, one_process, name):
    """To 1e-5 of the whole gradient's norm, and to 1e-4 of each parameter's largest entry (float32 sums that nearly
    cancel), on both processes, also with two accumulated quarters."""
    for rank in (0, 1):
        gradients = load_file(runs / f"{name}_{rank}.safetensors")
        assert gradients.keys() == one_process.keys()
        square = {"error": 0.0, "gradient": 0.0}
        for parameter, gradient in gradients.items():
            expected = one_process[parameter]
            error = (gradient - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
            assert error < 1e-4, f"{parameter} differs by {error:.2g} on process {rank}"
            square["error"] += float((gradient - expected).double().square().sum())
            square["gradient"] += float(expected.double().square().sum())
        assert square["error"] ** 0.5 < 1e-5 * square["gradient"] ** 0.5, f"on process {rank}: {square}"


@pytest.mark.slow
def test_two_processes_go_on_after_sigkill(runs: Path, folder_data: Path) -> None:
    """The same command again: train.py resumes after the last whole checkpoint and ends where the whole run ended."""
    checkpoints = runs / "killed" / "checkpoints"
    assert sorted(f.name for f in checkpoints.glob("step*")) == ["step_00000002", "step_00000004.tmp"]
    config = shared_config(str(folder_data), "killed")
    done = torchrun("train.py", "--cpu", f"--runs={runs}", *flags(to_dict(config)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed after step 2" in done.stderr
    assert sorted(f.name for f in checkpoints.glob("step*")) == ["step_00000002", "step_00000004"]
    whole, resumed = (load_file(runs / n / "checkpoints" / "step_00000004" / STATE_FILE) for n in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (runs / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 4]  # Four training lines and one of validation, written by one process only.
