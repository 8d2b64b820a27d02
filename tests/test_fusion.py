"""Fusion: along rows only, able to find a disparity, and with parameters that are all in use."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import modules.fusion as fusion
from modules.fusion import MAX_OFFSET, Fuse, FusionSynthesis, RowAttention, warp
from modules.side import SideEncoder

KINDS = ("add", "row_attention", "both", "aligned", "none")
CHANNELS = (8, 12, 32)


def synthesis(kind: str, attend: tuple[bool, ...] = (False, True, True)) -> FusionSynthesis:
    torch.manual_seed(0)
    return FusionSynthesis(kind, 6, CHANNELS, (1, 1, 1), (4, 6, 10), attend, 16)  # type: ignore[arg-type]


def inputs(height: int = 4, width: int = 8, batch: int = 2) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(batch, c, height << (2 - i), width << (2 - i)) for i, c in enumerate((4, 6, 10))]
    side = [torch.randn(shape, generator=generator) for shape in shapes]
    return torch.randn(batch, 6, height, width, generator=generator), side


def test_attention_stays_in_its_row() -> None:
    """Rectified views: what lies on another row of the side image cannot be the same point."""
    torch.manual_seed(0)
    attention = RowAttention(64)
    h, side = torch.randn(1, 64, 5, 7), torch.randn(1, 64, 5, 7)
    changed = side.clone()
    changed[:, :, 2] = torch.randn(1, 64, 7)
    difference = (attention(h, changed)[0] - attention(h, side)[0]).abs().amax((0, 1, 3))
    assert difference[2] > 0.01 and (difference[[0, 1, 3, 4]] == 0).all()


def test_large_images_are_attended_in_parts() -> None:
    """Without gradients the scores of a few rows at a time are held; the result is the same."""
    torch.manual_seed(0)
    attention = RowAttention(64)
    h, side = torch.randn(2, 64, 5, 24), torch.randn(2, 64, 5, 24)
    expected = attention(h, side)
    in_parts = patch.object(RowAttention, "_gather", side_effect=RowAttention._gather)
    with torch.no_grad(), patch.object(fusion, "SCORE_BYTES", 2 * 4 * 2 * 24**2), in_parts as gather:
        parts = attention(h, side)
    assert gather.call_count == 5
    torch.testing.assert_close(parts, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_batch_do_not_mix(kind: str) -> None:
    g_s = synthesis(kind).eval()
    y_hat, side = inputs(batch=3)
    rate = torch.tensor([0.1, 0.9, 0.5])
    together = g_s(y_hat, side, rate)
    for i in range(3):
        alone = g_s(y_hat[i : i + 1], [s[i : i + 1] for s in side], rate[i : i + 1])
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-5, atol=1e-5)


def test_attention_gathers_a_shifted_row() -> None:
    """With keys equal to queries and values passed through, each position finds its own point at its disparity."""
    attention = RowAttention(32)
    with torch.no_grad():
        identity = torch.eye(32)[:, :, None, None]
        attention.query.weight.copy_(identity)
        attention.key_value.weight.copy_(torch.cat([identity, identity]))
        attention.out.weight.copy_(identity)
        for layer in (attention.query, attention.key_value, attention.out):
            layer.bias.zero_()
        attention.log_temperature.fill_(4.0)
        scene = torch.randn(1, 32, 3, 40, generator=torch.Generator().manual_seed(0))
        found, offset = attention(scene[..., 5:35], scene[..., :30])
    torch.testing.assert_close(found[..., :25], scene[..., 5:30], rtol=0, atol=0.05)
    torch.testing.assert_close(offset[..., :25], torch.full((1, 1, 3, 25), 5.0), rtol=0, atol=0.05)


def test_the_offset_bias_prefers_a_disparity() -> None:
    attention = RowAttention(32)
    with torch.no_grad():
        attention.key_value.weight[:32].zero_()
        attention.key_value.bias[:32].zero_()
        attention.bias[:, MAX_OFFSET - 4] = 50.0
        side = torch.randn(1, 32, 2, 20)
        h = torch.randn(1, 32, 2, 20)
        values = attention.key_value(side)[:, 32:]
        expected = attention.out(values)
        torch.testing.assert_close(attention(h, side)[0][..., 4:], expected[..., :-4], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient(kind: str) -> None:
    """A parameter without one stops training on several processes, and is saved for nothing."""
    g_s = synthesis(kind)
    y_hat, side = inputs()
    context = g_s(y_hat, None if kind == "none" else side, torch.tensor([0.1, 0.9]))
    sum((c.square().mean() for c in context), torch.zeros(())).backward()
    unused = [name for name, p in g_s.named_parameters() if p.grad is None]
    assert not unused


@pytest.mark.parametrize("kind", KINDS)
def test_context_has_the_promised_shapes_and_uses_what_it_should(kind: str) -> None:
    g_s = synthesis(kind).eval()
    y_hat, side = inputs()
    rate = torch.tensor([0.1, 0.9])
    context = g_s(y_hat, side, rate)
    assert [tuple(c.shape) for c in context] == [(2, 8, 16, 32), (2, 12, 8, 16), (2, 32, 4, 8)]
    other_side = g_s(y_hat, [s.flip(0) for s in side], rate)
    assert torch.equal(context[0], other_side[0]) == (kind == "none")
    assert not torch.equal(context[2], g_s(y_hat.flip(0), side, rate)[2])


def test_kinds_differ_in_what_they_add() -> None:
    sizes = {kind: sum(p.numel() for p in synthesis(kind).parameters()) for kind in KINDS}
    assert sizes["none"] < sizes["add"] < sizes["both"] < sizes["aligned"] and sizes["row_attention"] < sizes["both"]
    torch.manual_seed(0)
    both, h, side = Fuse("both", 32, 10, True), torch.randn(1, 32, 4, 8), torch.randn(1, 10, 4, 8)
    assert both.attention is not None
    projected = both.project(side)
    torch.testing.assert_close(both(h, side, None)[0], h + projected + both.attention(h, projected)[0])


def test_a_warp_reads_to_the_right() -> None:
    features = torch.arange(8.0).expand(2, 3, 4, 8)
    offset = torch.tensor([1.0, -2.5])[:, None, None, None].expand(2, 1, 4, 8)
    expected = torch.stack([torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 7]), torch.tensor([0, 0, 0, 0.5, 1.5, 2.5, 3.5, 4.5])])
    torch.testing.assert_close(warp(features, offset), expected[:, None, None].expand(2, 3, 4, 8))
    torch.testing.assert_close(warp(features[:, :, :1], torch.zeros(2, 1, 1, 8)), features[:, :, :1])


def test_coarse_offsets_steer_the_finer_scale() -> None:
    """A point found d positions away at one scale lies 2 d away at the next; no scores are computed there."""
    torch.manual_seed(0)
    fine = Fuse("aligned", 8, 4, False, coarse_maps=2)
    assert fine.attention is None and fine.project_warped is not None and fine.gate is not None
    h, side, coarse = torch.zeros(1, 8, 4, 16), torch.randn(1, 4, 4, 16), torch.full((1, 2, 2, 8), 1.5)
    with torch.no_grad():
        fine.gate.decide.bias.fill_(30)
        fused, offset = fine(h, side, coarse)
        expected = fine.project(side)[..., :-3] + fine.project_warped(side)[..., 3:]
    assert offset is not None and torch.equal(offset, torch.full((1, 1, 4, 16), 3.0))
    torch.testing.assert_close(fused[..., :-3], expected, rtol=0, atol=1e-4)


def test_a_closed_gate_shuts_the_side_image_out() -> None:
    torch.manual_seed(0)
    for attend in (False, True):
        fuse, h = Fuse("aligned", 32, 4, attend, coarse_maps=1), torch.randn(1, 32, 4, 8)
        assert fuse.gate is not None
        open_at_first = fuse.gate(h, h)
        with torch.no_grad():
            fuse.gate.decide.bias.fill_(-200)
        assert open_at_first.min() > 0.9 and torch.equal(
            fuse(h, torch.randn(1, 4, 4, 8), torch.zeros(1, 1, 2, 4))[0], h
        )


def test_the_null_input_stands_for_a_missing_side_image() -> None:
    """Where `present` is False the features are the learned vectors, whatever image is passed."""
    torch.manual_seed(0)
    e_side = SideEncoder((4, 6, 10), (1, 1, 1))
    with torch.no_grad():
        for null in e_side.null:
            null.normal_()
    image = torch.randn(3, 3, 64, 64)
    present = torch.tensor([True, False, True])
    features, everything = e_side(image, present), e_side(image, torch.tensor([True, True, True]))
    for feature, whole, null in zip(features, everything, e_side.null, strict=True):
        assert torch.equal(feature[[0, 2]], whole[[0, 2]])
        assert (feature[1] == null[:, None, None]).all()
    sum((f.sum() for f in features), torch.zeros(())).backward()
    assert all(null.grad is not None and null.grad.abs().min() > 0 for null in e_side.null)
