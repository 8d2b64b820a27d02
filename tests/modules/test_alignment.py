"""Alignment: matches are found at every size, on their row, by a prior in shares of the width, in linear memory."""

import math
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import modules.alignment as alignment
from modules.alignment import (
    MAX_ROWS_OFF,
    RADIUS,
    REACH,
    Descriptor,
    LocalCorrelation,
    Matches,
    RowCorrelation,
    lookup,
    warp,
)

CHANNELS = 48


def scene(columns: Tensor, rows: int, seed: int = 0) -> Tensor:
    """Waves of random frequency and phase at these columns, of any real value: unit vectors (1, CHANNELS, rows, W)."""
    generator = torch.Generator().manual_seed(seed)
    frequency = 0.3 + 1.7 * torch.rand(CHANNELS, 1, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(CHANNELS, rows, 1, generator=generator)
    return F.normalize(torch.cos(frequency * columns + phase), dim=0)[None]


def views(width: int, shift: float, rows: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x and x_side as the same descriptors: what x has at column u, x_side has at u - shift."""
    columns = torch.arange(width, dtype=torch.float32)
    return scene(columns, rows, seed), scene(columns + shift, rows, seed)


def comparing(part: Any, log_temperature: float = 4.0) -> Any:
    """RowCorrelation or LocalCorrelation whose descriptors are the features themselves, and without a preference."""
    part.query = part.key = nn.Identity()
    nn.init.constant_(part.log_temperature, log_temperature)
    if isinstance(part, RowCorrelation):
        nn.init.zeros_(part.prior)
    return part.requires_grad_(False)


def coarse_to_fine(width: int, shift: float) -> list[Matches]:
    """The matches at 1/16, 1/8 and 1/4 of an image that is `width` pixels wide and shifted by `shift` pixels."""
    matches = [comparing(RowCorrelation(CHANNELS, CHANNELS))(*views(width // 16, shift / 16))[1]]
    for rows, stride in ((4, 8), (8, 4)):
        finer = comparing(LocalCorrelation(CHANNELS, CHANNELS, CHANNELS), log_temperature=1.5)
        matches.append(finer(*views(width // stride, shift / stride, rows), matches[-1].finer())[0])
    return matches


@pytest.mark.parametrize(
    ("width", "shift"),
    [(width, shift) for width in (256, 512, 2048) for shift in (-9, 0, 8, 27, 64, 101, 128, 512) if shift <= width / 4],
)
def test_a_disparity_up_to_a_quarter_of_the_width_is_found_at_every_size(width: int, shift: int) -> None:
    for matches in coarse_to_fine(width, shift):
        stride = width / matches.offset.shape[-1]
        first, last = math.ceil(max(0, shift) / stride), math.floor((width + min(0, shift)) / stride)
        error = (matches.offset[..., first + 1 : last - 1] + shift / stride).abs()
        # The sharpened weights of a row choose one position of two that are equally near; finer scales look between.
        assert error.mean() < (0.55 if stride == 16 else 0.15), stride


def test_the_prior_is_one_of_shares_of_the_width() -> None:
    row = RowCorrelation(8, 8)
    with torch.no_grad():
        row.prior.copy_(torch.linspace(-1, 1, len(row.prior)))
    for width in (8, 32, 128):
        bias, reach = row.bias(width), REACH * width + 2
        offset = torch.arange(width)[None, :] - torch.arange(width)[:, None]
        near = offset.abs() <= reach
        assert (bias[~near] == -math.inf).all() and (~near).any()
        torch.testing.assert_close(bias[near], offset[near] / reach)


def test_a_match_stays_in_its_row() -> None:
    """Rectified views: what lies on another row of the side image cannot be the same point."""
    (h, side), row = views(32, 3.0, rows=5), comparing(RowCorrelation(CHANNELS, CHANNELS))
    changed = side.clone()
    changed[:, :, 2] = scene(torch.arange(32.0), 1, seed=9)[:, :, 0]
    before, after = row(h, side), row(h, changed)
    zero = torch.zeros(1, 1, 5, 32)
    pairs = (
        (before[0], after[0]),
        (before[1].offset, after[1].offset),
        (lookup(h, side, zero), lookup(h, changed, zero)),
    )
    for a, b in pairs:
        difference = (a - b).abs().amax((0, 1, 3))
        assert difference[2] > 1e-3 and (difference[[0, 1, 3, 4]] == 0).all()


@pytest.mark.parametrize("offset", [-3.0, 0.0, 2.5, 40.0])
def test_a_lookup_is_the_dot_product_with_a_warped_key(offset: float) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, 6, 3, 20)
    place = torch.full((2, 1, 3, 20), offset)
    found = lookup(query, key, place)
    for k in range(-RADIUS, RADIUS + 1):
        expected = (query * warp(key, place + k)).sum(1)
        torch.testing.assert_close(found[:, k + RADIUS], expected, rtol=0, atol=1e-4)


def test_a_correction_is_bounded_and_teaches_what_is_compared() -> None:
    """At most RADIUS positions along a row and MAX_ROWS_OFF across; gradients reach both descriptors."""
    torch.manual_seed(0)
    local = LocalCorrelation(8, 6, 4)
    h, side = torch.randn(1, 8, 4, 16), torch.randn(1, 6, 4, 16)
    coarse = Matches(torch.full((1, 1, 4, 16), -3.0), torch.full((1, 1, 4, 16), 0.5))
    matches, rows_off = local(h, side, coarse)
    assert (rows_off == 0).all()  # At first.
    matches.offset.square().mean().backward()
    for descriptor in (local.query, local.key):
        assert isinstance(descriptor, Descriptor)
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in descriptor.parameters())
    with torch.no_grad():
        nn.init.normal_(local.layers[-1].weight, std=1e4)  # type: ignore[arg-type]
        matches, rows_off = local(h, side, coarse)
    assert (matches.offset + 3).abs().max() <= RADIUS and rows_off.abs().max() <= MAX_ROWS_OFF
    assert matches.confidence.min() >= 0 and matches.confidence.max() <= 1


def test_large_images_are_attended_in_parts() -> None:
    """Without gradients the scores of a few rows at a time are held; the result is the same."""
    torch.manual_seed(0)
    row, h, side = RowCorrelation(16, 8), torch.randn(2, 16, 5, 24), torch.randn(2, 8, 5, 24)
    expected = row(h, side)
    in_parts = patch.object(RowCorrelation, "_attend", side_effect=RowCorrelation._attend)
    with torch.no_grad(), patch.object(alignment, "SCORE_BYTES", 2 * 4 * 24**2), in_parts as attend:
        parts = row(h, side)
    assert attend.call_count == 5
    torch.testing.assert_close(parts, expected, rtol=0, atol=1e-5)


def test_a_warp_reads_rows_below() -> None:
    features = torch.arange(5.0)[:, None].expand(1, 2, 5, 3)
    moved = warp(features, torch.zeros(1, 1, 5, 3), torch.full((1, 1, 5, 3), 1.5))
    torch.testing.assert_close(moved, torch.tensor([1.5, 2.5, 3.5, 4, 4])[:, None].expand(1, 2, 5, 3))
