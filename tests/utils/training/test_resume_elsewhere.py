"""A run goes on with another number of processes: every step sees the samples that it would have seen before."""

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from processes import torchrun
from tiny import tiny_config
from worker import noting_config, train_and_note

from data.mixture import make_loader
from train import Trainer
from utils.training.data import training_data
from utils.training.optimisation import micro_batch, sample_indices

Seen = dict[int, dict[int, str]]
"""Step -> number of the sample -> id of its pair."""


def noted(folder: Path) -> Seen:
    """What all processes of all starts have seen. Fails on a sample that was seen twice."""
    seen: Seen = {}
    for file in folder.glob("seen-*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            for index, name in zip(line["index"], line["id"], strict=True):
                assert index not in seen.setdefault(line["step"], {}), f"sample {index} twice in step {line['step']}"
                seen[line["step"]][index] = name
    return seen


def in_one_process(data: Path, runs: Path, steps: int) -> None:
    """The run, or what is left of it, up to step `steps`."""
    AcceleratorState._reset_state(True)
    train_and_note(Trainer(noting_config(str(data), steps), runs, "", cpu=True), runs)


def test_shares_of_any_number_of_processes_are_the_batch(folder_data: Path) -> None:
    """Loaded as each of 1, 2 and 4 processes does, from step 0 and from step 3 on: the same ids in the same steps."""
    config = tiny_config(data={"folder_root": str(folder_data)}, train={"steps": 6, "batch_size": 4})
    mixture, whole = training_data(config), None
    for processes, start in ((1, 0), (2, 3), (4, 3), (1, 3)):
        micro = micro_batch(config.train, processes)
        seen: Seen = {}
        for rank in range(processes):
            indices = sample_indices(config.train, start, rank, processes, micro)
            for number, batch in enumerate(make_loader(mixture, indices, micro, 0)):
                step = seen.setdefault(start + number, {})
                pairs = dict(zip(batch["index"].tolist(), batch["id"], strict=True))
                assert not step.keys() & pairs.keys()
                step |= pairs
        whole = whole or seen
        assert seen == {step: whole[step] for step in range(start, 6)}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerate")
def test_one_two_and_one_process_see_what_one_sees(folder_data: Path, tmp_path: Path) -> None:
    """Two steps by one process, two by two, two by one again, against six by one."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    in_one_process(folder_data, whole, 6)
    in_one_process(folder_data, parts, 2)
    done = torchrun("tests/worker.py", "noting", str(folder_data), str(parts), "4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed after step 2" in done.stderr
    in_one_process(folder_data, parts, 6)
    expected, found = noted(whole), noted(parts)
    assert found == expected and list(map(len, expected.values())) == [4] * 6
    assert len(list(parts.glob("seen-*.jsonl"))) == 2  # Both of the two processes had a share.
    assert losses(whole).keys() == losses(parts).keys()
    for step, loss in losses(whole).items():
        assert losses(parts)[step] == pytest.approx(loss, rel=1e-3), f"step {step}"


def losses(runs: Path) -> dict[Any, float]:
    """Step -> the training loss that metrics.jsonl has for it."""
    lines = map(json.loads, (runs / "resumed" / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
