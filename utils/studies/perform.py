"""Carrying out the commands of a study: what is finished is not repeated, and a signal reaches the command at work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from config import Config
from utils.checkpoint import MODEL_FILE, find_model_file
from utils.configio import parse_command_line, read_config
from utils.configrules import differences, effective
from utils.errors import CheckpointError, ConfigError
from utils.files import sha256
from utils.run import FREE_TO_CHANGE
from utils.studies.plan import Trial, program, typed
from utils.training.stopping import StopRequest

POLL = 0.2
"""Seconds between two looks at whether a signal has come."""

Launch = Callable[[str, list[str]], int]
"""Runs train.py or evaluate.py (the name) with arguments, and returns the exit status."""


class Stopped(Exception):
    """A signal ended the study; the command at work has ended too. `status` is the exit status that says so."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}; the same command goes on")
        self.status = 128 + number


def launch(name: str, arguments: list[str]) -> int:
    """Run train.py or evaluate.py to its end; its output goes to stderr. Returns its exit status. Raises Stopped."""
    return run_child(program(name, arguments))


def run_child(words: Sequence[str]) -> int:
    """Run a command to its end, hand a signal on to it, and wait for it even then. Raises Stopped.

    It has a process group of its own, so that Ctrl-C reaches it once, through here: train.py takes a second signal for
    the wish to lose what it has not saved. A second signal to this program ends this program alone.
    """
    with StopRequest(announce=False) as stop:
        child = subprocess.Popen(words, stdout=2, start_new_session=True)
        told = False
        while (status := _wait(child)) is None:
            if stop.received is not None and not told:
                child.send_signal(stop.received)
                told = True
    if stop.received is not None:
        raise Stopped(stop.received)
    return status


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(POLL)
    except subprocess.TimeoutExpired:
        return None


def configuration(arguments: list[str]) -> Config:
    """What train.py makes of these arguments; unknown fields end the program with a message."""
    return parse_command_line(arguments)[0]


def is_trained(run: Path, wanted: Config, init: Path | None = None) -> bool:
    """Whether a run has ended. Raises ConfigError if it is the run of another configuration, or from other weights.

    `init`: the checkpoint that it is to have started from. Raises CheckpointError if there is none.
    """
    if not (run / "config.json").is_file():
        return False
    there = read_config(json.loads((run / "config.json").read_text()), str(run), fill=True)
    for field, (before, now) in differences(effective(there), effective(wanted)).items():
        if field not in FREE_TO_CHANGE:
            raise ConfigError(
                f"The run {run} was trained with {field} = {before}, and the study now has {now}; choose another "
                "--runs, or delete that folder."
            )
    before, now = there.data.folder_root, wanted.data.folder_root
    if not _same_place(before, now):
        raise ConfigError(
            f"The run {run} was trained on the pairs in {before}, and --data-root now gives {now}; choose another "
            "--runs, or delete that folder."
        )
    if init is not None and _first_weights(run) != sha256(find_model_file(init)):
        raise ConfigError(
            f"The run {run} did not start from the weights that {init} has now; choose another --runs, or delete that "
            "folder."
        )
    steps = wanted.train.steps
    # The best is written by the validation of the last step, which a signal may have put off.
    return all((run / "checkpoints" / part / MODEL_FILE).is_file() for part in (f"step_{steps:08d}", "best"))


def _first_weights(run: Path) -> str | None:
    """The digest of the file that a run started from, None if from none or nobody knows."""
    try:
        found: str | None = json.loads((run / "init.json").read_text())["sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found


def _same_place(a: str, b: str) -> bool:
    return Path(a).expanduser().resolve() == Path(b).expanduser().resolve()


def read_summary(trial: Trial) -> dict[str, Any] | None:
    """The summary of a trial's finished evaluation of the present weights and pairs, else None."""
    try:
        summary: dict[str, Any] = json.loads((trial.evaluation / "summary.json").read_text())
    except FileNotFoundError:
        return None
    if not _same_place(summary["environment"]["data_root"], trial.place.data_root):
        return None
    measured = [checkpoint["sha256"] for checkpoint in summary["environment"]["checkpoints"]]
    try:
        there = [sha256(find_model_file(run)) for run in trial.runs]
    except CheckpointError:
        return None
    return summary if measured == there else None


def perform(trial: Trial, launch: Launch) -> str | None:
    """Train and evaluate what is not finished: None, or the sentence of what failed. Raises Stopped, ConfigError."""
    for run, arguments in zip(trial.runs, trial.training(), strict=True):
        trained = is_trained(run, configuration(arguments), trial.init)
        if not trained and (reason := _do("train.py", arguments, launch)):
            return reason
    return None if read_summary(trial) is not None else _do("evaluate.py", trial.evaluating(), launch)


def _do(name: str, arguments: list[str], launch: Launch) -> str | None:
    print(f"$ {typed(name, arguments)}", file=sys.stderr, flush=True)
    status = launch(name, arguments)
    return f"`{typed(name, arguments)}` ended with status {status}; its message is above." if status else None
