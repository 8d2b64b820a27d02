"""The run folder: written first, checked on resuming, and written by one process only."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_config

from utils import cli
from utils.configio import read_config
from utils.errors import BitstreamError, ConfigError
from utils.run import FREE_TO_CHANGE, RunFolder


def test_the_folder_has_what_the_design_promises(tmp_path: Path) -> None:
    config = tiny_config("a")
    run = RunFolder(tmp_path, config, writes=True)
    assert run.path == tmp_path / "a"
    assert read_config(json.loads((run.path / "config.json").read_text())) == config
    assert run.checkpoints.is_dir() and run.samples.is_dir()
    run.log("a sentence")
    run.metrics(7, {"train/loss": 0.5})
    assert (run.path / "log.txt").read_text().endswith(" a sentence\n")
    assert json.loads((run.path / "metrics.jsonl").read_text()) == {"step": 7, "train/loss": 0.5}
    assert not list(run.path.glob("*.tmp"))


def test_only_one_process_writes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, tiny_config("a"), writes=False)
    run.log("x")
    run.metrics(1, {})
    run.rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_resuming_with_a_changed_field_is_an_error_on_every_process(tmp_path: Path) -> None:
    config = tiny_config("a")
    RunFolder(tmp_path, config, writes=True)
    changed = replace(config, train=replace(config.train, lr=1.0))
    for writes in (True, False):
        with pytest.raises(ConfigError, match=r"train\.lr = 0\.0003, and now it is 1\.0; give the run another name"):
            RunFolder(tmp_path, changed, writes=writes)
    assert read_config(json.loads((tmp_path / "a" / "config.json").read_text())) == config


def test_fields_that_are_free_to_change_exist_and_change(tmp_path: Path) -> None:
    config = tiny_config("a")
    RunFolder(tmp_path, config, writes=True)
    for field in FREE_TO_CHANGE:
        part, name = field.split(".")
        old = getattr(getattr(config, part), name)
        new = "elsewhere" if isinstance(old, str) else (not old if isinstance(old, bool) else old + 1)
        config = replace(config, **{part: replace(getattr(config, part), **{name: new})})
    RunFolder(tmp_path, config, writes=True)
    assert read_config(json.loads((tmp_path / "a" / "config.json").read_text())) == config


def test_a_damaged_configuration_is_one_sentence(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, tiny_config("a"), writes=True)
    for content in ("{", "", '{"name": "a"}'):
        (run.path / "config.json").write_text(content)
        with pytest.raises(ConfigError, match=r"config\.json"):
            RunFolder(tmp_path, tiny_config("a"), writes=True)


def test_rewinding_drops_later_and_torn_lines(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, tiny_config("a"), writes=True)
    for step in range(1, 6):
        run.metrics(step, {"x": float(step)})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "x"')
    run.rewind(3)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    run.metrics(4, {"x": 4.0})
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(("status", "code"), [(None, 0), (0, 0), (3, 3)])
def test_an_entry_points_status_is_the_programs(status: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda: status)
    assert caught.value.code == code


def test_an_error_a_user_can_act_on_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise BitstreamError("The file is\nempty; encode it again.")

    with pytest.raises(SystemExit) as caught:
        cli.run(fail)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: The file is empty; encode it again.\n"
