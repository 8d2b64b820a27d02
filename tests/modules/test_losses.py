"""The objective: rate + lambda x (distortion + perception), with nothing in the rate that is not sent."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import batch_of_pairs, tiny_config
from torch import Tensor, nn

import modules.losses
from config import LossConfig
from modules.codec import Codec, CodecOutput, DenoisingTask, build_codec
from modules.losses import lambda_of, ms_ssim_loss, objective
from modules.noise import Draws
from utils.metrics.image import MsSsimDb

LOSS = LossConfig(lambda_min=0.001, lambda_max=0.1)


@pytest.fixture(autouse=True)
def unbalanced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses as their formulas say, undivided."""
    monkeypatch.setattr(modules.losses, "BALANCE", 0.0)


def output(
    rates: list[float], error: float = 0.1, samples: list[int] | None = None, weight: float = 1.0
) -> CodecOutput:
    """Bits 64, 128, ... for 8x8 images, and one prediction that is off by `error` everywhere."""
    batch = len(rates)
    places = torch.arange(batch) if samples is None else torch.tensor(samples)
    image = torch.full((len(places), 3, 8, 8), 0.5)
    weights = torch.full((len(places),), weight)
    task = DenoisingTask(places, image, image + error, image + error, image, weights, weights, weights)
    return CodecOutput(64.0 * torch.arange(1, batch + 1), torch.tensor(rates), torch.zeros(batch, 1, 1, 1), [task])


def test_lambda_is_geometric_in_the_rate() -> None:
    lmbda = lambda_of(LOSS, torch.tensor([0.0, 0.5, 1.0]), True)
    torch.testing.assert_close(lmbda, torch.tensor([0.001, 0.01, 0.1]))
    assert lambda_of(replace(LOSS, lmbda=0.3), torch.tensor([0.0, 1.0]), False).tolist() == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize(("distortion", "value"), [("mse", 0.01 * 255**2), ("l2", 0.01), ("l1", 0.1)])
def test_the_objective_is_what_its_formula_says(distortion: str, value: float) -> None:
    loss = replace(LOSS, distortion=distortion, distortion_weight=3.0)  # type: ignore[arg-type]
    total, parts = objective(output([0.0, 1.0]), loss, True, None)
    bpp = (64 + 128) / 2 / 64
    assert float(parts["bpp"]) == pytest.approx(bpp)
    assert float(parts["distortion_0"]) == pytest.approx(value, rel=1e-4)
    assert float(total) == pytest.approx(bpp + 3 * value * (0.001 + 0.1) / 2, rel=1e-4)
    assert float(parts["loss"]) == float(total)


@pytest.mark.parametrize(("pattern", "share"), [("flat", 1.0), ("checkerboard", 0.0), ("halves", 1.0)])
def test_a_coarse_error_counts_beside_that_of_pixels(pattern: str, share: float) -> None:
    """With 4x4 means: in full for an error that blocks share, not at all for one that they average out."""
    sign = torch.ones(8, 8)
    if pattern == "checkerboard":
        sign[::2, ::2] = sign[1::2, 1::2] = -1
    if pattern == "halves":
        sign[:, 4:] = -1
    coded = output([0.5])
    coded.tasks[0].estimate = coded.tasks[0].target + 0.1 * sign
    plain, _ = objective(coded, LOSS, True, None)
    total, parts = objective(coded, replace(LOSS, coarse_weight=3.0), True, None)
    error = 0.01 * 255**2
    assert float(parts["coarse_0"]) == pytest.approx(share * error, rel=1e-4, abs=1e-6)
    assert float(total - plain) == pytest.approx(3 * share * error * 0.01, rel=1e-3, abs=1e-6)


def test_ms_ssim_counts_beside_the_distortion() -> None:
    """1 - MS-SSIM of x0 and the original, by lambda and the weight of the task."""
    generator = torch.Generator().manual_seed(0)
    image, noise = torch.rand(2, 3, 128, 128, generator=generator), torch.rand(2, 3, 128, 128, generator=generator)
    x0 = 0.9 * image + 0.1 * noise
    weight = torch.full((2,), 2.0)
    task = DenoisingTask(torch.arange(2), image, x0, x0, image, weight, weight, weight)
    coded = CodecOutput(torch.ones(2), torch.tensor([0.0, 1.0]), torch.zeros(2, 1, 1, 1), [task])
    plain, _ = objective(coded, LOSS, True, None)
    total, parts = objective(coded, replace(LOSS, ms_ssim_weight=30.0), True, None)
    each = ms_ssim_loss(x0, image)
    assert float(each.min()) > 0 and float(parts["ms_ssim_loss_0"]) == pytest.approx(float(each.mean()))
    assert float(total - plain) == pytest.approx(2 * 30 * float(0.001 * each[0] + 0.1 * each[1]) / 2, rel=1e-3)


def test_balance_keeps_the_trade_at_each_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate and distortion of a sample are divided by the same number, which is 1 at the middle rate."""
    rates = (0.0, 0.5, 1.0)
    plain = [float(objective(output([rate]), LOSS, True, None)[0]) for rate in rates]
    fixed = float(objective(output([0.0]), LOSS, False, None)[0])
    monkeypatch.setattr(modules.losses, "BALANCE", 0.5)
    balanced = [float(objective(output([rate]), LOSS, True, None)[0]) for rate in rates]
    factors = (10**0.5, 1.0, 10**-0.5)
    assert balanced == pytest.approx([factor * loss for factor, loss in zip(factors, plain, strict=True)], rel=1e-4)
    assert float(objective(output([0.0]), LOSS, False, None)[0]) == fixed


def test_a_task_of_some_samples_weighs_as_if_the_others_had_no_error() -> None:
    """So halves of a batch on two processes add up to the batch."""
    whole = output([0.5] * 4, samples=[0, 1, 2, 3])
    some = output([0.5] * 4, samples=[1])
    rate = float(whole.bits.mean() / 64)
    of_all, of_one = (float(objective(o, LOSS, True, None)[0]) - rate for o in (whole, some))
    assert of_one == pytest.approx(of_all / 4, rel=1e-4)


class Constant(nn.Module):
    """A perceptual distance that says what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, float]] = []

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Records the range of x_hat."""
        self.seen.append((float(x_hat.min()), float(x_hat.max())))
        return torch.full((len(x),), 2.0)


def test_the_perceptual_term_has_its_weight_and_sees_images_in_range() -> None:
    network = Constant()
    loss = replace(LOSS, perceptual="effnet", perceptual_weight=5.0, distortion_weight=0.0)
    total, parts = objective(output([0.5], error=0.7, weight=0.25), loss, True, network)
    assert network.seen == [(1.0, 1.0)]
    assert float(parts["perceptual_0"]) == 2.0
    assert float(total) == pytest.approx(1.0 + 0.01 * 0.25 * 5 * 2, rel=1e-4)
    network.seen.clear()
    _, parts = objective(output([0.5]), replace(loss, perceptual_weight=0.0), True, network)
    assert not network.seen and "perceptual_0" not in parts


def tiny_output(codec: Codec, x_side: Tensor) -> CodecOutput:
    x, _ = batch_of_pairs(2)
    return codec(x, x_side, Draws([1, 2]))


def test_mistake_04_the_rate_does_not_price_what_is_never_sent(own_codec: Codec) -> None:
    """Bits do not depend on the side image, and what makes its features gets no gradient from the rate."""
    codec = own_codec
    _, x_side = batch_of_pairs(2)
    one, other = tiny_output(codec, x_side), tiny_output(codec, torch.rand_like(x_side))
    assert torch.equal(one.bits, other.bits)
    loss = replace(LOSS, distortion_weight=0.0)
    total, _ = objective(one, loss, True, None)
    total.backward()
    for name, parameter in codec.named_parameters():
        sent = name.startswith(("g_a.", "entropy."))
        priced = parameter.grad is not None and bool(parameter.grad.any())
        if not name.endswith(".quantiles"):
            assert priced == sent, name


def test_the_quantiles_loss_moves_quantiles_only() -> None:
    torch.manual_seed(0)
    codec = build_codec(tiny_config())
    x, side = batch_of_pairs(2)
    aux = codec(x, side, Draws([1, 2])).aux
    assert aux is not None
    aux.backward()
    moved = [name for name, p in codec.named_parameters() if p.grad is not None and p.grad.any()]
    assert moved == ["entropy.prior.quantiles"]


def matched(error: float, batch: int = 2) -> CodecOutput:
    """Coded 8x8 images whose matches, at 1/4 and 1/8, are `error` pixels too far to the left of a disparity of 3."""
    coded = output([0.5] * batch)
    coded.offsets = [torch.full((batch, 1, 8 // s, 8 // s), -(3 + error) / s) for s in (4, 8)]
    coded.has_side = torch.ones(batch, dtype=torch.bool)
    return coded


def test_matches_are_taught_by_known_disparities() -> None:
    """Half the squared error below a pixel, and half a pixel less than the error above; each scale counts alike."""
    disparity, loss = torch.full((2, 8, 8), 3.0), replace(LOSS, disparity_weight=2.0)
    plain, parts = objective(matched(5.0), loss, True, None)
    assert "disparity" not in parts
    for error, expected in ((0.0, 0.0), (0.5, 0.125), (5.0, 4.5), (-5.0, 4.5)):
        total, parts = objective(matched(error), loss, True, None, disparity)
        assert float(parts["disparity"]) == pytest.approx(expected, abs=1e-5)
        assert float(total - plain) == pytest.approx(2 * expected, abs=1e-4)


def test_only_known_points_of_samples_with_a_side_image_teach() -> None:
    loss = replace(LOSS, disparity_weight=1.0)
    disparity = torch.full((2, 8, 8), 3.0)
    disparity[0, :4] = math.nan
    disparity[0, 4:] = 5.0  # Where it is known, the first sample is wrong by 2 pixels, and the second is right.
    coded = matched(0.0)
    assert coded.has_side is not None
    _, parts = objective(coded, loss, True, None, disparity)
    assert float(parts["disparity"]) == pytest.approx(1.5 * 32 / (32 + 64))
    for present, expected in (([True, False], 1.5), ([False, True], 0.0)):
        coded.has_side = torch.tensor(present)
        _, parts = objective(coded, loss, True, None, disparity)
        assert float(parts["disparity"]) == pytest.approx(expected)
    assert "disparity" not in objective(coded, loss, True, None, torch.full((2, 8, 8), math.nan))[1]
    of_another_kind = replace(coded, offsets=[])
    assert "disparity" not in objective(of_another_kind, loss, True, None, disparity)[1]
    for offset in coded.offsets:
        offset.requires_grad_()
    objective(coded, loss, True, None, disparity)[0].backward()
    assert all(bool(torch.isfinite(offset.grad).all()) for offset in coded.offsets if offset.grad is not None)


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """Random images (2, 3, H, W) in [0, 1] with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    for _ in range(3):
        image = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    return (image - image.amin()) / (image.amax() - image.amin())


@pytest.mark.parametrize("size", [(128, 256), (192, 192)])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
def test_the_metric_is_its_logarithm(size: tuple[int, int], noise: float) -> None:
    """With the window of 7 below 161 rows, of 11 above."""
    x = (255 * smooth(*size)).round()
    x_hat = (x + 255 * noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).round()
    losses = ms_ssim_loss(x_hat / 255, x / 255)
    for index, loss in enumerate(losses.tolist()):
        (metric,) = MsSsimDb()(x[index : index + 1], x_hat[index : index + 1])
        assert loss == pytest.approx(10 ** (-metric / 10), rel=1e-3)


def test_where_fine_detail_is_opposite_it_is_one_and_its_gradient_finite() -> None:
    """One scale's factor is negative there, and a power below 1 has an infinite slope at 0."""
    coarse = 0.4 + 0.2 * smooth(128, 128)
    detail = 0.2 * (torch.rand(coarse.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    x, x_hat = coarse + detail, (coarse - detail).requires_grad_()
    loss = ms_ssim_loss(x_hat, x)
    assert loss.tolist() == [1, 1]
    (gradient,) = torch.autograd.grad(loss.sum(), x_hat)
    assert gradient.isfinite().all()


def test_it_is_computed_in_float32_under_autocast() -> None:
    x, x_hat = smooth(128, 128), smooth(128, 128, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ms_ssim_loss(x_hat.bfloat16(), x)
    torch.testing.assert_close(loss, ms_ssim_loss(x_hat.bfloat16().float(), x))
