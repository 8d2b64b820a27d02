"""`dicm_paper` with its published loss, on real photographs and with the real weights of LPIPS-VGG."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stand_ins import require_weights
from trainers import metrics, trainer

from modules.losses import objective
from modules.noise import Draws
from modules.perceptual import LpipsLoss
from utils.configio import parse_command_line
from utils.evaluation.plan import describe_models

COMMAND = """--preset dicm_paper --name dicm --model.dim 8 --model.finest-context 8 --loss.perceptual lpips_vgg
--data.dataset builtin --data.augment.height 64 --data.augment.width 64 --data.workers 0 --data.val-limit 1
--diffusion.steps 2 --train.steps 3 --train.decay 0 --train.batch-size 2 --train.log-every 1"""


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerate")
def test_trains_with_lpips_vgg_and_its_evaluation_knows_it(tmp_path: Path) -> None:
    require_weights("vgg16")
    config, _ = parse_command_line(COMMAND.split())
    training = trainer(config, tmp_path)
    assert isinstance(training.perceptual, LpipsLoss)
    assert training.train() == 0

    # Every step has a finite loss with the perceptual distance in it.
    lines = [line for line in metrics(tmp_path, "dicm") if "train/loss" in line]
    assert len(lines) == 3 and all(math.isfinite(line["train/loss"]) for line in lines)
    assert all(0 < line["train/perceptual_0"] < 2 and line["train/gradient_norm"] > 0 for line in lines)

    # The perceptual distance alone, without bits and distortion, has a gradient in all that makes the image.
    pairs = [training.mixture[i] for i in range(2)]
    x, x_side = (torch.stack([torch.as_tensor(pair[name]) for pair in pairs]) / 255 for name in ("x", "x_side"))
    output = training.codec(x, x_side, Draws([Draws.key(0, i) for i in range(2)]))
    alone = replace(config.loss, lmbda=0.0, distortion_weight=0.0)
    training.codec.zero_grad()
    objective(output, alone, False, training.perceptual)[0].backward()
    for part in ("g_a", "common", "side", "unet"):
        gradients = [p.grad for p in getattr(training.codec, part).parameters() if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients) and any(g.any() for g in gradients), part

    # An evaluation knows whose features the loss compared, and marks LPIPS-VGG and DISTS.
    (model,) = describe_models([str(tmp_path / "dicm")])
    assert model.trained_on == "vgg16"
