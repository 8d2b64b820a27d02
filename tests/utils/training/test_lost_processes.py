"""A process that dies ends the command soon, with a sentence; a signal to one process stops all after the same step."""

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from processes import torchrun
from tiny import tiny_config

from data.mixture import make_loader
from data.training import training_data
from utils import cli
from utils.errors import DataError, explain
from utils.training.checkpoints import damage, step_folders


def loader(folder: Path) -> tuple[Iterator[dict[str, Any]], BaseProcess]:
    """Endless batches by one worker, of which the first is read, and the worker."""
    batches = iter(make_loader(training_data(tiny_config(data={"folder_root": str(folder)})), count(), 2, workers=1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    return batches, worker


def send(worker: BaseProcess, number: signal.Signals) -> None:
    assert worker.pid is not None
    os.kill(worker.pid, number)


def test_a_dead_loader_process_is_one_line(folder_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its death may surface anywhere in the main thread."""
    batches, worker = loader(folder_data)

    def drain() -> int:
        send(worker, signal.SIGKILL)
        return len([batch["id"] for batch in batches])

    start = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        cli.run(drain)
    assert stop.value.code == 1 and time.monotonic() - start < 30
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: A process that loads data has died (")
    assert "lower data.workers" in line and "same command again" in line


def test_a_loader_process_outlives_a_signal_to_the_whole_job(folder_data: Path) -> None:
    """The training process finishes its step, for which it may need more batches; the second SIGTERM is the end."""
    batches, worker = loader(folder_data)
    report = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler raises wherever this test is.
    send(worker, signal.SIGINT)
    send(worker, signal.SIGTERM)
    for _ in range(8):
        next(batches)
    send(worker, signal.SIGTERM)
    worker.join(20)
    assert worker.exitcode == -signal.SIGTERM
    del batches
    gc.collect()
    signal.signal(signal.SIGCHLD, report)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_loader_process_that_dies_while_it_hands_over_a_batch(folder_data: Path, error: Exception) -> None:
    for workers in (0, 1):
        loader = make_loader(training_data(tiny_config(data={"folder_root": str(folder_data)})), count(), 2, workers)
        expected, words = (DataError, "loads data has died") if workers else (type(error), None)
        with patch("torch.utils.data.DataLoader.__iter__", side_effect=error), pytest.raises(expected, match=words):
            next(iter(loader))


def test_other_errors_stay_what_they_are() -> None:
    assert explain(RuntimeError("size mismatch")) is None
    assert explain(OSError("Connection reset by peer")) is None  # Of a download, say.
    lost = explain(RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:46733. This may indicate a crash"))
    assert lost is not None and "(Connection closed by peer [127.0.0.1]:46733" in lost and "same command" in lost


@pytest.mark.slow
def test_a_lost_process_ends_the_others_with_a_sentence(folder_data: Path, tmp_path: Path) -> None:
    done = torchrun("tests/worker.py", "trouble", "SIGKILL", str(folder_data), str(tmp_path))
    assert done.returncode != 0 and time.time() - float((tmp_path / "when").read_text()) < 60
    assert "error: Another process of this command is gone" in done.stderr, done.stderr[-3000:]
    folders = step_folders(tmp_path / "SIGKILL" / "checkpoints")
    assert [(f.name, damage(f)) for f in folders] == [("step_00000002", None)]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_after_the_same_step(folder_data: Path, tmp_path: Path) -> None:
    done = torchrun("tests/worker.py", "trouble", "SIGTERM", str(folder_data), str(tmp_path))
    assert done.returncode != 0
    # The first to end has the status of the signal; torchrun terminates what the other still has to do: nothing.
    assert f"exitcode  : {128 + signal.SIGTERM} " in done.stderr, done.stderr[-3000:]
    log = (tmp_path / "SIGTERM" / "log.txt").read_text()
    assert log.count("stopped by SIGTERM after step 3; the same command goes on") == 1
    folders = step_folders(tmp_path / "SIGTERM" / "checkpoints")
    assert [(f.name, damage(f)) for f in folders] == [("step_00000002", None), ("step_00000003", None)]
