"""gamma: 0 is the context's own image, the denoiser's part grows with it, and in stage 2 so does realism's weight."""

from unittest.mock import patch

import pytest
import torch
from tiny import batch_of_pairs, untrained_codec

from modules.codec import Codec
from modules.diffusion_codec import DATA_STD, Context
from modules.noise import Draws

COUNT = 32


def forward(codec: Codec):  # type: ignore[no-untyped-def]
    """The output of a training pass over 32 samples, and which of them have no noise."""
    x, x_side = batch_of_pairs(4)
    draws = Draws(list(range(COUNT)))
    output = codec(x.repeat(8, 1, 1, 1), x_side.repeat(8, 1, 1, 1), draws)
    return output, draws.uniform("gamma_zero") < codec.settings.start_fraction  # type: ignore[union-attr, operator]


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
        output, still = forward(codec)
    start = output.tasks[0]
    gamma = start.critic_weight
    assert bool((gamma[still] == 0).all()) and bool((gamma[~still] > 0).all()) and float(gamma.max()) <= 1
    torch.testing.assert_close(start.perceptual_weight, 0.25 + 0.75 * gamma)
