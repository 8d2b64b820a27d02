"""Fusion: along rows only, able to find a disparity, and with parameters that are all in use."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.alignment import Matches, warp
from modules.fusion import MAX_CORRECTION, CorrelationFuse, Fuse, FusionSynthesis, RowAttention
from modules.transforms import Side, SideEncoder

KINDS = ("correlation", "add", "row_attention", "both", "aligned", "pixel_aligned", "none")
CHANNELS = (8, 12, 32)


def synthesis(kind: str, attend: tuple[bool, ...] = (False, True, True)) -> FusionSynthesis:
    torch.manual_seed(0)
    return FusionSynthesis(kind, 6, CHANNELS, (1, 1, 1), (4, 6, 10), attend, 16)  # type: ignore[arg-type]


def inputs(height: int = 4, width: int = 8, batch: int = 2) -> tuple[Tensor, Side]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(batch, c, height << (2 - i), width << (2 - i)) for i, c in enumerate((4, 6, 10))]
    features = [torch.randn(shape, generator=generator) for shape in shapes]
    y_hat = torch.randn(batch, 6, height, width, generator=generator)
    return y_hat, Side(torch.randn(batch, 3, 16 * height, 16 * width, generator=generator), features)


def fine_inputs(channels: int = 8, height: int = 4, width: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """h, side features and side image for a fusion at the finest scale."""
    h, side = torch.randn(1, channels, height, width), torch.randn(1, 4, height, width)
    return h, side, torch.rand(1, 3, 4 * height, 4 * width)


def comparing() -> RowAttention:
    """Attention with keys equal to queries and values passed through: the same content is found, sharply."""
    attention = RowAttention(32)
    for layer in (attention.query, attention.key_value, attention.out):
        nn.init.dirac_(layer.weight, groups=layer.out_channels // 32)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    nn.init.constant_(attention.log_temperature, 4.0)
    nn.init.zeros_(attention.bias)
    return attention


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_batch_do_not_mix(kind: str) -> None:
    g_s = synthesis(kind).eval()
    y_hat, side = inputs(batch=3)
    rate = torch.tensor([0.1, 0.9, 0.5])
    together, _ = g_s(y_hat, side, rate)
    for i in range(3):
        one = slice(i, i + 1)
        alone = g_s(y_hat[one], Side(side.image[one], [s[one] for s in side.features]), rate[one])[0]
        for a, b in zip(alone, together, strict=True):
            # Rounding depends on the size of the batch, and what depends on a match of noise makes far more of it.
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=5e-3)


def test_attention_gathers_a_shifted_row() -> None:
    """Each position finds its own point at its disparity."""
    scene = torch.randn(1, 32, 3, 40, generator=torch.Generator().manual_seed(0))
    found, matches = comparing()(scene[..., 5:35], scene[..., :30])
    torch.testing.assert_close(found[..., :25], scene[..., 5:30], rtol=0, atol=0.05)
    torch.testing.assert_close(matches.offset[..., :25], torch.full((1, 1, 3, 25), 5.0), rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient(kind: str) -> None:
    """A parameter without one stops training on several processes, and is saved for nothing."""
    g_s = synthesis(kind)
    y_hat, side = inputs()
    context, _ = g_s(y_hat, None if kind == "none" else side, torch.tensor([0.1, 0.9]))
    sum((c.square().mean() for c in context), torch.zeros(())).backward()
    unused = [name for name, p in g_s.named_parameters() if p.grad is None]
    assert not unused


@pytest.mark.parametrize("kind", KINDS)
def test_context_has_the_promised_shapes_and_uses_what_it_should(kind: str) -> None:
    g_s = synthesis(kind).eval()
    y_hat, side = inputs()
    rate = torch.tensor([0.1, 0.9])
    context, _ = g_s(y_hat, side, rate)
    assert [tuple(c.shape) for c in context] == [(2, 8, 16, 32), (2, 12, 8, 16), (2, 32, 4, 8)]
    other_side = g_s(y_hat, Side(side.image.flip(0), [s.flip(0) for s in side.features]), rate)[0]
    assert torch.equal(context[0], other_side[0]) == (kind == "none")
    assert not torch.equal(context[2], g_s(y_hat.flip(0), side, rate)[0][2])


def test_a_warp_reads_to_the_right() -> None:
    features = torch.arange(8.0).expand(2, 3, 4, 8)
    offset = torch.tensor([1.0, -2.5])[:, None, None, None].expand(2, 1, 4, 8)
    expected = torch.stack([torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 7]), torch.tensor([0, 0, 0, 0.5, 1.5, 2.5, 3.5, 4.5])])
    torch.testing.assert_close(warp(features, offset), expected[:, None, None].expand(2, 3, 4, 8))
    torch.testing.assert_close(warp(features[:, :, :1], torch.zeros(2, 1, 1, 8)), features[:, :, :1])


def test_the_side_image_is_moved_pixel_by_pixel() -> None:
    """By a match and its correction: 1.25 + 0.5 positions at 1/4 are 7 pixels."""
    torch.manual_seed(0)
    fine = Fuse("pixel_aligned", 8, 4, False, coarse_maps=1, finest=True)
    assert fine.refine is not None and fine.project_picture is not None and fine.project_warped is not None
    h, side, image = fine_inputs()
    coarse = Matches(torch.full((1, 1, 2, 8), 0.625), torch.full((1, 1, 2, 8), 0.4))
    with torch.no_grad():
        assert fine(h, side, coarse, image)[1].offset.sub(1.25).abs().max() < 1e-6  # No correction at first.
        fine.refine.decide.bias.fill_(math.atanh(0.5 / MAX_CORRECTION))  # type: ignore[union-attr]
        fine.project.weight.zero_()
        fine.project_warped.weight.zero_()
        fine.gate.decide.bias.fill_(30)  # type: ignore[union-attr]
        fused, own = fine(h, side, coarse, image)
        fused = fused - h
        bias = fine.project.bias + fine.project_warped.bias
        moved = F.pixel_unshuffle(F.pad(image[..., 7:], (0, 7)), 4)
        expected = fine.project_picture(moved) + bias[:, None, None]
    torch.testing.assert_close(own.offset, torch.full((1, 1, 4, 16), 1.75))
    torch.testing.assert_close(fused[..., :-3], expected[..., :-3], rtol=0, atol=1e-4)


def test_the_null_input_stands_for_a_missing_side_image() -> None:
    """Where `present` is False the features are the learned vectors, whatever image is passed."""
    torch.manual_seed(0)
    e_side = SideEncoder((4, 6, 10), (1, 1, 1))
    with torch.no_grad():
        for null in e_side.null:
            null.normal_()
    image = torch.randn(3, 3, 64, 64)
    present = torch.tensor([True, False, True])
    (shown, features), whole_side = e_side(image, present), e_side(image, torch.tensor([True, True, True]))
    assert torch.equal(shown[[0, 2]], image[[0, 2]]) and (shown[1] == 0).all()
    for feature, whole, null in zip(features, whole_side.features, e_side.null, strict=True):
        assert torch.equal(feature[[0, 2]], whole[[0, 2]])
        assert (feature[1] == null[:, None, None]).all()
    sum((f.sum() for f in features), torch.zeros(())).backward()
    assert all(null.grad is not None and null.grad.abs().min() > 0 for null in e_side.null)


@pytest.mark.parametrize("side_image", [True, False])
def test_the_side_image_shows_in_a_correlation_where_the_match_is(side_image: bool) -> None:
    """Features and pixels come from the match; a learned gate and a part for the picture weigh them."""
    torch.manual_seed(0)
    fine = CorrelationFuse(8, 4, scale=0, coarsest=False)
    assert fine.correct is not None and fine.project is not None and fine.project_picture is not None
    h, side, image = fine_inputs()
    coarse = Matches(torch.full((1, 1, 2, 8), 1.5), torch.full((1, 1, 2, 8), 0.4))
    with torch.no_grad():
        fine.correct.log_temperature.fill_(-math.inf)  # All displacements weigh the same, so the match stays.
        fine.gate.decide.bias.fill_(30 if side_image else -200)  # type: ignore[union-attr]
        fused, matches = fine(h, side, coarse, image)
        moved = F.pixel_unshuffle(F.pad(image[..., 12:], (0, 12)), 4)
        expected = fine.project(side[..., 3:]) + fine.project_picture(moved)[..., :-3]
    torch.testing.assert_close(matches.offset, torch.full((1, 1, 4, 16), 3.0))
    expected = h[..., :-4] + expected[..., :-1] if side_image else h[..., :-4]
    torch.testing.assert_close(fused[..., :-4], expected, rtol=0, atol=1e-4)


def test_offsets_of_every_scale_come_with_the_context() -> None:
    y_hat, side = inputs()
    for kind in KINDS:
        _, offsets = synthesis(kind)(y_hat, side, torch.tensor([0.1, 0.9]))
        shapes = [tuple(offset.shape) for offset in offsets]
        assert shapes == ([(2, 1, 16, 32), (2, 1, 8, 16), (2, 1, 4, 8)] if kind == "correlation" else [])


def test_a_shortcut_brings_the_latent_to_the_middle_scale() -> None:
    """Also where the features at 1/16 let nothing through."""
    torch.manual_seed(0)
    y_hat, _ = inputs()
    for shortcut in (True, False):
        g_s = FusionSynthesis("none", 6, CHANNELS, (1, 1, 1), (4, 6, 10), (False,) * 3, 16, shortcut)
        with torch.no_grad():
            g_s.stem.weight.zero_()
            fine, middle, coarse = (
                (a - b).abs().max()
                for a, b in zip(
                    g_s(y_hat, None, torch.zeros(2))[0], g_s(y_hat.flip(0), None, torch.zeros(2))[0], strict=True
                )
            )
        assert coarse == 0 and (middle > 0.01) == (fine > 0.01) == shortcut


def test_a_kind_without_a_branch_is_an_error() -> None:
    with pytest.raises(ValueError, match="fusion 'mine' has no branch"):
        FusionSynthesis("mine", 6, CHANNELS, (1, 1, 1), (4, 6, 10), (False,) * 3, 16)  # type: ignore[arg-type]
