"""The diffusion codec: its denoiser uses all that it is given, and its prediction is well conditioned at any noise."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from tiny import batch_of_pairs, smooth_pair, tiny_config, untrained_codec
from torch import Tensor

from modules.codec import Codec, build_codec
from modules.diffusion_codec import DATA_STD, MAX_WEIGHT, Context
from modules.noise import Draws
from modules.transforms import BlockDCT, Down


@pytest.mark.parametrize("fusion", ["correlation", "add", "row_attention", "both", "aligned", "pixel_aligned", "none"])
def test_every_kind_trains_and_decodes(fusion: str) -> None:
    codec = untrained_codec(model={"fusion": fusion}, diffusion={"gamma": 1.0, "steps": 3})
    x, x_side = batch_of_pairs(2)
    output = codec(x, x_side, Draws([0, 3]))
    total = sum((p.estimate.square().mean() for p in output.tasks), output.bits.mean())
    total.backward()
    assert torch.isfinite(total) and all(torch.isfinite(p.grad).all() for p in codec.parameters() if p.grad is not None)
    assert torch.isfinite(codec.decompress(codec.compress(x[0], 0.5), x_side[0])).all()


def unet_inputs(codec: Codec, t: float, gamma: float = 0.5, rate: float = 0.5) -> tuple[Any, ...]:
    x, x_side = smooth_pair(64, 64, seed=3)
    with torch.no_grad():
        y_hat = codec.code(x, rate).y_hat
        context = codec.context(y_hat, x_side[None], torch.tensor([True]), torch.tensor([rate]))  # type: ignore[operator]
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x_t = codec.process.add_noise(2 * x[None] - 1, gamma * noise, torch.tensor([t]))  # type: ignore[union-attr, operator]
    return x_t, torch.tensor([t]), torch.tensor([gamma]), torch.tensor([rate]), context


@pytest.mark.parametrize("t", [0.02, 0.25, 0.5, 0.75, 0.98, 1.0])
def test_the_denoiser_uses_its_context_at_every_t(tiny_codec: Codec, t: float) -> None:
    """Every scale of the context moves the estimate, and so does the side image behind it."""
    unet = tiny_codec.unet
    x_t, time, gamma, rate, context = unet_inputs(tiny_codec, t)
    features = [c.requires_grad_() for c in context.features]
    unet(x_t, time, gamma, rate, features).square().sum().backward()  # type: ignore[operator]
    for scale, c in enumerate(features):
        assert c.grad is not None and c.grad.abs().max() > 1e-6, f"scale {scale} of the context is not used"
    with torch.no_grad():
        whole = unet(x_t, time, gamma, rate, features)  # type: ignore[operator]
        without = unet(x_t, time, gamma, rate, [torch.zeros_like(c) for c in features])  # type: ignore[operator]
    # At middle noise most of the raw output is the input times its gain; a context without effect would give 0.
    assert (whole - without).abs().mean() > 0.03 * whole.abs().mean()


@pytest.mark.parametrize("name", ["time", "gamma", "rate", "x_t"])
def test_the_denoiser_uses_time_gamma_rate_and_its_input(tiny_codec: Codec, name: str) -> None:
    x_t, time, gamma, rate, context = unet_inputs(tiny_codec, 0.5)
    changed = {"x_t": x_t, "time": time, "gamma": gamma, "rate": rate}
    changed[name] = x_t.flip(3) if name == "x_t" else torch.tensor([0.95])
    with torch.no_grad():
        before = tiny_codec.unet(x_t, time, gamma, rate, context.features)  # type: ignore[operator]
        after = tiny_codec.unet(changed["x_t"], changed["time"], changed["gamma"], changed["rate"], context.features)  # type: ignore[operator]
    assert (before - after).abs().mean() > 1e-4, "an input without a connection changes nothing at all"


@pytest.mark.parametrize(
    ("rates", "levels"), [((0.0, 1.0), range(256)), ((0.2, 0.4), range(51, 103)), ((0.6, 0.6), (153,))]
)
def test_training_draws_every_rate_it_is_asked_for_and_no_other(rates: tuple[float, float], levels: range) -> None:
    codec = build_codec(tiny_config(loss={"rates": rates}))
    x, x_side = batch_of_pairs(1)
    with torch.no_grad():
        output = codec(x.expand(64, -1, -1, -1), x_side.expand(64, -1, -1, -1), Draws(list(range(64))))
        ends = []
        for value in (0.0, 1 - 2.0**-24):
            with patch.object(Draws, "uniform", lambda *_, value=value: torch.tensor([value])):
                ends.append(round(255 * float(codec(x, x_side, Draws([0])).rate)))
    drawn = (255 * output.rate).round().int()
    assert set(drawn.tolist()) <= set(levels) and ends == [levels[0], levels[-1]]
    middle = (levels[0] + levels[-1]) / 2
    assert abs(float(drawn.float().mean()) - middle) < len(levels) / 8


def test_training_drops_the_side_image_as_often_as_asked(tiny_codec: Codec) -> None:
    seen: list[Tensor] = []
    hook = tiny_codec.e_side.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))  # type: ignore[union-attr, operator]
    x, x_side = batch_of_pairs(1)
    try:
        with torch.no_grad():
            tiny_codec(x.expand(64, -1, -1, -1), x_side.expand(64, -1, -1, -1), Draws(list(range(64))))
    finally:
        hook.remove()
    dropped = float((~seen[0]).float().mean())
    assert 0 < dropped < 0.3 and tiny_codec.side_dropout == 0.1


LEVELS = [(t, gamma) for t in (1e-3, 0.1, 0.5, 0.9, 1.0) for gamma in (0.0, 0.05, 0.5, 1.0)]


def precondition(codec: Codec, t: float, gamma: float) -> tuple[float, float, float]:
    factors = codec._precondition(torch.tensor([t]), torch.tensor([gamma]))  # type: ignore[operator]
    assert all(f.shape == (1, 1, 1, 1) and bool(torch.isfinite(f).all()) for f in factors)
    return tuple(float(f) for f in factors)  # type: ignore[return-value]


@pytest.mark.parametrize(("t", "gamma"), LEVELS)
def test_input_and_target_of_the_network_have_unit_size(tiny_codec: Codec, t: float, gamma: float) -> None:
    """With x0 = mean + r, r of standard deviation DATA_STD: what the network sees and what it must say, by sampling."""
    c_in, c_skip, c_out = precondition(tiny_codec, t, gamma)
    alpha, sigma = (float(v) for v in tiny_codec.process.alpha_sigma(torch.tensor([t])))  # type: ignore[union-attr, operator]
    generator = torch.Generator().manual_seed(0)
    r = DATA_STD * torch.randn(200_000, generator=generator)
    seen = alpha * r + gamma * sigma * torch.randn(200_000, generator=generator)
    if gamma == 0 and t == 1:
        assert c_in == 0  # There is nothing to see.
    else:
        assert float((c_in * seen).std()) == pytest.approx(1, rel=0.02)
    if c_out > 1e-3:
        assert float(((r - c_skip * seen) / c_out).std()) == pytest.approx(1, rel=0.02)
    else:
        assert gamma * sigma < 1e-3 and float((r - c_skip * seen).abs().max()) < 0.01


def test_decoding_from_pure_noise_is_the_limit_of_decoding_from_almost_pure_noise(tiny_codec: Codec) -> None:
    """No jump at t = 1, where one-step decoding happens, for any gamma above 0."""
    for gamma in (0.05, 0.5, 1.0):
        here, near = (precondition(tiny_codec, t, gamma) for t in (1.0, 1 - 1e-7))
        assert here == pytest.approx(near, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("t", [0.2, 1.0])
def test_the_prediction_moves_with_the_contexts_image(tiny_codec: Codec, t: float) -> None:
    """x0 = mean + c_skip (x_t - alpha mean) + c_out F: shifting mean and x_t together shifts the prediction alone."""
    x_t, time, gamma, rate, context = unet_inputs(tiny_codec, t)
    alpha, _ = tiny_codec.process.alpha_sigma(time)  # type: ignore[union-attr, operator]
    moved = Context(context.features, context.mean + 0.25)
    with torch.no_grad():
        before = tiny_codec._estimate_x0(x_t, time, gamma, rate, context)  # type: ignore[operator]
        after = tiny_codec._estimate_x0(x_t + 0.25 * alpha, time, gamma, rate, moved)  # type: ignore[operator]
    torch.testing.assert_close(after, before + 0.25, rtol=0, atol=1e-4)


def test_all_noise_levels_weigh_alike(tiny_codec: Codec) -> None:
    """The weight of an x0 error is (DATA_STD / c_out)^2, cut off at MAX_WEIGHT: 1 at the start of decoding."""
    x, x_side = batch_of_pairs(4)
    with torch.no_grad():
        output = tiny_codec(x.repeat(8, 1, 1, 1), x_side.repeat(8, 1, 1, 1), Draws(list(range(32))))
    start, denoise = output.tasks
    assert torch.equal(start.weight, torch.ones(32))
    relative = denoise.weight * tiny_codec.settings.denoise_fraction  # type: ignore[union-attr, operator]
    assert float(relative.min()) >= 1 - 1e-5 and float(relative.max()) <= MAX_WEIGHT * (1 + 1e-5)
    assert len(relative.unique()) > len(relative) // 2


def test_the_unet_adds_its_input_frequency_by_frequency(own_codec: Codec) -> None:
    """With a gain of one and no coefficients of its own, the network is the identity; each gain has its frequency."""
    x_t, time, gamma, rate, context = unet_inputs(own_codec, 0.5)
    head, blocks = own_codec.unet.head, BlockDCT()  # type: ignore[union-attr]
    with torch.no_grad():
        head.weight.zero_()  # type: ignore[union-attr, operator]
        head.bias.zero_()  # type: ignore[union-attr, operator]
        head.bias[48:] = 1  # type: ignore[union-attr, index, operator]
        torch.testing.assert_close(own_codec.unet(x_t, time, gamma, rate, context.features), x_t)  # type: ignore[operator]
        head.bias[48 + 5] = 0  # type: ignore[union-attr, index, operator]
        lost = blocks(x_t - own_codec.unet(x_t, time, gamma, rate, context.features))[0]  # type: ignore[operator]
    torch.testing.assert_close(lost[5], blocks(x_t)[0, 5], rtol=0, atol=1e-5)
    assert float(lost[torch.arange(48) != 5].abs().max()) < 1e-5


def test_the_block_transform_is_an_orthonormal_local_spectrum() -> None:
    blocks, image = BlockDCT(), torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    spectrum = blocks(image)
    assert spectrum.shape == (2, 48, 2, 3)
    torch.testing.assert_close(blocks.inverse(spectrum), image)
    torch.testing.assert_close(spectrum.square().sum((1, 2, 3)), image.square().sum((1, 2, 3)))
    grey = blocks(torch.full((1, 3, 8, 8), 0.5))
    torch.testing.assert_close(grey[0, 0], torch.full((2, 2), 0.5 * 48**0.5))
    assert float(grey[0, 1:].abs().max()) < 1e-6
    columns, rows, colours = torch.zeros(3, 1, 3, 4, 4)
    columns[..., ::2], rows[..., ::2, :], colours[:, 0] = 1, 1, 1
    assert [int(blocks(x)[0, 1:, 0, 0].abs().argmax()) + 1 for x in (columns, rows, colours)] == [3, 12, 16]


def test_low_noise_stays_exact_under_autocast() -> None:
    blocks, image = BlockDCT(), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float((blocks.inverse(blocks(image)) - image).abs().max()) < 1e-6


def test_down_is_pixel_unshuffle_and_a_1x1_convolution() -> None:
    torch.manual_seed(0)
    down = Down(5, 7).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 5, 8, 12).contiguous(memory_format=torch.channels_last)
    expected = down.conv(F.pixel_unshuffle(x, 2))
    torch.testing.assert_close(down(x), expected)
    own, other = (torch.autograd.grad(y.square().sum(), down.conv.weight)[0] for y in (down(x), expected))
    torch.testing.assert_close(own, other)
