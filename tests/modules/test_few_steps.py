"""Training for few steps: the second task sees what a sampler meets after its first step."""

from unittest.mock import patch

import pytest
import torch
from tiny import batch_of_pairs, untrained_codec
from torch import Tensor

from modules.codec import Codec
from modules.diffusion import ddim
from modules.noise import Draws

COUNT = 32


def forward(codec: Codec):  # type: ignore[no-untyped-def]
    """The output of a training pass over 32 samples, and its draws."""
    x, x_side = batch_of_pairs(4)
    draws = Draws(list(range(COUNT)))
    return codec(x.repeat(8, 1, 1, 1), x_side.repeat(8, 1, 1, 1), draws), draws


@pytest.fixture(scope="module")
def few_steps(tiny_codec: Codec) -> Codec:
    codec = untrained_codec(diffusion={"sampled_steps": 4})
    codec.load_state_dict(tiny_codec.state_dict())
    return codec


@pytest.mark.parametrize(("steps", "step"), [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)])
def test_the_second_task_sees_what_a_sampler_meets(few_steps: Codec, steps: int, step: int) -> None:
    _, x_side = batch_of_pairs(2)
    draws, rate, one = Draws([0, 1]), torch.tensor([0.3, 0.8]), torch.ones(2)
    # The draws that lead to step number `step` of `steps` for one sample, and always to the first of 2 for the other.
    fixed = {"steps": torch.tensor([(steps - 2 + 0.5) / 3, 0]), "step": torch.tensor([(step - 0.5) / (steps - 1), 0])}
    gamma, noise = torch.tensor([1.0, 0.4]), draws.normal("noise", (3, 64, 64))
    noise = gamma[:, None, None, None] * noise
    met: list[Tensor] = []

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        met.append(x_t)
        return few_steps._estimate_x0(x_t, t, gamma, rate, context)  # type: ignore[operator]

    with torch.no_grad(), patch.object(draws, "uniform", lambda name: fixed[name]):
        context = few_steps.context(torch.zeros(2, 16, 4, 4), x_side, torch.tensor([True, True]), rate)  # type: ignore[operator]
        first = (few_steps._estimate_x0(noise, one, gamma, rate, context) + 1) / 2  # type: ignore[operator]
        x_t, t = few_steps._sampled(first, noise, gamma, rate, context, draws)  # type: ignore[operator]
        ddim(few_steps.process, predict, noise, steps)  # type: ignore[arg-type]
        expected = met[step][0]
        met.clear()
        ddim(few_steps.process, predict, noise, 2)  # type: ignore[arg-type]
    torch.testing.assert_close(t, torch.tensor([1 - step / steps, 0.5]))
    torch.testing.assert_close(x_t, torch.stack([expected, met[1][1]]), rtol=0, atol=1e-4)


def test_it_is_asked_where_there_is_noise_and_teaches_the_first_task_nothing(few_steps: Codec) -> None:
    output, draws = forward(few_steps)
    start, again = output.tasks
    noisy = draws.uniform("gamma_zero") >= 0.5
    assert torch.equal(again.samples, torch.nonzero(noisy)[:, 0]) and 0 < len(again.samples) < COUNT
    assert torch.equal(again.weight, torch.ones(len(again.samples)))
    assert torch.equal(again.perceptual_weight, start.perceptual_weight[again.samples])
    (gradient,) = torch.autograd.grad(again.x_hat.sum(), start.x_hat, allow_unused=True)
    assert gradient is None


def test_the_original_is_what_stage_one_starts_from(tiny_codec: Codec, few_steps: Codec) -> None:
    with torch.no_grad():
        one, two = forward(tiny_codec)[0].tasks, forward(few_steps)[0].tasks
    torch.testing.assert_close(one[0].x_hat, two[0].x_hat)
    assert len(one[1].samples) == COUNT and float(one[1].weight.max()) > 1
