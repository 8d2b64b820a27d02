"""Fixtures that several test files share."""

import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from evaluation_files import GROUPS, QUICK, write_checkpoint, write_split
from script_files import load_script
from tiny import tiny_config, train_a_little, write_data

from config import Config
from modules.codec import Codec
from utils import cli
from utils.checkpoint import MODEL_FILE, save_checkpoint
from utils.coding import batch
from utils.evaluation import pipeline
from utils.metrics.suite import MetricSuite


@pytest.fixture(scope="session")
def tiny() -> Config:
    """The configuration of `tiny_codec`."""
    return tiny_config()


@pytest.fixture(scope="session")
def tiny_codec(tiny: Config) -> Codec:
    """A variable-rate codec trained for a moment, frozen, in evaluation mode. Tests must not change it."""
    return train_a_little(tiny, 80)


@pytest.fixture
def own_codec(tiny_codec: Codec) -> Codec:
    """A copy of `tiny_codec` that a test may change."""
    return copy.deepcopy(tiny_codec)


@pytest.fixture(scope="session")
def folder_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a data set `folder` with six training pairs and one of `val`, 64x64."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its state for the life of a process; a test starts and ends without one."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pretrained weights, and each test begins as a new process would."""
    monkeypatch.setenv("TORCH_HOME", os.devnull)
    monkeypatch.setattr(pipeline, "code_digest", lambda: "fixed")  # files may be edited while tests run
    PartialState._reset_state()
    yield
    PartialState._reset_state()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation draws no files of figures, where the test is not about them."""
    monkeypatch.setattr("utils.report.figures.write_figures", lambda *_: None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, no_figures: None) -> None:
    """A few metrics only, and no figures."""
    monkeypatch.setattr(pipeline, "MetricSuite", lambda _, *rest: MetricSuite(QUICK, *rest))


@pytest.fixture(scope="session")
def evaluation_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a data set `folder` whose `val` has a pair for each of GROUPS."""
    return write_split(tmp_path_factory.mktemp("pairs"), "val", GROUPS)


@pytest.fixture(scope="session")
def ckpt(tmp_path_factory: pytest.TempPathFactory, tiny: Config, tiny_codec: Codec, evaluation_data: Path) -> Path:
    """A checkpoint of `tiny_codec` that names `evaluation_data` as its data."""
    return write_checkpoint(tmp_path_factory.mktemp("ckpt"), tiny_codec, tiny, evaluation_data)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs scripts/NAME.py in this process and ends it as its own does: (exit status, stdout, stderr)."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.run(load_script(name).main)
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def file(tiny: Config, tiny_codec: Codec, tmp_path: Path) -> Path:
    """A checkpoint of the tiny codec after step 80, which a test may alter."""
    path = tmp_path / "folder" / MODEL_FILE
    save_checkpoint(path, tiny_codec, tiny, 80)
    return path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are worked on without processes, which take long to start."""

    def outcomes(task: batch.Task, jobs: Sequence[batch.Job], workers: int) -> Iterator[batch.Outcome]:
        task.start()
        yield from map(task.run, jobs)

    monkeypatch.setattr(batch, "outcomes", outcomes)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small images gain nothing from a second thread and lose much when the core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
