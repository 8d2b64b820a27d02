"""DDIM: with an oracle it finds the image in any number of steps, and the network sees the times of its training."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from tiny import batch_of_pairs, untrained_codec
from torch import Tensor

from modules.codec import Codec
from modules.diffusion import Process, ddim, step_times
from modules.diffusion_codec import DATA_STD, Context
from modules.noise import Draws
from utils.errors import ConfigError

KINDS = [
    ("x0", "cosine", 0),
    ("v", "cosine", 0),
    ("epsilon", "linear", 1000),
    ("x0", "linear", 50),
    ("v", "linear", 200),
    ("x0", "cosine_offset", 8193),
    ("v", "cosine_offset", 8193),
]
STEPS = [1, 2, 5, 50]


def oracle(process: Process, x0: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The perfect network: it knows x0, and whatever else x_t holds is noise."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return process.target(x0, process.noise_from_x0(x_t, x0, t), t)

    return predict


def start(process: Process, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x0, its noise, and the x_1 that holds both."""
    generator = torch.Generator().manual_seed(seed)
    x0 = 2 * torch.rand(2, 3, 8, 8, generator=generator) - 1
    noise = torch.randn(2, 3, 8, 8, generator=generator)
    return x0, noise, process.add_noise(x0, noise, torch.ones(2))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("prediction", "schedule", "timesteps"), KINDS)
def test_an_oracle_recovers_the_image(prediction: str, schedule: str, timesteps: int, steps: int) -> None:
    process = Process(prediction, schedule, timesteps)  # type: ignore[arg-type]
    x0, _, x_1 = start(process)
    # epsilon divides by alpha(1) = 0.006 at its first step, which costs float32 two digits.
    tolerance = 1e-3 if prediction == "epsilon" else 1e-5
    for clip in (True, False):
        found = ddim(process, oracle(process, x0), x_1, steps, clip=clip)
        torch.testing.assert_close(found, x0, rtol=0, atol=tolerance)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("prediction", "schedule", "timesteps"), KINDS)
def test_mistake_02_the_network_is_told_the_noise_level_that_its_input_has(prediction, schedule, timesteps, steps):
    """At every step x_t = alpha(t) x0 + sigma(t) noise for the very t that is passed: i / S would not be it."""
    process = Process(prediction, schedule, timesteps)  # type: ignore[arg-type]
    x0, noise, x_1 = start(process)
    told: list[float] = []

    def spy(x_t: Tensor, t: Tensor) -> Tensor:
        told.append(float(t[0]))
        assert t.shape == (2,) and (t == t[0]).all()
        expected = process.add_noise(x0, noise, t)
        torch.testing.assert_close(x_t, expected, rtol=0, atol=1e-2 if prediction == "epsilon" else 1e-4)
        return oracle(process, x0)(x_t, t)

    ddim(process, spy, x_1, steps)
    assert len(told) == steps and told[0] == 1 and told == sorted(set(told), reverse=True)


@pytest.mark.parametrize("timesteps", [0, 2, 50, 1000, 8193, 20_000])
def test_mistake_02_few_steps_use_times_that_training_has_seen(timesteps: int) -> None:
    process = Process("x0", "linear" if timesteps else "cosine", timesteps)
    trained = set(process.sample_t(torch.arange(timesteps) / max(timesteps, 1) + 1e-5).tolist())
    for steps in (1, 2, 5, 50):
        if timesteps and steps > timesteps:
            continue
        t = step_times(process, steps)
        assert len(t) == steps + 1 and t[0] == 1 and t[-1] == 0 and (t.diff() < 0).all()
        if timesteps:
            assert set(t[:-1].tolist()) <= trained
            assert steps == 1 or t[-2] == min(trained), "as published, the last evaluation is at the cleanest level"


def test_mistake_02_the_codec_trains_and_samples_with_one_time(tiny_codec: Codec) -> None:
    """What the U-Net is told in training is the noise level of its input, and in sampling the same function of it."""
    codec = tiny_codec
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    told: list[Tensor] = []
    predict = codec._estimate_x0
    hook = codec.unet.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))  # type: ignore[union-attr, operator]

    def spy(x_t: Tensor, t: Tensor, gamma: Tensor, *rest: Any) -> Tensor:
        seen.append((x_t, t, gamma))
        return predict(x_t, t, gamma, *rest)  # type: ignore[operator]

    try:
        x = torch.full((16, 3, 64, 64), 0.75)
        with torch.no_grad(), patch.object(codec, "_estimate_x0", spy):
            codec(x, x, Draws(list(range(16))))
            trained = list(seen)
            seen.clear()
            codec.decompress(codec.compress(x[0], 0.5), x[0], steps=4, gamma=1.0)
    finally:
        hook.remove()
    assert len(trained) == 2 and (trained[0][1] == 1).all()
    for x_t, t, _ in trained:
        # x0 = 0.5 everywhere in [-1, 1], so the mean of x_t over the pixels is 0.5 alpha(t), up to the noise's mean.
        alpha = codec.process.alpha_sigma(t)[0]  # type: ignore[union-attr, operator]
        assert (x_t.mean((1, 2, 3)) - 0.5 * alpha[:, 0, 0, 0]).abs().max() < 0.04
    assert ((trained[1][1] > 0) & (trained[1][1] <= 1)).all()
    assert [float(t) for _, t, _ in seen] == [1.0, 0.75, 0.5, 0.25]
    # Samples without noise need no denoiser.
    assert all(torch.equal(a, t[gamma > 0]) for a, (_, t, gamma) in zip(told, trained + seen, strict=True))


def test_clipping_keeps_a_wild_estimate_in_range() -> None:
    process = Process("x0", "cosine")
    found = ddim(process, lambda x_t, t: torch.full_like(x_t, 7.0), torch.zeros(1, 3, 4, 4), 3)
    assert (found == 1).all()


@pytest.mark.parametrize(("steps", "timesteps"), [(0, 0), (-1, 0), (51, 50), (0, 50)])
def test_impossible_numbers_of_steps_are_errors(steps: int, timesteps: int) -> None:
    with pytest.raises(ConfigError, match=f"steps is {steps}"):
        step_times(Process("x0", "linear" if timesteps else "cosine", timesteps), steps)


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


COUNT = 32


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gamma_0_is_the_contexts_own_image_and_asks_no_denoiser(tiny_codec: Codec, steps: int) -> None:
    x, x_side = batch_of_pairs(1)
    data = tiny_codec.compress(x[0], 0.5)
    coded = tiny_codec.code(x[0], 0.5)
    with torch.no_grad():
        rate = torch.tensor([tiny_codec.level(0.5) / 255])
        context = tiny_codec.context(coded.y_hat, x_side, torch.tensor([True]), rate)  # type: ignore[operator]
    with patch.object(tiny_codec.unet, "forward", side_effect=AssertionError("asked")):
        x_hat = tiny_codec.decompress(data, x_side[0], steps=steps, gamma=0.0)
    torch.testing.assert_close(x_hat, ((context.mean[0] + 1) / 2).clamp(0, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0])
def test_at_the_start_the_denoisers_part_is_in_proportion_to_gamma(tiny_codec: Codec, gamma: float) -> None:
    """x0 = mean + gamma x DATA_STD x F at t = 1; and near it, so that stage 1 sees no jump there."""
    mean = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    raw = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    args = (torch.full((2,), gamma), torch.rand(2), Context([], mean))
    with torch.no_grad(), patch.object(tiny_codec.unet, "forward", return_value=raw):
        start = tiny_codec._estimate_x0(torch.zeros_like(mean), torch.ones(2), *args)  # type: ignore[operator]
        near = tiny_codec._estimate_x0(torch.zeros_like(mean), torch.full((2,), 1 - 1e-6), *args)  # type: ignore[operator]
    torch.testing.assert_close(start, mean + gamma * DATA_STD * raw)
    torch.testing.assert_close(near, start, rtol=0, atol=1e-3)


def test_samples_with_and_without_noise_do_not_touch_each_other(tiny_codec: Codec) -> None:
    """The denoiser works on the noisy samples of a batch only; each gets what it gets alone."""
    x, x_side = batch_of_pairs(3)
    rate, gamma, t = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.7, 0.0, 1.0]), torch.tensor([1.0, 1.0, 0.5])
    with torch.no_grad():
        context = tiny_codec.context(torch.zeros(3, 16, 4, 4), x_side, torch.ones(3, dtype=torch.bool), rate)  # type: ignore[operator]
        together = tiny_codec._estimate_x0(x, t, gamma, rate, context)  # type: ignore[operator]
        for i in range(3):
            one = torch.tensor([i])
            alone = tiny_codec._estimate_x0(x[one], t[one], gamma[one], rate[one], context[one])  # type: ignore[operator]
            torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-4)


def test_distance_counts_from_a_floor_and_the_critic_from_nothing() -> None:
    codec = untrained_codec(diffusion={"perceptual_floor": 0.25})
    with torch.no_grad():
        output, draws = forward(codec)
    start, still = output.tasks[0], draws.uniform("gamma_zero") < codec.settings.start_fraction
    gamma = start.critic_weight
    assert bool((gamma[still] == 0).all()) and bool((gamma[~still] > 0).all()) and float(gamma.max()) <= 1
    torch.testing.assert_close(start.perceptual_weight, 0.25 + 0.75 * gamma)
