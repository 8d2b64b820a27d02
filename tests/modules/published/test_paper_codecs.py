"""DICM and CDC as codecs: sizes, files, training tasks, what is priced, and the mistakes of the released code."""

import pytest
import torch
from tiny_paper import X_SIDE, X, draws, tiny_paper
from torch import Tensor, nn

from config import PRESETS
from modules.codec import CodecOutput, build_codec
from modules.diffusion import step_times
from modules.likelihoods import lower_bound
from modules.losses import objective
from modules.published.cdc import CDC
from modules.published.dicm import COMMON_NOISE_STD, DICM, add_contexts, perturb_common
from modules.published.receiver import SCALE_BOUND, ReceiverHyperprior


@pytest.fixture(scope="module")
def dicm() -> DICM:
    """A tiny DICM with fresh weights, ready to code."""
    torch.manual_seed(0)
    codec = build_codec(tiny_paper("dicm_paper"))
    assert isinstance(codec, DICM)
    codec.freeze()
    return codec.eval()


@pytest.mark.parametrize(
    ("preset", "millions"), [("dicm_paper", 81.0), ("dicm_no_side", 53.6), ("cdc_eps", 53.6), ("cdc_x", 53.6)]
)
def test_parameter_counts_are_the_published_ones(preset: str, millions: float) -> None:
    with torch.device("meta"):
        codec = build_codec(PRESETS[preset])
    assert sum(p.numel() for p in codec.parameters()) == pytest.approx(millions * 1e6, rel=0.01)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in codec.named_children()}
    assert parts["unet"] == pytest.approx(39.9e6, rel=0.01)
    assert parts["g_a"] + parts["entropy"] + parts["g_s"] == pytest.approx(13.7e6, rel=0.01)
    if preset == "dicm_paper":
        assert parts["common"] == parts["side"] == pytest.approx(13.7e6, rel=0.01)


@pytest.mark.parametrize("preset", ["dicm_paper", "cdc_x"])
def test_the_unet_is_told_the_time_of_the_noise_that_it_sees(preset: str) -> None:
    """Mistake 2: times in sampling are times of training."""
    torch.manual_seed(0)
    codec = build_codec(tiny_paper(preset))
    codec.freeze()
    codec.eval()
    seen: list[Tensor] = []
    hook = codec.unet.register_forward_pre_hook(lambda _, args: seen.append(args[1].clone()))
    codec.decompress(codec.compress(X[0]), X_SIDE[0], steps=5)
    hook.remove()
    levels = torch.stack(seen)[:, 0].double() * codec.process.timesteps
    torch.testing.assert_close(levels, levels.round(), atol=1e-2, rtol=0)
    assert torch.equal(torch.stack(seen)[:, 0], step_times(codec.process, 5)[:-1])


def test_the_loss_is_the_published_one() -> None:
    """beta bpp of x alone + 0.1 L1 of the noise + 0.9 LPIPS of the clamped x0, for both views."""
    config = tiny_paper("dicm_paper")
    codec = build_codec(config)

    class Distance(nn.Module):
        def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
            assert x_hat.min() >= 0 and x_hat.max() <= 1
            return (x_hat - x).square().mean((1, 2, 3))

    output: CodecOutput = codec(X, X_SIDE, draws())
    loss, parts = objective(output, config.loss, False, Distance())
    expected = 0.0025 * output.bits.mean() / 64**2
    for task, image in zip(output.tasks, (X, X_SIDE), strict=True):
        assert torch.equal(task.x, image)
        expected = expected + 0.1 * (task.estimate - task.target).abs().mean()
        expected = expected + 0.9 * Distance()(task.x_hat.clamp(0, 1), image).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["bpp"], output.bits.mean() / 64**2)
    noise = torch.cat([task.target for task in output.tasks])
    assert abs(float(noise.std()) - 1) < 0.02, "the target is unit noise"
    assert not torch.equal(output.tasks[0].target, output.tasks[1].target)


def test_the_weight_of_x0_is_the_clipped_signal_to_noise_ratio() -> None:
    config = tiny_paper("cdc_x")
    codec = build_codec(config)
    assert isinstance(codec, CDC)
    t = torch.tensor([1, 2000, 4000, 6000, 8193]) / 8193
    alpha, sigma = (value[:, 0, 0, 0] for value in codec.process.alpha_sigma(t))
    torch.testing.assert_close(codec.distortion_weight(t), ((alpha / sigma) ** 2).clamp(max=5.0))
    assert codec.distortion_weight(t)[0] == 5 and 0 < codec.distortion_weight(t)[-1] < 1e-6
    output = codec(X, X_SIDE, draws())
    (task,) = output.tasks
    torch.testing.assert_close(task.target, 2 * X - 1)
    loss, _ = objective(output, config.loss, False, None)
    error = (task.weight * (task.estimate - task.target).square().mean((1, 2, 3))).mean()
    torch.testing.assert_close(loss, 0.0032 * output.bits.mean() / 64**2 + 0.1 * error)


def test_bits_of_signals_that_are_never_sent_are_not_in_the_rate() -> None:
    """Mistake 4 of the released code: with them in the rate term, beta does not price the file."""
    codec = build_codec(tiny_paper("dicm_paper"))
    output = codec(X, X_SIDE, draws())
    other = codec(X, 1 - X_SIDE, draws())
    assert torch.equal(output.bits, other.bits)
    output.bits.sum().backward()
    reached = {name.split(".")[0] for name, p in codec.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"g_a", "entropy"}


def test_the_aux_loss_fits_unsent_entropy_models_and_moves_nothing_else() -> None:
    codec = build_codec(tiny_paper("dicm_paper"))
    codec(X, X_SIDE, draws()).aux.backward()
    reached = {name for name, p in codec.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name for name in reached if ".hyperprior." not in name} == {"entropy.prior.quantiles"}
    for part in ("common", "side"):
        for module in ("h_a", "h_s", "prior"):
            assert any(name.startswith(f"{part}.hyperprior.{module}.") for name in reached), f"{part} {module}"


def test_an_unsent_latent_is_quantised_like_a_sent_one() -> None:
    torch.manual_seed(0)
    hyperprior = ReceiverHyperprior(8)
    y = (5 * torch.randn(2, 8, 4, 4)).requires_grad_()
    y_hat, bits = hyperprior(y, draws(), "w")
    again, none = hyperprior(y, None, "w")
    assert none is None and torch.equal(y_hat, again), "the noise is the rate's alone"
    assert (y_hat - y).abs().max() <= 0.5 + 1e-6
    y_hat.sum().backward()
    assert torch.equal(y.grad, torch.ones_like(y)), "straight through"
    assert all(p.grad is None for p in hyperprior.parameters())
    assert bits.shape == (2,) and (bits > 0).all()


def test_a_scale_below_its_bound_can_still_grow() -> None:
    """Mistake 1: a clamp has no gradient there, and every scale begins there."""
    scale = torch.tensor([0.0, 0.05, 0.3], requires_grad=True)
    bounded = lower_bound(scale, SCALE_BOUND)
    torch.testing.assert_close(bounded, torch.tensor([0.1, 0.1, 0.3]))
    (-bounded).sum().backward()  # descent raises the scales
    assert torch.equal(scale.grad, -torch.ones(3))
    scale.grad = None
    lower_bound(scale, SCALE_BOUND).sum().backward()  # descent lowers them
    assert torch.equal(scale.grad, torch.tensor([0.0, 0.0, 1.0]))


def test_the_side_task_shares_the_unet_alone() -> None:
    codec = build_codec(tiny_paper("dicm_paper"))
    for number, parts in ((0, {"g_a", "g_s", "common", "unet"}), (1, {"side", "unet"})):
        codec.zero_grad()
        task = codec(X, X_SIDE, draws()).tasks[number]
        task.estimate.square().mean().backward()
        reached = {name.split(".")[0] for name, p in codec.named_parameters() if p.grad is not None and p.grad.any()}
        assert reached == parts


def test_contexts_are_added_and_the_noise_on_w_is_training_only(dicm: DICM) -> None:
    y_hat = torch.randn(2, 32, 4, 4)
    with torch.no_grad():
        common = dicm.common(2 * X_SIDE - 1, None, "common").contexts
        total = dicm.decoding_contexts(y_hat, X_SIDE)
        for a, b, c in zip(total, dicm.g_s(y_hat), common, strict=True):
            torch.testing.assert_close(a, b + c)
    noise = [torch.randn_like(c) for c in common]
    for a, b, n in zip(perturb_common(common, noise), common, noise, strict=True):
        torch.testing.assert_close(a, b + COMMON_NOISE_STD * n)
    assert pytest.approx(0.001) == COMMON_NOISE_STD**2
    with pytest.raises(ValueError):
        add_contexts(common, common[:2])


def test_the_noise_on_w_reaches_the_prediction_in_training(dicm: DICM, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        noisy = dicm(X, X_SIDE, draws()).tasks
        monkeypatch.setattr("modules.published.dicm.COMMON_NOISE_STD", 0.0)
        clean = dicm(X, X_SIDE, draws()).tasks
    assert not torch.equal(noisy[0].estimate, clean[0].estimate)
    assert torch.equal(noisy[1].estimate, clean[1].estimate)
