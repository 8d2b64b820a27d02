"""Studies of variants: equal conditions, nothing done twice, figures that follow from the points."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, PartialState
from evaluation_files import write_split
from image_files import write_pairs
from script_files import load_script
from torch.utils.tensorboard import SummaryWriter

import evaluate
import train
from utils.checkpoint import MODEL_FILE, find_model_file
from utils.configio import parse_command_line
from utils.errors import ConfigError
from utils.run import RunFolder, write_json
from utils.studies import timing
from utils.studies.outcome import SideEffect, bd_rate, side_effect
from utils.studies.perform import Stopped
from utils.studies.table import STUDIES, Study, Variant

Command = Callable[..., tuple[int, str]]


def curve(bits: float = 1.0, side: str = "correct") -> list[dict[str, Any]]:
    """Five points that need `bits` times the bits of `curve()` for the same quality."""
    return [point(0.25 * i, bits * 0.05 * 1.8**i, 20 + 2 * i, side) for i in range(5)]


def point(rate: float | None, bpp: float, psnr: float, side: str = "correct") -> dict[str, Any]:
    metrics = {"psnr": {"mean": psnr}, "ms_ssim_db": {"unavailable": "The image is too small."}}
    place = {"codec": "ours", "checkpoint": "run", "rate": rate, "steps": 1, "gamma": 0.0, "side": side}
    return place | {"bpp": bpp, "metrics": metrics}


class Commands:
    """Stands for train.py and evaluate.py: leaves what they leave, with figures that the test chooses.

    By variant: `bits`, the factor on the rate, and `seconds` of a step. `fails`: words of commands that end with 3.
    """

    def __init__(self, bits: dict[str, float], seconds: dict[str, float] | None = None) -> None:
        self.bits, self.seconds = bits, seconds or {}
        self.fails: tuple[str, ...] = ()
        self.done: list[str] = []

    def __call__(self, name: str, arguments: list[str]) -> int:
        self.done.append(f"{name} {' '.join(arguments)}")
        if self.fails and all(word in self.done[-1] for word in self.fails):
            return 3
        (self.train if name == "train.py" else self.evaluate)(arguments)
        return 0

    def train(self, arguments: list[str]) -> None:
        config, switches = parse_command_line(arguments)
        run = RunFolder(Path(switches.runs), config, writes=True)
        run.started_from(find_model_file(switches.init) if switches.init else None)
        for part in (f"step_{config.train.steps:08d}", "best"):
            (run.checkpoints / part).mkdir(exist_ok=True)
            (run.checkpoints / part / MODEL_FILE).write_text(str(run.path))
        with SummaryWriter(str(run.path)) as events:
            for step in range(0, config.train.steps + 1, config.train.log_every):
                events.add_scalar("train/loss", 1.0, step, walltime=step * self.seconds.get(run.path.parent.name, 0.2))

    def evaluate(self, arguments: list[str]) -> None:
        asked = evaluate.parse(arguments)
        variant = Path(asked.out).parent.name
        if variant == "none":
            points = curve(self.bits[variant], "none")
        elif asked.rates is None:
            points = [p | {"rate": None} for p in curve(self.bits[variant])[: len(asked.ckpt)]]
        else:
            points = [*curve(self.bits[variant]), point(0.5, 1, 21, "none"), point(0.5, 1, 20.5, "shuffled")]
        checkpoints = [{"sha256": hashlib.sha256(find_model_file(c).read_bytes()).hexdigest()} for c in asked.ckpt]
        summary = {
            "dataset": {"pairs": asked.limit or 11, "groups": 4, "split": asked.split},
            "environment": {
                "commit": "abc",
                "checkpoints": checkpoints,
                "data_root": str(Path(asked.data_root).resolve()),
            },
            "points": points,
        }
        Path(asked.out).mkdir(exist_ok=True)
        write_json(Path(asked.out) / "summary.json", summary)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The script with some words of a command line -> exit status, stdout. Runs go to tmp_path / "runs"."""
    module = load_script("study_variants")

    def command(words: str, commands: Callable[[str, list[str]], int] | None = None) -> tuple[int, str]:
        line = ["scripts/study_variants.py", *words.split(), "--runs", str(tmp_path / "runs")]
        monkeypatch.setattr(sys, "argv", line)
        status = module.main(commands)
        return status, capsys.readouterr().out

    return command


BITS = {"add": 1.0, "none": 1.25, "row_attention": 1.0, "both": 0.9, "aligned": 0.8, "pixel_aligned": 0.75}


def test_a_study_compares_what_was_measured(study: Command, tmp_path: Path) -> None:
    commands = Commands(BITS)
    words = f"fusion --steps 200 --seeds 0 1 --budgets pairs --json --out {tmp_path}/study.md"
    status, out = study(words, commands)
    assert status == 0 and len(commands.done) == 24
    assert [line.split()[0] for line in commands.done[:2]] == ["train.py", "evaluate.py"]
    assert all("seed1" not in line for line in commands.done[:12])
    rows = {row["variant"]: row for row in json.loads(out.splitlines()[-1])["rows"]}
    for name, factor in BITS.items():
        for reference in ("add", "none"):
            found = rows[name]["bd_rates"][reference]["psnr"]["mean"]
            assert found == pytest.approx(100 * (factor / BITS[reference] - 1), abs=0.05)
    assert rows["add"]["parameters"] > rows["none"]["parameters"] > 1_000_000
    text = (tmp_path / "study.md").read_text()
    assert text.splitlines() == out.splitlines()[:-1] and "seeds 0, 1; measured on 11 pairs of 4 recordings" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| equal pairs | aligned")]
    assert "| 0.200 [0.200, 0.200] | 200 | 1,600 | 40 | -20.0 % (-20.0, -20.0) |" in row
    assert "none for seed 0, 1: The image is too small." in row
    assert row.endswith("| +3.00 dB | -0.50 dB |")


def test_what_is_finished_is_not_repeated(study: Command, tmp_path: Path) -> None:
    commands = Commands(BITS)
    words = "fusion --steps 200 --seeds 0 --budgets pairs --variants add none"
    first = study(words, commands)
    commands.done.clear()
    assert study(words, commands) == first and commands.done == []

    at = tmp_path / "runs" / "fusion" / "add"
    (at / "seed0-steps200-val" / "summary.json").unlink()
    study(words, commands)
    assert [line.split()[0] for line in commands.done] == ["evaluate.py"]

    commands.done.clear()
    (at / "seed0-steps200" / "checkpoints" / "best" / MODEL_FILE).write_text("other weights")
    study(words, commands)
    assert [line.split()[0] for line in commands.done] == ["evaluate.py"]

    commands.done.clear()
    (at / "seed0-steps200" / "checkpoints" / "best" / MODEL_FILE).unlink()  # As if the last validation were still owed.
    study(words, commands)
    assert [line.split()[0] for line in commands.done] == ["train.py", "evaluate.py"]

    commands.done.clear()
    study(words + " --limit 4", commands)
    assert len(commands.done) == 2 and all("--limit 4" in line and "val-first4" in line for line in commands.done)


def test_runs_of_other_pairs_are_refused_and_their_evaluations_repeated(study: Command, tmp_path: Path) -> None:
    words, commands = "fusion --steps 200 --seeds 0 --budgets pairs --variants add", Commands(BITS)
    study(f"{words} --data-root {tmp_path / 'a'}", commands)
    study(f"{words} --data-root {tmp_path / 'a' / '..' / 'a'}", commands)
    assert len(commands.done) == 2
    with pytest.raises(ConfigError, match=rf"trained on the pairs in {tmp_path / 'a'}, and --data-root now gives"):
        study(f"{words} --data-root {tmp_path / 'b'}", commands)
    summary = tmp_path / "runs" / "fusion" / "add" / "seed0-steps200-val" / "summary.json"
    write_json(
        summary,
        {
            **(content := json.loads(summary.read_text())),
            "environment": {**content["environment"], "data_root": str(tmp_path / "b")},
        },
    )
    study(f"{words} --data-root {tmp_path / 'a'}", commands)
    assert [line.split()[0] for line in commands.done] == ["train.py", "evaluate.py", "evaluate.py"]


def test_a_run_of_another_configuration_is_refused(study: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "fusion --steps 200 --seeds 0 --budgets pairs --variants add"
    study(words, Commands(BITS))
    changed = replace(STUDIES["fusion"], fields=(*STUDIES["fusion"].fields, "--train.lr", "2e-3"))
    monkeypatch.setitem(STUDIES, "fusion", changed)
    with pytest.raises(ConfigError, match=r"train\.lr = 0\.001, and the study now has 0\.002"):
        study(words, Commands(BITS))


def test_a_run_from_other_first_weights_is_refused(
    study: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = tmp_path / "first" / MODEL_FILE
    first.parent.mkdir()
    first.write_text("weights")
    monkeypatch.setitem(STUDIES, "trained_rate", replace(STUDIES["trained_rate"], init=str(first.parent)))
    commands = Commands({"single_rate": 1.0, "variable_rate": 1.0, "variable_rate_all_pairs": 1.0})
    words = "trained_rate --steps 200"
    status, out = study(words, commands)
    assert status == 0 and len(commands.done) == 9 and f"from the weights of `{first.parent}`" in out
    commands.done.clear()
    assert study(words, commands) == (status, out) and commands.done == []
    first.write_text("other weights")
    with pytest.raises(ConfigError, match=r"did not start from the weights that .*first has now"):
        study(words, commands)


def test_equal_seconds_follow_from_the_pace_of_equal_pairs(study: Command, tmp_path: Path) -> None:
    """The baseline's run serves both budgets; the pace stays as it was first measured, whatever comes later."""
    commands = Commands(BITS, {"add": 0.2, "aligned": 0.25, "none": 0.16})
    words = "fusion --steps 200 --seeds 0 --variants add aligned none --json"
    status, out = study(words, commands)
    rows = {(row["budget"], row["variant"]): row for row in json.loads(out.splitlines()[-1])["rows"]}
    assert status == 0 and {k[1]: row["steps"] for k, row in rows.items() if k[0] == "seconds"} == {
        "add": 200, "aligned": 160, "none": 250,
    }  # fmt: skip
    assert all(row["seconds"] == pytest.approx(40) for key, row in rows.items() if key[0] == "seconds")
    assert sum(line.startswith("train.py") for line in commands.done) == 5

    commands.seconds["aligned"] = 0.5
    commands.done.clear()
    study(words.replace("--seeds 0", "--seeds 0 1"), commands)
    trained = [line for line in commands.done if line.startswith("train.py")]
    assert len(trained) == 5 and all("seed1" in line for line in trained)
    assert any("aligned --name seed1-steps160" in line for line in trained)


def test_the_pace_is_a_median_within_each_process(tmp_path: Path) -> None:
    """A pause, and the time between a run that was stopped and its next start, do not count."""
    for first, begin in ((0, 0.0), (50, 9000.0)):
        with SummaryWriter(str(tmp_path), filename_suffix=str(first)) as events:
            for i in range(6):
                pause = 500.0 if first and i > 3 else 0.0
                events.add_scalar("train/loss", 1.0, first + 10 * i, walltime=begin + 2.0 * i + pause)
                events.add_scalar("val/loss", 1.0, first + 10 * i, walltime=begin + 2.0 * i + 1)
    pace = timing.pace_of([tmp_path])
    assert pace is not None and pace.intervals == 10
    assert (pace.median, pace.low, pace.high) == pytest.approx((0.2, 0.2, 0.2))
    assert timing.pace_of([tmp_path / "nothing"]) is None


def test_a_command_that_fails_is_reported_and_the_others_go_on(study: Command) -> None:
    commands = Commands(BITS)
    commands.fails = ("train.py", "aligned", "seed1")
    words = "fusion --steps 200 --seeds 0 1 --variants add aligned"
    status, out = study(words, commands)
    assert status == 1 and "ended with status 3" in out
    (row,) = [line for line in out.splitlines() if line.startswith("| equal pairs | aligned")]
    assert "| -20.0 % (-20.0); none for seed 1: not measured |" in row
    assert "| none for seed 0: the reference was not measured; none for seed 1: not measured |" in row
    assert "| equal seconds | aligned" in out

    commands.fails = ()
    commands.done.clear()
    status, out = study(words, commands)
    assert status == 0 and "not measured |" not in out.replace("the reference was not measured |", "")
    assert all("aligned" in line and "seed1" in line for line in commands.done)


def test_without_a_pace_there_is_no_equal_time(study: Command) -> None:
    commands = Commands(BITS)
    commands.fails = ("train.py", "both")
    status, out = study("fusion --steps 200 --seeds 0 --variants add both", commands)
    assert status == 1 and "**both has no run under equal pairs" in out
    assert "| equal seconds | add" in out and "| equal seconds | both" not in out
    commands.done.clear()
    status, out = study("fusion --steps 100 --seeds 0 --variants add --budgets seconds", commands)
    assert status == 0 and len(commands.done) == 2  # The pace that is known serves other numbers of steps too.


@pytest.mark.parametrize(("bits", "status"), [(1.029, 0), (1.031, 1)])
def test_the_target_of_the_variable_rate_is_judged(bits: float, status: int, study: Command) -> None:
    all_bits = {"single_rate": 1.0, "variable_rate": bits, "variable_rate_all_pairs": 1.0, "mean_before_gain": 0.9}
    commands = Commands(all_bits)
    found, out = study("rate --steps 200 --seeds 0", commands)
    assert found == status and ("3 % are allowed" in out) == bool(status)
    trainings = [word for count in (4, 1, 1, 1) for word in [*["train.py"] * count, "evaluate.py"]]
    assert [line.split()[0] for line in commands.done] == trainings
    assert "--train.steps 200 " in commands.done[5] and "--train.steps 800 " in commands.done[7]
    evaluation = commands.done[4]
    assert evaluation.count("-lambda") == 4 and "--rates" not in evaluation and "--side correct" in evaluation
    (row,) = [line for line in out.splitlines() if "| single_rate | 4 x " in line]
    assert "| 200 | 4 x 1,600 |" in row


def test_a_curve_too_short_for_a_bd_rate_gives_its_reason(study: Command) -> None:
    found = bd_rate({0: curve(), 1: curve()}, {0: curve(0.5)[:3], 1: curve(0.5)}, [0, 1], "psnr")
    assert found.mean == pytest.approx(-50) and found.seeds[0] is None
    assert found.cell == "-50.0 % (-50.0); none for seed 0: a curve has 3 points; 4 are needed"


def test_what_side_images_do_needs_all_of_them() -> None:
    points = [*curve(), point(0.5, 1, 21.5, "none"), point(0.5, 1, 20, "shuffled")]
    assert side_effect(points) == SideEffect(correct=2.5, shuffled=-1.5)
    assert side_effect(points[:-1]) == SideEffect(correct=2.5, shuffled=None)
    assert side_effect(curve()) == side_effect(curve(side="none")) == SideEffect(None, None)
    fixed = [point(None, 0.1 * i, 20 + i) | {"checkpoint": str(i)} for i in range(3)]
    fixed += [point(None, 0.1, 18.0, side) | {"checkpoint": "1"} for side in ("none", "shuffled")]
    assert side_effect(fixed) == SideEffect(correct=3.0, shuffled=0.0)


def test_the_list_shows_commands_and_runs_none(study: Command, tmp_path: Path) -> None:
    commands = Commands(BITS)
    status, out = study("fusion --list --seeds 0 1 --variants add aligned --limit 3", commands)
    lines = [line for line in out.splitlines() if not line.startswith("#")]
    assert status == 0 and commands.done == [] and not (tmp_path / "runs").exists()
    assert [Path(line.split()[1]).name for line in lines] == ["train.py", "evaluate.py"] * 4
    assert "# equal seconds" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fusion --variants add warp", "no variant 'warp'"),
        ("fusion --variants aligned", "leaves out add"),
        ("rate --budgets seconds", "equal pairs only"),
        ("rate --limit 0", "--limit is 0"),
    ],
)
def test_requests_that_cannot_be_met(words: str, message: str, study: Command) -> None:
    with pytest.raises(ConfigError, match=message):
        study(words, Commands(BITS))


def test_a_stopped_study_says_so_and_writes_no_report(study: Command, tmp_path: Path) -> None:
    def stop(name: str, arguments: list[str]) -> int:
        raise Stopped(signal.SIGINT)

    assert study(f"fusion --seeds 0 --out {tmp_path}/study.md", stop) == (130, "")
    assert not (tmp_path / "study.md").exists()


TINY = (
    "--model.latent 16 --model.hyper 8 --model.analysis-channels 16 24 32 --model.analysis-blocks 1 1 1 "
    "--model.side-channels 16 24 32 --model.synthesis-channels 16 24 32 --model.unet-channels 16 24 32 "
    "--model.embedding 16 --data.augment.shapes 64 64 --data.workers 0 --train.precision no "
    "--loss.perceptual none --loss.perceptual-weight 0 --diffusion.denoise-fraction 0"
)


@pytest.mark.usefixtures("fresh_accelerate", "offline", "quick")
def test_the_real_commands_serve_a_study(study: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of tiny variants by train.py and evaluate.py themselves."""
    of_test = Study(
        name="fusion",
        asks="Does it work?",
        fields=tuple(TINY.split()),
        variants=(
            Variant("add", ("--model.fusion", "add")),
            Variant("fixed", lambdas=(0.001, 0.01)),
            Variant("one_rate", ("--model.fusion", "add"), rates=(0.0, 1.0)),
        ),
        references=("add",),
        steps=3,
        seeds=(0,),
        rates=(0.0, 1.0),
        wrong_sides=True,
    )
    monkeypatch.setitem(STUDIES, "fusion", of_test)
    data = write_split(tmp_path / "data", "val", ["a", "b"])
    write_pairs(data / "train", ["p0", "p1", "p2"], 64, 64)

    def in_process(name: str, arguments: list[str]) -> int:
        AcceleratorState._reset_state(True)
        PartialState._reset_state()
        monkeypatch.setattr(sys, "argv", [name, *arguments, *(["--cpu"] if name == "train.py" else [])])
        return (train.main if name == "train.py" else evaluate.main)() or 0

    status, out = study(f"fusion --data-root {data} --json", in_process)
    assert status == 0
    rows = {row["variant"]: row for row in json.loads(out.splitlines()[-1])["rows"]}
    assert [len(rows[name]["points"]["0"]) for name in ("add", "fixed", "one_rate")] == [4, 4, 4]
    assert [point["rate"] for point in rows["one_rate"]["points"]["0"]] == [0, 1, 0, 0]
    assert rows["fixed"]["models"] == rows["one_rate"]["models"] == 2 and rows["fixed"]["pace"]["intervals"] == 4
    assert "none for seed 0: a curve has 2 points; 4 are needed" in out
    assert all(row["sides"][0]["shuffled"] is not None for row in rows.values())
