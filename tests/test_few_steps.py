"""Training for few steps: the second task sees what a sampler meets after its first step."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from tiny import batch_of_pairs, untrained_codec
from torch import Tensor

from modules.codec import Codec
from modules.noise import Draws
from modules.sampler import ddim
from utils.errors import ConfigError

COUNT = 32


def forward(codec: Codec):  # type: ignore[no-untyped-def]
    """The output of a training pass over 32 samples, and its draws."""
    x, x_side = batch_of_pairs(4)
    draws = Draws(list(range(COUNT)))
    return codec(x.repeat(8, 1, 1, 1), x_side.repeat(8, 1, 1, 1), draws), draws


@pytest.fixture(scope="module")
def few_steps(tiny_codec: Codec) -> Codec:
    codec = untrained_codec(diffusion={"denoise_from": "estimate"})
    codec.load_state_dict(tiny_codec.state_dict())
    return codec


def test_the_second_task_sees_what_a_sampler_meets_after_its_first_step(few_steps: Codec) -> None:
    seen: list[Tensor] = []
    add_noise = few_steps.process.add_noise  # type: ignore[union-attr]

    def spy(*args: Tensor) -> Tensor:
        seen.append(add_noise(*args))  # type: ignore[operator]
        return seen[-1]

    half = torch.full((COUNT,), 0.5)
    process = few_steps.process
    with torch.no_grad(), patch.object(process, "add_noise", spy), patch.object(process, "sample_t", lambda _: half):
        output, draws = forward(few_steps)
    start, again = output.predictions
    gamma = torch.where(draws.uniform("gamma_zero") < 0.5, 0.0, draws.uniform("gamma"))[:, None, None, None]
    noise = gamma * draws.normal("noise", (3, 64, 64))
    met: list[Tensor] = []

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        met.append(x_t)
        return 2 * start.x0 - 1

    ddim(few_steps.process, predict, noise, 2)  # type: ignore[arg-type]
    assert len(again.samples) < COUNT
    torch.testing.assert_close(seen[1], met[1][again.samples], rtol=0, atol=1e-5)


def test_it_is_asked_where_there_is_noise_and_teaches_the_first_task_nothing(few_steps: Codec) -> None:
    output, draws = forward(few_steps)
    start, again = output.predictions
    noisy = draws.uniform("gamma_zero") >= 0.5
    assert torch.equal(again.samples, torch.nonzero(noisy)[:, 0]) and 0 < len(again.samples) < COUNT
    assert torch.equal(again.weight, torch.ones(len(again.samples)))
    assert torch.equal(again.perceptual_weight, start.perceptual_weight[again.samples])
    (gradient,) = torch.autograd.grad(again.x0.sum(), start.x0, allow_unused=True)
    assert gradient is None


def test_the_original_is_what_stage_one_starts_from(tiny_codec: Codec, few_steps: Codec) -> None:
    with torch.no_grad():
        one, two = forward(tiny_codec)[0].predictions, forward(few_steps)[0].predictions
    torch.testing.assert_close(one[0].x0, two[0].x0)
    assert len(one[1].samples) == COUNT and float(one[1].weight.max()) > 1


def test_other_predictions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"diffusion\.prediction x0"):
        untrained_codec(diffusion={"denoise_from": "estimate", "prediction": "v"})
