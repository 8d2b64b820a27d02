"""The study of equal budgets: its methods, its plan, and runs that a signal stops and the same command continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from processes import ROOT, python
from tiny import write_data
from torch import nn

from modules.codec import build_codec
from scripts.studies import train_all
from scripts.studies.full_size import operations, table
from scripts.studies.methods import METHODS, MOST_RECEIVER, MOST_SENDER, Method
from scripts.studies.study import Study, last_step, validation_loss
from utils.configio import parse_command_line, preset_named
from utils.errors import ConfigError, ProjectError
from utils.training.stopping import StopRequest

DATA = ["--data.dataset", "folder"]


def options(folder: Path, **changes: object) -> Namespace:
    known = {
        "methods": ["ours", "ndsc"], "data_root": "DIR", "runs": str(folder / "runs"), "pairs": 320, "seconds": None,
        "tables": ("pairs", "seconds"), "lrs": [1e-4, 1e-3], "jobs": 2, "every": 60.0, "status": False,
        "evaluate": False, "split": "val", "out": str(folder / "out"),
    }  # fmt: skip
    return Namespace(**known | changes)


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_parameters_that_its_entry_says_and_no_more_than_allowed(name: str) -> None:
    method = METHODS[name]
    counts = []
    for rate in {0, len(method.rates) - 1}:
        config, _ = parse_command_line([*method.arguments(rate), *DATA])
        counts.append(parameters(build_codec(config)))
    sender, receiver = (max(values) for values in zip(*counts, strict=True))
    assert (sender, receiver) == (method.sender, method.receiver)
    assert sender <= MOST_SENDER and receiver <= MOST_RECEIVER


def parameters(codec: nn.Module) -> tuple[int, int]:
    """Of the sender's parts, and of the entropy model and all that decoding runs."""
    codec.freeze()
    codec.eval()
    ran = {id(p): p for p in codec.entropy.parameters()}

    def note(module: nn.Module, *_: object) -> None:
        ran.update((id(p), p) for p in module.parameters(recurse=False))

    height, width = codec.only_size or (64, 64)
    x_side = torch.rand(1, 3, height, width)
    with torch.no_grad():
        y_hat = codec(x_side, x_side, rate=torch.zeros(1)).y_hat.float()
        hooks = [module.register_forward_hook(note) for module in codec.modules()]
        codec.synthesise(y_hat, x_side, torch.zeros(1, dtype=torch.int64), 1, 0.5, 0)
    for hook in hooks:
        hook.remove()
    sender = sum(p.numel() for part in codec.sender for p in getattr(codec, part).parameters())
    return sender, sum(p.numel() for p in ran.values())


def test_each_of_several_rates_is_a_setting_of_its_own() -> None:
    configs = [parse_command_line([*METHODS["ndsc"].arguments(rate), *DATA])[0] for rate in range(4)]
    bpp = [config.model.bpp for config in configs]
    assert bpp == sorted(set(bpp)), "the rates rise"


def test_full_size_runs_are_commands_with_their_cost() -> None:
    text = table(["ndsc"])
    each = operations(preset_named("ndsc_prior"))
    hours = 4 * 50_000 * 32 * each / 8e12 / 3600
    assert f"| ndsc_prior | 4 | 32 | 50,000 | {each / 1e9:,.0f} | {hours:,.0f} |" in text
    assert text.count("accelerate launch train.py") == 4 and text.count("--num_processes 8") == 4
    assert "--train.batch-size" not in text, "8 GPUs share a batch of 32 as it is"


# ---------------------------------------------------------------- the plan


def test_budgets_are_equal(tmp_path: Path) -> None:
    study = Study(options(tmp_path))
    models = [model for model, _, _ in study.models()]
    assert models == ["ours", "ndsc_0", "ndsc_1", "ndsc_2", "ndsc_3"]
    study.times = dict(zip(models, (2.0, 1.0, 1.0, 0.5, 0.5), strict=True))
    assert {task.steps for task in study.training("pairs")} == {80}
    assert study.seconds() == 80
    assert [task.steps for task in study.training("seconds")] == [40, 80, 80, 160, 160]


def test_the_learning_rate_with_the_least_loss_is_chosen_once_all_were_tried(tmp_path: Path) -> None:
    study = Study(options(tmp_path))
    study.losses = {"ours": {"0.0001": 3.0}}
    assert study.chosen("ours") is None
    study.losses["ours"]["0.001"] = 2.0
    assert study.chosen("ours") == 1e-3
    study.losses["ours"]["0.001"] = None
    assert study.chosen("ours") == 1e-4, "the other one diverged"
    study.times = {"ours": 1.0} | {f"ndsc_{i}": 1.0 for i in range(4)}
    assert [task.lr for task in study.training("pairs", "ours")] == [1e-4]


def test_losses_in_other_units_than_the_squared_error_are_compared_by_one_lambda(tmp_path: Path) -> None:
    line = {"step": 5, "val/loss": 900.0, "val/bpp@0": 0.1, "val/psnr@0": 20.0, "val/bpp@1": 0.5, "val/psnr@1": 30.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + '\n{"step"')
    for distortion, expected in (("mse", 900.0), ("l1", 0.3 + 0.0016 * 255**2 * (0.01 + 0.001) / 2)):
        (tmp_path / "config.json").write_text(json.dumps({"loss": {"distortion": distortion}}))
        assert validation_loss(tmp_path) == pytest.approx(expected)


def test_a_study_goes_on_with_its_own_settings_alone(tmp_path: Path) -> None:
    Study(options(tmp_path))
    Study(options(tmp_path, methods=["ours"]))
    with pytest.raises(ConfigError, match="was begun with pairs 320, and now it is 640"):
        Study(options(tmp_path, pairs=640))


# ---------------------------------------------------------------- the runs

STAND_IN = """
import json, signal, sys, time
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
run, steps, lr = Path(given["--runs"]) / given["--name"], int(given["--train.steps"]), float(given["--train.lr"])
with open(Path(given["--runs"]) / "started.txt", "a") as file:
    print(given["--name"], steps, lr, file=file)
if lr == 0.01:
    sys.exit("error: The loss of step 3 is not finite; lower train.lr.")
if given["--preset"] == "broken":
    sys.exit("error: nothing works.")
run.mkdir(parents=True, exist_ok=True)
asked = []
(run / "config.json").write_text(json.dumps({"loss": {"distortion": "mse"}}))
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
for step in range(1, steps + 1):
    time.sleep(SLEEP)
    with open(run / "metrics.jsonl", "a") as file:
        print(json.dumps({"step": step, "train/loss": 1.0, "val/loss": abs(lr - 3e-4)}), file=file)
    if asked:
        (run / "saved").touch()
        sys.exit(143)
(run / "checkpoints" / f"step_{steps:08d}").mkdir(parents=True)
"""


def study_of_stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch, sleep: float = 0.0, **changes: object) -> Study:
    """A study of two methods whose train.py only pretends."""
    script = folder / "train.py"
    script.write_text(STAND_IN.replace("SLEEP", str(sleep)))
    monkeypatch.setattr(train_all, "TRAIN", script)
    monkeypatch.setattr(train_all, "PAUSE", 0.02)
    monkeypatch.setattr("scripts.studies.study.seconds_per_step", lambda run: 0.5)
    for name, method in {"a": Method("a", 1, 1), "b": Method("b", 1, 1, rates=("--x 1", "--x 2"))}.items():
        monkeypatch.setitem(METHODS, name, method)
    return Study(options(folder, methods=["a", "b"], **{"lrs": [1e-4, 3e-4, 1e-2], **changes}))


def started(study: Study) -> list[str]:
    return (study.folder / "started.txt").read_text().splitlines()


def test_all_is_trained_once_with_the_best_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of_stand_ins(tmp_path, monkeypatch)
    train_all.train_all(study)
    begun = started(study)
    assert begun[:3] == ["a-time 12 0.0003", "b_0-time 12 0.0003", "b_1-time 12 0.0003"], "first, one after the other"
    assert sorted(begun[3:9]) == sorted(f"{m}-lr{lr:g} 10 {lr:g}" for m in ("a", "b_1") for lr in (1e-4, 3e-4, 1e-2))
    assert sorted(begun[9:]) == sorted(f"{m}-{t} 80 0.0003" for m in ("a", "b_0", "b_1") for t in ("pairs", "seconds"))
    losses = json.loads((study.folder / "learning_rates.json").read_text())["b"]
    assert losses["0.0003"] == 0 and losses["0.01"] is None, "a rate that diverges is out"
    out = capsys.readouterr().out
    assert out.count("train.py --preset") == len(begun) and out.count("evaluate.py") == 4
    assert study.progress().splitlines()[-1].split() == ["all", "0.0"]
    train_all.train_all(Study(study.options))
    assert started(study) == begun, "the same command again has nothing to do"


def test_a_failure_ends_the_study_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of_stand_ins(tmp_path, monkeypatch)
    monkeypatch.setitem(METHODS, "b", Method("broken", 1, 1))
    with pytest.raises(ProjectError, match=r"b-time ended with exit status 1: error: nothing works\."):
        train_all.train_all(study)


def test_a_signal_stops_the_runs_which_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of_stand_ins(tmp_path, monkeypatch, sleep=0.05, lrs=[3e-4])
    study.times = {"a": 1.0, "b_0": 1.0, "b_1": 1.0}
    stop = StopRequest(announce=False)
    pool = train_all.Pool(study, stop)
    tasks = study.training("pairs")
    show = study.progress

    def look() -> str:
        if all(last_step(study.path(task)) for task in tasks[:2]):
            stop.received = signal.SIGTERM
        return show()

    monkeypatch.setattr(study, "progress", look)
    study.options.every = 0
    with pytest.raises(SystemExit) as ended:
        pool.train(tasks, 2)
    assert ended.value.code == 128 + signal.SIGTERM
    assert [(study.path(task) / "saved").exists() for task in tasks] == [True, True, False]
    assert 0 < study.left(tasks) < sum(task.steps for task in tasks)


def test_status_tells_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of_stand_ins(tmp_path, monkeypatch)
    assert study.progress().splitlines()[-1].split() == ["all", "nan"], "nothing is timed"
    study.times = {"a": 90.0, "b_0": 45.0, "b_1": 45.0}
    (study.path(study.choosing("a")[0]) / "checkpoints" / "step_00000010").mkdir(parents=True)
    row = study.progress().splitlines()[1].split()
    # Of a: two runs of 10 steps, one of 80 and one of 53 steps of 90 s, two at a time.
    assert study.seconds() == 4800 and row == ["a", "90.00", "33%", "0%", "0%", "1.9"]


@pytest.mark.slow
def test_a_tiny_method_is_timed_trained_and_stopped_as_a_user_would(tmp_path: Path) -> None:
    """With the real train.py; SIGINT to the script alone, and the same command goes on."""
    data = write_data(tmp_path / "data")
    script = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from scripts.studies import methods, train_all\n"
        "from utils.cli import run\n"
        "methods.COMMON = '--train.batch-size 4 --train.precision no --data.augment.height 64 --data.augment.width 64 "
        "--data.workers 0'\n"
        "methods.METHODS['tiny'] = methods.Method('ndsc', 1, 1, '--model.hidden 4 --model.code 4 "
        "--model.residual-layers 1')\n"
        "run(train_all.main)\n"
    )
    words = ["tiny", "--data-root", data, "--runs", tmp_path / "runs", "--lrs", "1e-3", "--pairs", "80"]
    command = [sys.executable, "-c", script, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    metrics = tmp_path / "runs" / "tiny-time" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT
    done = python(*command[1:], env={"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    seconds = json.loads((tmp_path / "runs" / "times.json").read_text())["tiny"]
    assert 0 < seconds < 60
    assert (tmp_path / "runs" / "tiny-pairs" / "checkpoints" / "step_00000020").is_dir()
    assert list((tmp_path / "runs" / "tiny-seconds" / "checkpoints").glob("step_*"))
