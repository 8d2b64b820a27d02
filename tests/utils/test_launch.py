"""Variables that a launcher left in the shell are a sentence within seconds; real launches go on."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import python

from utils import launch
from utils.errors import ConfigError

PLACES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
CHECK = "import sys; from utils.launch import check_launch; check_launch(True); print('on')"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher's variables, and little patience."""
    for name in list(os.environ):
        if name in PLACES or name.startswith(("PMI_", "OMPI_", "MV2_", "SLURM_", "TORCHELASTIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(launch, "NOTICE", 0.5)
    monkeypatch.setattr(launch, "PATIENCE", 0.6)
    monkeypatch.setattr(launch, "CLUSTER_PATIENCE", 0.6)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"WORLD_SIZE": "2"}, r"WORLD_SIZE=2.*RANK and MASTER_ADDR are not set.*`unset WORLD_SIZE`"),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, r"MASTER_ADDR is not set.*`unset PMI_SIZE PMI_RANK`"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, r"`unset OMPI_COMM_WORLD_SIZE`"),
        ({"MV2_COMM_WORLD_SIZE": "3"}, r"`unset MV2_COMM_WORLD_SIZE`"),
        ({"LOCAL_RANK": "1"}, r"LOCAL_RANK=1.*`unset LOCAL_RANK`"),
        ({"WORLD_SIZE": "two"}, r"WORLD_SIZE is 'two', not a number"),
        ({"WORLD_SIZE": "2", "RANK": "5", "MASTER_ADDR": "127.0.0.1"}, r"RANK 5 of WORLD_SIZE 2.*is no place"),
    ],
)
def test_leftovers_are_named_at_once(left: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        launch.check_launch(cpu=True)


@pytest.mark.parametrize(
    ("rank", "said"),
    [("0", r"1/2 clients joined"), ("1", r"nobody answers at MASTER_ADDR 127\.0\.0\.1")],
)
def test_processes_that_nobody_starts_are_not_waited_for(rank, said, monkeypatch, capsys):
    monkeypatch.setattr(launch, "_store", None)
    for name, value in (
        ("WORLD_SIZE", "2"),
        ("RANK", rank),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", free_port()),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        launch.check_launch(cpu=True)
    assert capsys.readouterr().err.startswith("waiting: ")


def test_another_program_at_the_port_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": silent.getsockname()[1]}
        for name, value in place.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(ConfigError, match=r"is no process of this command.*`unset WORLD_SIZE RANK`"):
            launch.check_launch(cpu=True)


@pytest.mark.parametrize("alone", [{}, {"WORLD_SIZE": "1"}, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}])
def test_one_process_goes_on(alone: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in alone.items():
        monkeypatch.setenv(name, value)
    launch.check_launch(cpu=True)


@pytest.mark.slow
def test_two_processes_started_by_hand_meet() -> None:
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda rank: python("-c", CHECK, env=place | {"RANK": rank}), ("0", "1"))
        assert [(done.returncode, done.stdout) for done in ends] == 2 * [(0, "on\n")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["train.py --preset demo --cpu --runs", "evaluate.py --ckpt checkpoints/small --out"]
)
def test_both_commands_say_so(command: str, tmp_path: Path) -> None:
    done = python(*command.split(), tmp_path / "out", env={"WORLD_SIZE": "2"})
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "WORLD_SIZE=2" in done.stderr
    assert not any(tmp_path.iterdir())
