"""scripts/benchmark.py on tiny codecs: the JSON says what was asked, and its ratios are those of its rows."""

from __future__ import annotations

import dataclasses
import json
import math
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_files import write_checkpoint
from tiny import smooth_pair, tiny_config
from torch import nn

import config
from config import Config
from data.pair import Pair
from modules.codec import Codec
from modules.diffusion_codec import DiffusionCodec
from modules.entropy import Coded
from utils import cli
from utils.benchmark import ours, session, training
from utils.benchmark.cost import count_flops, peak_memory
from utils.benchmark.paper import StepClock
from utils.benchmark.results import Goal, Row, judge, verdicts
from utils.benchmark.subjects import Subject
from utils.benchmark.timing import OutOfTime, Times, Turns, TurnTaking
from utils.errors import ConfigError
from utils.images import to_float, to_uint8
from utils.training.precision import compile_networks

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
CPU = torch.device("cpu")
TIMES = ("min", "q1", "median", "q3", "max")


def tiny_paper() -> Config:
    published = config.dicm_paper()
    return dataclasses.replace(published, model=dataclasses.replace(published.model, dim=8))


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config.PRESETS, "small", tiny_config)
    monkeypatch.setitem(config.PRESETS, "dicm_paper", tiny_paper)


def benchmark(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The script's exit status."""
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
    main = runpy.run_path(str(SCRIPT))["main"]
    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    return int(stopped.value.code or 0)


@pytest.fixture
def result(
    presets: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """The JSON of a quick session with everything in it; what was printed is under "printed"."""
    file = tmp_path / "new" / "speed.json"
    threads = torch.get_num_threads()
    assert benchmark(monkeypatch, "--quick", "--sizes", "64x64", "50x67", "--threads", 1, "--json", file) == 0
    assert torch.get_num_threads() == threads
    return json.loads(file.read_text()) | {"printed": capsys.readouterr().out}


@pytest.mark.slow
def test_a_quick_session(result: dict[str, Any]) -> None:
    rows = {row["key"]: row for row in result["rows"]}
    assert len(rows) == len(result["rows"])
    for row in rows.values():
        times = [row["milliseconds"][name] for name in TIMES]
        assert times[0] > 0 and times == sorted(times)
        assert len(row["turn_milliseconds"]) == (1 if row["operation"] == "train" else 2)
        assert row["peak_mib"] is None or row["peak_mib"] >= 0
    assert {row["codec"] for row in rows.values()} >= {"ours", "dicm_paper", "jpeg", "webp"}
    first, second = ([row for row in rows.values() if row["width"] == width] for width in (64, 67))
    assert not [row for row in second if row["codec"] == "dicm_paper" or row["operation"] == "train"]
    for group in (first, second):
        operations = {(r["operation"], r["steps"], r["precision"]) for r in group if r["codec"] == "ours"}
        for precision in ("float32", "bfloat16"):
            assert operations >= {("encode", None, precision), ("encode.analysis", None, precision)}
            assert operations >= {("decode", steps, precision) for steps in (1, 2, 4)}
            assert ("decode.mean", 1, precision) in operations
        assert operations >= {
            (part, None, "float32") for part in ("encode.hyperprior", "encode.coder", "decode.entropy")
        }
    _check_ratios(result, rows)
    decode = rows["dicm_paper/decode@200/64x64/float32"]
    assert "2 of 200 steps timed" in decode["note"]
    # The hyper-synthesis that costs most in operations runs once, the U-Net 200 times.
    assert decode["gflop"] > 50 * rows["dicm_paper/encode.published/64x64/float32"]["gflop"] > 0
    assert rows["ours/encode/64x64/float32"]["gflop"] > rows["ours/encode.analysis/64x64/float32"]["gflop"] > 0
    assert rows["ours/decode@4/64x64/float32"]["gflop"] > rows["ours/decode@1/64x64/float32"]["gflop"] > 0
    assert rows["ours/decode@1/64x64/float32"]["gflop"] > rows["ours/decode.mean@1/64x64/float32"]["gflop"] > 0
    machine = result["machine"]
    assert machine["threads"] == 1 and machine["device"] == "cpu" and machine["packages"]["torch"]
    assert "fresh weights" in result["codecs"]["ours"]["weights"]
    assert result["command"].startswith("python benchmark.py --quick")
    assert "| dicm_paper | decode | 200 | 64x64 | float32 |" in result["printed"]
    assert result["printed"].count("target") == len(result["verdicts"])


def test_training_is_timed_as_the_preset_trains_whatever_stage_the_checkpoint_is_of(presets: None) -> None:
    stage_2 = tiny_config(model={"latent": 24}, train={"parts": "denoiser"}, diffusion={"sampled_steps": 4})
    timed = session.stage_1("small", session.Loaded(nn.Module(), stage_2, ""))  # type: ignore[arg-type]
    assert timed == tiny_config(model={"latent": 24})
    with pytest.raises(ConfigError, match="trains only a part"):
        training.check(stage_2, "small")
    with pytest.raises(ConfigError, match=r"cannot train the model of --ckpt: .*side_dropout"):
        training.check(tiny_config(model={"side_dropout": 1.0}), "small")


def _check_ratios(result: dict[str, Any], rows: dict[str, Any]) -> None:
    paper = rows["dicm_paper/decode@200/64x64/float32"]["milliseconds"]["median"]

    def ours(key: str) -> float:
        return rows[f"ours/{key}"]["milliseconds"]["median"]

    encode = rows["dicm_paper/encode.published/64x64/float32"]["milliseconds"]["median"]
    train = [rows[f"{codec}/train/64x64/float32"]["pairs_per_second"] for codec in ("ours", "dicm_paper")]
    assert result["ratios"] == pytest.approx(
        {
            "decode_vs_dicm_paper": ours("decode@1/64x64/float32") / paper,
            "decode_bf16_vs_dicm_paper": ours("decode@1/64x64/bfloat16") / paper,
            "encode_vs_dicm_paper": ours("encode/64x64/float32") / encode,
            "train_vs_dicm_paper": train[0] / train[1],
        }
    )
    for name, ratio in result["ratios"].items():
        verdict = result["verdicts"][name]
        assert verdict["value"] == ratio
        assert verdict["met"] == (ratio >= 15 if name == "train_vs_dicm_paper" else ratio <= verdict["bound"])


def test_a_checkpoint_and_parts_left_out(
    presets: None, tiny: Config, tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ckpt = write_checkpoint(tmp_path / "ckpt", tiny_codec, tiny)
    file = tmp_path / "speed.json"
    arguments = ("--ckpt", ckpt, "--quick", "--turns", 1, "--steps", 1, "--sizes", "64x64", "--json", file)
    assert benchmark(monkeypatch, *arguments, "--skip", "paper", "anchors", "training") == 0
    result = json.loads(file.read_text())
    assert {row["codec"] for row in result["rows"]} == {"ours"}
    assert set(result["ratios"].values()) == {None}
    assert result["codecs"]["ours"]["weights"].endswith("step 80")


def test_profile(presets: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark(monkeypatch, "--profile", "--sizes", "64x64", "--steps", 1) == 0
    printed = capsys.readouterr().out
    assert "ours/encode/64x64/float32" in printed and "ours/decode@1/64x64/bfloat16" in printed
    assert "encode.coder" not in printed and "conv" in printed


def test_compiled_networks_are_rows_of_their_own(
    presets: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole operations only; they count the FLOPs of the same operation, and no ratio is of them."""
    compiled: list[Codec] = []
    monkeypatch.setattr(session, "compile_networks", compiled.append)
    words = ("--quick", "--turns", 1, "--sizes", "64x64", "--steps", 1, 2, "--skip", "paper", "anchors", "training")
    file = tmp_path / "speed.json"
    assert benchmark(monkeypatch, *words, "--compile", "--json", file) == 0
    found = json.loads(file.read_text())
    rows = {row["key"]: row for row in found["rows"]}
    keys = [f"{o}/64x64/{p}" for p in ("float32", "bfloat16") for o in ("encode", "decode@1", "decode@2")]
    assert {key for key in rows if key.startswith("ours_compiled/")} == {f"ours_compiled/{key}" for key in keys}
    for key in keys:
        assert rows[f"ours_compiled/{key}"]["gflop"] == rows[f"ours/{key}"]["gflop"] > 0
    (codec,) = compiled
    assert isinstance(codec, DiffusionCodec) and set(found["ratios"].values()) == {None}


def test_every_network_is_compiled(own_codec: Codec) -> None:
    compile_networks(own_codec)
    waiting = {name for name, part in own_codec.named_modules() if part._compiled_call_impl is not None}
    assert waiting == {"g_a", "e_side", "g_s", "mean", "unet", "entropy.h_a"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--sizes", "128"), "height x width"),
        (("--sizes", "50x67"), "multiples of 64"),
        (("--sizes", "8x64", "--skip", "training"), "16"),
        (("--turns", 0), "--turns is 0"),
        (("--budget", 0), "--budget is 0"),
        (("--rate", 2), "--rate is 2"),
        (("--steps", 1, 1), "different numbers"),
        (("--quality", 0), "--quality is 0"),
        (("--device", "nowhere"), "no device"),
        (("--device", "meta"), "cannot be used"),
        (("--preset", "larger"), "no preset 'larger'"),
        (("--preset", "dicm_paper"), "model.codec diffusion"),
        (("--preset", "small_one_step"), "--preset small_one_step trains only a part"),
        (("--paper-steps", 1, "--sizes", "64x64"), "2 to 200"),
    ],
)
def test_mistakes_are_sentences(
    presets: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    sentence: str,
) -> None:
    assert benchmark(monkeypatch, "--quick", "--turns", 1, *arguments) == 1
    assert sentence in capsys.readouterr().err


# ---------------------------------------------------------------- parts


def subject(codec: str, run: Any = lambda: None, operation: str = "decode", **fields: Any) -> Subject:
    return Subject(codec, operation, "float32", run, 64, 64, **fields)


def test_turns_alternate_and_what_was_measured_is_kept_when_they_are_broken_off() -> None:
    order: list[str] = []
    subjects = [subject(name, lambda name=name: order.append(name)) for name in "abc"]
    taking = TurnTaking(subjects, Turns(most=4), CPU)
    taking.run()
    assert order == list("abc" * 4)
    assert all(t and len(t.seconds) == 4 and t.calls == 1 and min(t.seconds) > 0 for t in taking.times())
    (fast,) = (one := TurnTaking([subject("a")], Turns(most=1, shortest=1e-3), CPU)).run() or one.times()
    assert fast is not None and fast.calls > 1

    for told, turns in ((2, [1, 1, None]), (4, [1, 1, 1]), (7, [2, 2, 2])):
        countdown = iter(range(told - 1, -1, -1))

        def stop(*_: float, left: Iterator[int] = countdown) -> None:
            if next(left) == 0:
                raise OutOfTime

        taking = TurnTaking(subjects, Turns(most=4), CPU, tell=stop)
        with pytest.raises(OutOfTime):
            taking.run()
        assert [t and len(t.seconds) for t in taking.times()] == turns


def test_a_budget_is_kept_and_what_does_not_fit_is_named() -> None:
    """Also in the middle of a call; each row is told as soon as it is there."""
    said: list[str] = []

    def slow() -> None:
        for _ in range(1000):
            time.sleep(0.01)

    group = session.Group("64x64", Turns(most=2), CPU, said.append)
    start = time.monotonic()
    assert not group.measure(lambda: [subject("fast"), subject("slow", slow)], 0.3)
    assert time.monotonic() - start < 5
    assert [row.subject.codec for row in group.rows()] == ["fast"] and len(said) == 1
    assert group.left_out() == ["Left out, for --budget was over: slow/decode/64x64/float32."]
    never = session.Group("training", Turns(most=2), CPU, said.append)
    assert not never.measure(lambda: slow() or [], 0.05)
    assert never.rows() == [] and never.left_out() == ["Left out, for --budget was over: training."]


def test_ctrl_c_keeps_the_rows_so_far() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    group = session.Group("64x64", Turns(most=2), CPU, lambda _: None)
    assert group.measure(lambda: [subject("fast"), subject("stopped", interrupt)], math.inf)
    assert [row.subject.codec for row in group.rows()] == ["fast"]


def test_a_fast_subject_is_called_once_untimed_before_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran before it has taken the caches; of a slow one it would only take time."""
    clock = SimpleNamespace(seconds=0.0, calls=0)

    def run() -> None:
        clock.calls += 1
        clock.seconds += 0.1 if clock.calls % 4 else 0.7  # Every fourth is slow.

    monkeypatch.setattr("utils.benchmark.timing.now", lambda device: clock.seconds)
    clock.calls = 2  # The first call, alone, is number 3; then number 4, untimed; then three in its turn.
    taking = TurnTaking([subject("a", run)], Turns(most=1, shortest=0.3), CPU)
    taking.run()
    (times,) = taking.times()
    assert times is not None
    assert times.calls == 3 and times.seconds == (pytest.approx(0.1),) and clock.calls == 7
    slow = SimpleNamespace(calls=0)

    def drag() -> None:
        slow.calls += 1
        clock.seconds += 2

    TurnTaking([subject("b", drag)], Turns(most=2, shortest=0.3), CPU).run()
    assert slow.calls == 1 + 2


def test_steps_that_are_not_run_count_as_the_mean_of_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = nn.Identity()
    clock = StepClock(unet, 3, 10, CPU)
    ticks = iter([0.0, 1.0, 3.0, 100.0, 102.0, 105.0])  # two decodings, whose steps take 1, 2 and 2, 3 seconds
    monkeypatch.setattr("utils.benchmark.paper.now", lambda device: next(ticks))
    for _ in range(6):
        unet(torch.zeros(1))
    assert clock.missing() == pytest.approx(7 * 2.0)
    assert clock.begins == []
    assert StepClock(unet, 10, 10, CPU).missing() == 0
    with pytest.raises(ConfigError):
        StepClock(unet, 1, 10, CPU)


def test_costs_of_a_known_call() -> None:
    convolution = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert count_flops(lambda: convolution(torch.zeros(1, 3, 8, 8))) == 2 * 5 * 3 * 9 * 64
    peak = peak_memory(lambda: torch.ones(2**24).sum(), CPU)
    assert peak is None or 0.9 * 2**26 < peak < 1.5 * 2**26


def test_a_ratio_is_of_medians_and_throughputs_turn_around() -> None:
    def row(codec: str, seconds: tuple[float, ...], batch: int = 1) -> Row:
        return Row(subject(codec, batch=batch), Times(seconds, 1), None, None)

    key = ("decode", None, "float32")
    rows = [row("ours", (1.0, 2.0, 9.0)), row("dicm_paper", (10.0, 10.0, 10.0))]
    verdict = judge(rows, Goal("time", key, key, 0.2))
    assert verdict is not None and verdict["value"] == pytest.approx(0.2) and verdict["met"]
    assert verdict["q1"] == pytest.approx(0.15)
    rows = [row("ours", (1.0,), batch=2), row("dicm_paper", (4.0,))]
    verdict = judge(rows, Goal("throughput", key, key, 15.0, True))
    assert verdict is not None and verdict["value"] == pytest.approx(8.0) and not verdict["met"]
    assert "missed" in verdicts({"throughput": verdict})
    assert judge(rows[:1], Goal("time", key, key, 0.2)) is None


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("utils.benchmark.cost.RESET", tmp_path / "none" / "file")
    calls = SimpleNamespace(count=0)

    def run() -> None:
        calls.count += 1

    assert peak_memory(run, CPU) is None and calls.count == 1


def test_the_parts_of_ours_give_what_the_whole_gives(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_codec, "tile_rows", 192)  # 256 rows make two strips.
    assert isinstance(tiny_codec, DiffusionCodec)
    images = [to_uint8(image) for image in smooth_pair(250, 64)]
    found = {s.key: s for s in ours.subjects(tiny_codec, Pair(images[0], images[1], "pair", "group"), 0.5, [1])}
    data = found["ours/encode/250x64/float32"].run()
    assert data == tiny_codec.compress(to_float(images[0]), 0.5) == found["ours/encode.coder/250x64/float32"].run()
    y_hat = found["ours/decode.entropy/250x64/float32"].run()
    coded = found["ours/encode.hyperprior/250x64/float32"].run()
    assert isinstance(coded, Coded) and isinstance(y_hat, torch.Tensor)
    assert torch.equal(y_hat, coded.y_hat)
    image = found["ours/decode.networks@1/250x64/float32"].run()
    assert isinstance(image, torch.Tensor)
    assert np.array_equal(to_uint8(image[0, :, :250]), found["ours/decode@1/250x64/float32"].run())
