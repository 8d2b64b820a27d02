"""The training loop: exact resuming, process-independent schedules, and stopping with a sentence."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from image_files import encode, noise, write, write_pairs
from tiny import smooth_pair, tiny_config
from torch import Tensor
from trainers import assert_same, config_on, metrics, state, trainer

import train as training
from config import LossConfig, PaperLossConfig, TrainConfig
from modules.codec import build_codec
from train import Trainer
from utils.checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint
from utils.configio import parse_command_line
from utils.errors import ConfigError, DataError, ProjectError
from utils.training.checkpoints import STATE_FILE, step_folders
from utils.training.optimisation import (
    GAIN_LR,
    QUANTILE_LR,
    build_optimizer,
    learning_rate,
    micro_batch,
    sample_indices,
)
from utils.training.validation import is_objective

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def test_four_steps_equal_two_resume_two(folder_data: Path, tmp_path: Path) -> None:
    """Bit for bit: weights, moving average, the optimizer's moments; and the log has each step once."""
    config = config_on(folder_data, "whole")
    trainer(config, tmp_path).train()
    whole = state(tmp_path, "whole", 4)
    assert {name.split(".")[0] for name in whole} == {"model", "ema", "optimizer"}

    class Killed(Exception):
        pass

    killed = replace(config, name="killed")
    first = trainer(killed, tmp_path)
    with patch.object(first, "validate", side_effect=Killed), pytest.raises(Killed):
        first.train()  # Steps 3 and 4 are done and logged, but step 4 is not saved.
    assert [f.name for f in step_folders(first.run.checkpoints)] == ["step_00000002"]
    half_saved = first.run.checkpoints / "step_00000004.tmp"
    shutil.copytree(first.run.checkpoints / "step_00000002", half_saved)
    (half_saved / STATE_FILE).write_bytes((half_saved / STATE_FILE).read_bytes()[:1000])
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "tra')

    second = trainer(killed, tmp_path)
    assert second.step == 2
    second.train()
    assert_same(whole, state(tmp_path, "killed", 4))
    assert metrics(tmp_path, "killed") == metrics(tmp_path, "whole")
    assert [line["step"] for line in metrics(tmp_path, "whole")] == [1, 2, 3, 4, 4]


def test_old_checkpoints_are_pruned_and_the_best_is_kept(folder_data: Path, tmp_path: Path) -> None:
    fields = {"keep": 2, "save_every": 1, "val_every": 2}
    trainer(config_on(folder_data, train=fields), tmp_path).train()
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(f.name for f in checkpoints.iterdir()) == ["best", "step_00000003", "step_00000004"]
    assert load_checkpoint(tmp_path / "run").path == checkpoints / "best" / MODEL_FILE
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 2
    before = state(tmp_path, "run", 4)
    trainer(config_on(folder_data, train=fields), tmp_path).train()  # A finished run does nothing.
    assert_same(before, state(tmp_path, "run", 4))


def test_the_last_validated_is_kept_where_the_validation_loss_is_not_the_objective(folder_data, tmp_path):
    """A perceptual term trades the mean squared error away, so rate + lambda x MSE would keep the first."""
    losses = iter([1.0, 2.0, 1.0, 2.0])

    def rising(*arguments: Any) -> dict[str, float]:
        return {"val/loss": next(losses)}

    with patch.object(training, "validate", rising):
        for name, coarse in (("rate_and_mse", 0.0), ("more", 1.0)):
            schedule = {"steps": 2, "val_every": 1}
            trainer(config_on(folder_data, name, loss={"coarse_weight": coarse}, train=schedule), tmp_path).train()
    assert [load_checkpoint(tmp_path / name).step for name in ("rate_and_mse", "more")] == [1, 2]
    mse = LossConfig()
    assert is_objective(mse) and is_objective(replace(mse, perceptual_weight=1.0))
    others: tuple[dict[str, Any], ...] = (
        {"perceptual": "effnet", "perceptual_weight": 1.0},
        {"distortion": "l1"},
        {"ms_ssim_weight": 1.0},
    )
    assert not any(is_objective(replace(mse, **fields)) for fields in others) and not is_objective(PaperLossConfig())


@pytest.mark.slow
def test_training_says_what_it_trains_and_validates_on(folder_data: Path, tmp_path: Path) -> None:
    """And does so: other pairs give other losses, and a damaged one among them is noticed."""
    other = tmp_path / "other"
    write_pairs(other / "train", [f"pair{i}" for i in range(9)], 64, 64)
    write_pairs(other / "val", ["one", "two"], 64, 64)
    arguments = "--preset demo --data.augment.height 64 --data.augment.width 64 --train.steps 1 --train.batch-size 2"
    losses = []
    for name, root, pairs, held_out in (("first", folder_data, 6, 1), ("second", other, 9, 2)):
        sets = [f"mine=folder:{root},weight=3", "street=warped"]
        config, _ = parse_command_line([*arguments.split(), "--data.mix", *sets, "--name", name])
        trainer(config, tmp_path).train()
        log = (tmp_path / name / "log.txt").read_text()
        assert f"trains on mine ({root}): {pairs} pairs, 75.0%; street (made here)" in log
        assert f"validates on mine ({root}): {held_out} pairs of the split val" in log
        losses.append(metrics(tmp_path, name)[0]["train/loss"])
    assert losses[0] != losses[1]
    image = next((other / "train" / "left").iterdir())
    image.write_bytes(image.read_bytes()[:-200])
    with pytest.raises(DataError, match=f"{image.name} is cut short"):
        trainer(config, tmp_path)


def test_evaluation_from_the_checkpoint_equals_the_model_in_memory(folder_data: Path, tmp_path: Path) -> None:
    """The file has the averaged weights; what they encode and decode is what the average in memory does."""
    run = trainer(config_on(folder_data), tmp_path)
    run.train()
    loaded = load_checkpoint(tmp_path / "run" / "checkpoints" / "step_00000004").codec
    run.ema.freeze()
    assert loaded.entropy.identity() == run.ema.entropy.identity()
    x, x_side = smooth_pair()  # In noise, pixels moved by a hundredth more or less would differ by as much.
    data = run.ema.compress(x, 0.5)
    a, b = (codec.eval().decompress(data, x_side) for codec in (run.ema, loaded))
    assert (a - b).abs().max() < 2e-3


def test_mistake_05_the_learning_rate_follows_optimizer_steps() -> None:
    """Warm-up, plateau and decay are functions of the optimizer step alone; no number of processes comes in."""
    settings = TrainConfig(steps=100, warmup=10, decay=20, lr_floor=0.1)
    factors = [learning_rate(step, settings) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1.0 == factors[80]
    assert factors[90] == pytest.approx(0.1 + 0.9 * 0.5) and factors[99] == pytest.approx(0.1 + 0.9 / 20)
    assert factors[:10] == sorted(factors[:10]) and factors[80:] == sorted(factors[80:], reverse=True)


def test_mistake_05_applied_learning_rates_are_those_of_the_steps(folder_data: Path, tmp_path: Path) -> None:
    """One step of the loop is one step of the schedule, with accumulation too; every group keeps its own rate."""
    settings = {"steps": 4, "warmup": 4, "decay": 1, "accumulation": 2, "lr": 1e-3}
    run = trainer(config_on(folder_data, train=settings), tmp_path)
    rates: list[tuple[int, list[float]]] = []
    step = run.optimizer.step
    bases = [group["base_lr"] for group in run.optimizer.param_groups]

    def spy(*args: Any, **kwargs: Any) -> Any:
        rates.append((run.step, [group["lr"] for group in run.optimizer.param_groups]))
        return step(*args, **kwargs)

    with patch.object(run.optimizer, "step", spy):
        run.train()
    assert [at for at, _ in rates] == [0, 1, 2, 3]
    assert bases[0] == 1e-3
    for (_, applied), factor in zip(rates, (0.25, 0.5, 0.75, 1.0), strict=True):
        assert applied == pytest.approx([factor * base for base in bases])


def test_mistake_05_samples_do_not_depend_on_processes_or_accumulation() -> None:
    """Step s sees samples 4s to 4s + 3, however they are shared out; a resumed run goes on where it was."""
    for processes, accumulation in ((1, 1), (2, 1), (1, 4), (2, 2), (4, 1)):
        settings = TrainConfig(steps=3, batch_size=4, accumulation=accumulation)
        micro = micro_batch(settings, processes)
        of_ranks = [list(sample_indices(settings, 0, rank, processes, micro)) for rank in range(processes)]
        share = 4 // processes
        for step in range(3):
            seen = sorted(i for indices in of_ranks for i in indices[step * share : (step + 1) * share])
            assert seen == list(range(4 * step, 4 * step + 4))
        resumed = list(sample_indices(settings, 2, 0, processes, micro))
        assert resumed == of_ranks[0][2 * share :]


def gradients(run: Trainer) -> dict[str, Tensor]:
    """Gradients of the first optimizer step."""
    micro = run.micro
    indices = list(sample_indices(run.config.train, 0, 0, 1, micro))
    run.model.train()
    run.optimise(iter(training.make_loader(run.mixture, indices, micro, 0)))
    return {name: p.grad.clone() for name, p in run.codec.named_parameters() if p.grad is not None}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert a.keys() == b.keys() and a
    for name in a:
        error = (a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-6)
        assert error < tolerance, f"{name} differs by {error:.2g}"


def test_mistake_05_two_accumulated_halves_give_the_whole_batch_gradient(folder_data: Path, tmp_path: Path) -> None:
    """Accumulation really accumulates: two micro-batches of 2 equal one of 4."""
    free = {"clip": 1e9, "batch_size": 4}
    whole = gradients(trainer(config_on(folder_data, "one", train=free), tmp_path))
    halves = gradients(trainer(config_on(folder_data, "two", train=free | {"accumulation": 2}), tmp_path))
    assert_close(halves, whole)


@pytest.mark.parametrize(("batch", "accumulation", "processes"), [(6, 1, 4), (8, 3, 1), (2, 2, 2)])
def test_a_batch_that_cannot_be_shared_out_is_an_error(batch: int, accumulation: int, processes: int) -> None:
    with pytest.raises(ConfigError, match=f"multiple of {processes * accumulation}"):
        micro_batch(TrainConfig(batch_size=batch, accumulation=accumulation), processes)
    assert micro_batch(TrainConfig(batch_size=8, accumulation=2), 2) == 2


@pytest.mark.parametrize("variable_rate", [True, False])
def test_quantiles_and_gains_are_groups_of_their_own(variable_rate: bool) -> None:
    """Every parameter is in one group with the rate meant for it; quantiles are not clipped with the others."""
    codec = build_codec(tiny_config(model={"variable_rate": variable_rate}))
    settings = TrainConfig(lr=1e-4)
    optimizer, clipped = build_optimizer(codec, settings)
    rates = {p: group["base_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in optimizer.param_groups)
    for name, parameter in codec.named_parameters():
        expected = QUANTILE_LR if name.endswith("quantiles") else GAIN_LR if name.endswith("log_gain") else 1e-4
        assert rates[parameter] == expected, name
        assert any(parameter is other for other in clipped) == (not name.endswith("quantiles"))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_with_a_sentence(folder_data: Path, tmp_path: Path, where: str) -> None:
    run = trainer(config_on(folder_data, train={"steps": 8, "save_every": 1}), tmp_path)
    original = run.forward

    def spoil(batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = original(batch)
        if run.step < 2:
            return loss, parts
        # sqrt has a finite value and an infinite slope at 0.
        return (loss * float("nan") if where == "loss" else loss + (0 * loss).sqrt()), parts

    with patch.object(run, "forward", spoil), pytest.raises(ProjectError, match="step 2 is not finite") as caught:
        run.train()
    assert "\n" not in str(caught.value) and "train.lr" in str(caught.value)
    assert ("nan" if where == "loss" else "in its gradient") + ", for the pairs pair" in str(caught.value)
    assert trainer(run.config, tmp_path).step == 2  # The last checkpoint is intact.


def test_validation_figures_are_of_real_files(folder_data: Path, tmp_path: Path) -> None:
    """bpp in the log is 8 x the bytes of the file that the averaged weights write, over the pixels."""
    run = trainer(config_on(folder_data, train={"steps": 1}), tmp_path)
    run.train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = next(line for line in lines if "val/bpp@0.5" in line)
    run.ema.freeze()
    (validation,) = run.validation.values()
    pair = validation[0]
    x = torch.from_numpy(np.ascontiguousarray(pair.x.transpose(2, 0, 1))).float() / 255
    assert logged["val/bpp@0.5"] == 8 * len(run.ema.eval().compress(x, 0.5)) / (64 * 64)
    assert logged["val/psnr@1"] > 0 and "val/psnr_no_side@0" in logged


def test_an_unfrozen_codec_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="freeze"):
        save_checkpoint(tmp_path / MODEL_FILE, build_codec(tiny_config()), tiny_config(), 0)
    assert not (tmp_path / MODEL_FILE).exists()


@pytest.mark.parametrize(("split", "view"), [("train", "left"), ("val", "right")])
def test_a_truncated_last_png_is_named_before_the_first_step(tmp_path: Path, split: str, view: str) -> None:
    whole = encode(noise(64, 64))
    for folder, count in (("train", 300), ("val", 20)):
        for number in range(count):
            for side in ("left", "right"):
                write(tmp_path / "data" / folder / side / f"{number:03d}.png", whole)
    last = max((tmp_path / "data" / split / view).iterdir())
    write(last, whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{last} is cut short at {len(whole) // 2} bytes"):
        trainer(config_on(tmp_path / "data"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
