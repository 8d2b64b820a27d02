"""scripts/stress/cross_check.py: settings agree on a tiny codec, and a latent that differs is found."""

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_files import GROUPS, write_split
from script_files import load_script


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("cross"), "val", GROUPS, 80, 100)


def plan(cross_check: Any, ckpt: Path, data: Path) -> dict[str, Any]:
    parsed = {"dataset": "folder", "split": "val", "limit": None, "files": 6, "seed": 0}
    arguments = type("Arguments", (), parsed | {"ckpt": ckpt, "data_root": data})
    planned: dict[str, Any] = cross_check.plan_of(arguments, ["threads1", "bf16"])
    return planned


@pytest.fixture
def cross_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script; what would run in processes of its own runs in this one."""
    module = load_script("stress/cross_check")

    def start(stage: str, setting: str, python: str, folder: Path) -> Any:
        module.worker(stage, setting, folder)
        return json.loads((folder / f"{stage}_{setting}.json").read_text())

    monkeypatch.setattr(module, "start", start)
    return module


def test_settings_agree_and_another_latent_and_a_refused_file_are_found(cross_check, ckpt, data, tmp_path, monkeypatch):
    planned = plan(cross_check, ckpt, data)
    assert {tuple(file[5:]) for file in planned["files"]} > {(80, 100)}  # Whole images and parts.
    differed, failures, releases = cross_check.check({"threads1": "", "bf16": ""}, planned, tmp_path)
    assert not differed and not failures and set(releases) == {"threads1", "bf16"}
    assert len(json.loads((tmp_path / "decode_bf16.json").read_text())["found"]) == 6
    start = cross_check.start

    def meddle(stage: str, setting: str, python: str, folder: Path) -> Any:
        found = start(stage, setting, python, folder)
        if (stage, setting) == ("encode", "threads1"):
            (folder / "0.bin").write_bytes((folder / "0.bin").read_bytes()[:-1])
            found["found"]["2"] = "another"
        return found

    monkeypatch.setattr(cross_check, "start", meddle)
    differed, _, _ = cross_check.check({"threads1": "", "bf16": ""}, planned, tmp_path)
    assert len(differed) == 4 and sum("refused" in line for line in differed) == 2
