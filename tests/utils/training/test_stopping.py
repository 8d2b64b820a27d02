"""Signals: the step is finished and saved, the same command goes on bit for bit, a further signal stops at once."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from processes import python
from trainers import assert_same, config_on, metrics, state, trainer

import train as training
from train import Trainer
from utils.training.checkpoints import step_folders
from utils.training.stopping import StopRequest

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def signalled_at(run: Trainer, step: int, number: signal.Signals) -> int:
    """Train, with a signal in the middle of the forward pass of `step`; the exit status."""
    forward = run.forward

    def spy(batch: dict[str, Any]) -> Any:
        if run.step == step:
            os.kill(os.getpid(), number)
        return forward(batch)

    with patch.object(run, "forward", spy):
        return run.train()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_finishes_the_step_saves_and_the_same_command_goes_on(folder_data, tmp_path, number):
    config = config_on(folder_data, "whole", train={"save_every": 100})
    assert trainer(config, tmp_path).train() == 0
    stopped = replace(config, name="stopped")
    before = signal.getsignal(number)
    run = trainer(stopped, tmp_path)
    assert signalled_at(run, 1, number) == 128 + number
    assert signal.getsignal(number) == before
    assert [f.name for f in step_folders(run.run.checkpoints)] == ["step_00000002"]
    log = (tmp_path / "stopped" / "log.txt").read_text()
    assert f"stopped by {number.name} after step 2; the same command goes on" in log and "done" not in log
    assert trainer(stopped, tmp_path).train() == 0
    assert_same(state(tmp_path, "whole", 4), state(tmp_path, "stopped", 4))
    assert metrics(tmp_path, "whole") == metrics(tmp_path, "stopped")


@pytest.mark.slow
def test_a_signal_breaks_a_validation_off_and_a_resumed_run_begins_with_it(folder_data: Path, tmp_path: Path) -> None:
    config = config_on(folder_data, "whole", train={"save_every": 100, "val_every": 2})
    trainer(config, tmp_path).train()
    run = trainer(replace(config, name="stopped"), tmp_path)
    validate = training.validate

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments)

    with patch.object(training, "validate", interrupted):
        assert run.train() == 128 + signal.SIGTERM
    assert [line["step"] for line in metrics(tmp_path, "stopped")] == [1, 2]
    assert not (run.run.checkpoints / "best").exists()
    trainer(run.config, tmp_path).train()
    assert_same(state(tmp_path, "whole", 4), state(tmp_path, "stopped", 4))
    assert metrics(tmp_path, "whole") == metrics(tmp_path, "stopped")
    assert (run.run.checkpoints / "best").exists()


def test_a_second_signal_stops_at_once() -> None:
    """By the system's own action, so also while the interpreter waits in a library."""
    script = """
import os, signal
from utils.training.stopping import StopRequest
with StopRequest() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received == signal.SIGTERM
    print("first", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("second")
"""
    done = python("-c", script)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "first\n")
    assert "a second signal stops at once" in done.stderr


def test_under_torchrun_the_launchers_own_signal_is_not_the_second() -> None:
    """Ctrl-C reaches the process and torchrun, which then sends SIGTERM; a third signal ends it."""
    script = """
import os, signal
os.environ["TORCHELASTIC_RUN_ID"] = "1"
from utils.training.stopping import StopRequest
with StopRequest() as stop:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    print(stop.received.name, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("third")
"""
    done = python("-c", script)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "SIGINT\n")
    assert "a third signal stops at once" in done.stderr


def test_processes_settle_on_the_signal_that_any_of_them_got() -> None:
    one, other = StopRequest(), StopRequest()
    one.received = signal.SIGINT
    sums = [a + b for a, b in zip(one.votes, other.votes, strict=True)]
    other.settle(sums)
    assert other.agreed == signal.SIGINT
    other.settle([0.0, 0.0])
    assert other.agreed is None
