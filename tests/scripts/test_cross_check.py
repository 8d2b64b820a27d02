"""scripts/cross_check.py on a tiny codec: settings agree, whatever is made to differ is found, status 1 says so."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_files import GROUPS, write_split

from data.sources import open_source
from utils import cli
from utils.crosscheck import session, worker
from utils.crosscheck.plan import Data, File, Plan, assign
from utils.crosscheck.settings import SETTINGS, Setting, check_compiled, load, other
from utils.errors import ConfigError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "cross_check.py"
Meddle = Callable[[str, str, Path], None]  # Changes what a process (stage, setting) left in the folder.


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("cross"), "val", GROUPS, 80, 100)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cross_check(
    data: Path, ckpt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Runs the script: exit status, the JSON of its last line, all that it printed."""

    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        given = ["cross_check.py", "--ckpt", ckpt, "--data-root", data, *arguments]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in given])
        with pytest.raises(SystemExit) as stopped:
            cli.run(runpy.run_path(str(SCRIPT))["main"])
        printed = capsys.readouterr()
        last = printed.out.splitlines()[-1] if printed.out else "{}"
        return int(stopped.value.code or 0), json.loads(last), printed.out + printed.err

    return run


def in_one_process(monkeypatch: pytest.MonkeyPatch, meddle: Meddle = lambda *_: None) -> None:
    """Let the script work without processes, and `meddle` after each of them."""

    def run_worker(stage: str, setting: Setting, folder: Path) -> dict[str, Any]:
        worker.work(stage, setting.name, folder)
        meddle(stage, setting.name, folder)
        found: dict[str, Any] = json.loads((folder / f"{stage}_{setting.name}.json").read_bytes())
        return found

    monkeypatch.setattr(session, "run_worker", run_worker)


# ---------------------------------------------------------------- what must agree agrees


@pytest.mark.slow
def test_processes_of_other_settings_decode_the_same(cross_check: Any, tmp_path: Path) -> None:
    out, work = tmp_path / "new" / "matrix.md", tmp_path / "work"
    kept = ("--out", out, "--work", work)
    status, result, printed = cross_check("--settings", "threads1", "threads2", "--files", 6, "--pictures", 2, *kept)
    assert status == 0 and result["passed"], printed
    assert (result["files"], result["decodes"], result["mismatches"]) == (6, 12, 0)
    assert result["pictures"] == 4 and result["pictures_changed"] == 0 and result["grey_levels_between_threads"] <= 1
    assert "| threads2 | 0 / 3 | 0 / 3 |" in printed and out.read_text() in printed
    assert len(list(work.glob("*.bin"))) == 6


def test_all_settings_of_one_process_agree(cross_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("threads1", "threads2", "bf16", "channels_last", "batched")
    in_one_process(monkeypatch)
    status, result, printed = cross_check("--settings", *names, "--files", 10, "--rates", 0, 1, "--pictures", 1)
    assert status == 0, printed
    assert (result["files"], result["decodes"], result["mismatches"]) == (10, 50, 0)


def test_encoders_are_what_their_names_say(data: Path, ckpt: Path, tmp_path: Path) -> None:
    """bfloat16 changes the latents; a batch holds several images; each file has its sender's y_hat beside it."""
    settings = [SETTINGS[name] for name in ("threads1", "bf16", "batched")]
    files = tuple(File(i, "threads1", i, 0.5, 0, 0, 80, 100) for i in range(5))
    sent = {}
    for setting in settings:
        own = tuple(replace(file, setting=setting.name) for file in files)
        plan = Plan(str(ckpt), Data("folder", "val", str(data)), tuple(settings), own, ())
        codec, sizes = load(setting, plan.ckpt), []
        codec.g_a.register_forward_pre_hook(lambda _, given, sizes=sizes: sizes.append(len(given[0])))
        worker.encode(plan, setting, codec, tmp_path)
        assert max(sizes) == setting.batch
        sent[setting.name] = [np.load(tmp_path / f"{i}.npy") for i in range(5)]
        for number, y_hat in enumerate(sent[setting.name]):
            decoded = codec.decode_latent(codec.unpack((tmp_path / f"{number}.bin").read_bytes()))
            assert not worker.difference(y_hat, decoded.numpy())
    assert any(worker.difference(a, b) for a, b in zip(sent["threads1"], sent["bf16"], strict=True))


def test_each_setting_meets_all_pairs_and_rates_and_small_parts(data: Path) -> None:
    source = open_source("folder", split="val", root=data)
    settings = [SETTINGS["threads1"], SETTINGS["bf16"]]
    files = assign(source, settings, (0.0, 0.2, 0.4, 0.6, 1.0), 100, 0)
    assert [file.number for file in files] == list(range(100))
    assert len({(file.setting, file.pair, file.rate) for file in files}) == 50
    sizes = [(file.height, file.width) for file in files]
    assert 30 < sizes.count((80, 100)) < 70 and (16, 16) in sizes and len(set(sizes)) > 30
    for file in files:
        x, x_side = file.views(source)
        assert x.shape == x_side.shape == (file.height, file.width, 3) and min(x.shape[:2]) >= 16


# ---------------------------------------------------------------- what differs is found


def change_record(path: Path, what: str) -> None:
    found = json.loads(path.read_bytes())
    found[what][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(found))


def flip_a_bit(stage: str, name: str, folder: Path) -> None:
    """In one value that the sender keeps."""
    if (stage, name) == ("encode", "threads2"):
        y_hat = np.load(folder / "1.npy")
        y_hat.view(np.uint32).reshape(-1)[-1] ^= 1
        np.save(folder / "1.npy", y_hat)


def alter_the_digest(stage: str, name: str, folder: Path) -> None:
    """Of y_hat as one receiver has it."""
    if (stage, name) == ("decode", "threads1"):
        change_record(folder / f"{stage}_{name}.json", "files")


def damage_a_file(stage: str, name: str, folder: Path) -> None:
    """So that its checksum fails."""
    if (stage, name) == ("encode", "threads2"):
        path = folder / "1.bin"
        path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("meddle", "mismatches", "words"),
    [(flip_a_bit, 2, "File 1 ("), (alter_the_digest, 1, "File 0 ("), (damage_a_file, 2, "refused: The checksum")],
)
def test_an_injected_mismatch_gives_status_1(
    cross_check: Any, monkeypatch: pytest.MonkeyPatch, meddle: Meddle, mismatches: int, words: str
) -> None:
    in_one_process(monkeypatch, meddle)
    status, result, printed = cross_check("--settings", "threads1", "threads2", "--files", 4, "--pictures", 0)
    assert status == 1 and not result["passed"]
    assert (result["files"], result["decodes"], result["mismatches"]) == (4, 8, mismatches)
    assert words in printed and f"**{mismatches} mismatches**" in printed


def test_a_picture_that_changes_gives_status_1(cross_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def meddle(stage: str, name: str, folder: Path) -> None:
        if (stage, name) == ("again", "bf16"):
            change_record(folder / "again_bf16.json", "pictures")

    in_one_process(monkeypatch, meddle)
    status, result, _ = cross_check("--settings", "threads1", "bf16", "--files", 4, "--pictures", 2)
    assert status == 1 and result["pictures_changed"] == 1 and result["mismatches"] == 0


@pytest.mark.parametrize("levels", [1, 2])
def test_threads_may_change_a_picture_by_one(cross_check: Any, monkeypatch: pytest.MonkeyPatch, levels: int) -> None:
    def meddle(stage: str, name: str, folder: Path) -> None:
        if (stage, name) == ("decode", "threads2"):
            picture = np.load(folder / "pictures" / "decode" / "threads1" / "0.npy")
            picture[0, 0, 0] += levels if picture[0, 0, 0] < 128 else -levels
            np.save(folder / "pictures" / "decode" / "threads2" / "0.npy", picture)

    in_one_process(monkeypatch, meddle)
    status, result, printed = cross_check("--settings", "threads1", "threads2", "--files", 4, "--pictures", 1)
    assert result["grey_levels_between_threads"] == levels and status == levels - 1
    assert f"differ by at most {levels} grey level" in printed


# ---------------------------------------------------------------- what did not run is not passed over


def test_a_setting_that_cannot_run_gives_status_1(cross_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def meddle(stage: str, name: str, folder: Path) -> None:
        if name == "bf16":
            raise session.DidNotRun("no such thing")

    in_one_process(monkeypatch, meddle)
    status, result, printed = cross_check("--settings", "threads1", "bf16", "--files", 4, "--pictures", 1)
    assert status == 1 and result["mismatches"] == 0 and result["files"] == 2
    assert len(result["did_not_run"]) == 3 and "bf16 did not encode: no such thing" in printed


def test_the_same_release_is_no_other(cross_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_process(monkeypatch)
    given = ("--settings", "threads1", "--files", 2, "--pictures", 0)
    status, result, _ = cross_check(*given, "--python", sys.executable)
    assert status == 1 and result["decodes"] == 4 and result["mismatches"] == 0
    assert ["other1 is no other release" in failure for failure in result["did_not_run"]] == [True]


def test_a_process_without_a_result_says_why(tmp_path: Path) -> None:
    with pytest.raises(session.DidNotRun, match="cannot be started"):
        session.run_worker("encode", other(1, str(tmp_path / "python")), tmp_path)
    with pytest.raises(session.DidNotRun, match=r"FileNotFoundError.*plan\.json"):
        session.run_worker("encode", SETTINGS["threads1"], tmp_path)


def test_no_compiler_and_no_gpu_are_errors(ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setitem(counters, "stats", {"unique_graphs": 0})
    with pytest.raises(ConfigError, match="compiled nothing"):
        check_compiled(SETTINGS["compiled"])
    check_compiled(SETTINGS["threads1"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="needs a GPU"):
        load(SETTINGS["cuda"], str(ckpt))


MISTAKES = {
    "at least one": ("--files", 1, "--settings", "threads1", "bf16"),
    "--rates has 2": ("--rates", 2),
    "--pictures is 2000": ("--pictures", 2000),
    "--seed is -1": ("--seed", -1),
    "--steps is 0": ("--steps", 0),
    "--gamma is 3": ("--gamma", 3),
    "new folder": ("--work", "."),
    "no split": ("--split", "test"),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistakes_are_sentences(cross_check: Any, sentence: str) -> None:
    status, _, printed = cross_check(*MISTAKES[sentence])
    assert status == 1 and sentence in printed
