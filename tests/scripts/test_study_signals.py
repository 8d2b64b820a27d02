"""A signal to a study reaches the command at work once, which may then save."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from utils.studies.perform import Stopped, run_child

CHILD = """
import signal, sys, time
caught = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: caught.append(number))
print("ready", file=open(sys.argv[1], "w"), flush=True)
while not caught:
    time.sleep(0.01)
time.sleep(0.5)  # saving
print(*caught, file=open(sys.argv[1], "w"), flush=True)
sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_once_and_the_command_may_save(number: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "note"

    def interrupt() -> None:
        while not note.exists() or not note.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Stopped) as stopped:
        run_child([sys.executable, "-c", CHILD, str(note)])
    thread.join()
    assert note.read_text().split() == [str(int(number))] and stopped.value.status == 128 + number
    assert run_child([sys.executable, "-c", "raise SystemExit(3)"]) == 3
