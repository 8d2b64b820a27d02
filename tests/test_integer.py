"""Integer convolutions: exact against unbounded integers, whatever the order, batch, threads or layout."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

import modules.integer as integer
from modules.integer import (
    ACTIVATION_BITS,
    ACTIVATION_LIMIT,
    KNOT_SPACING,
    LEAKY_SLOPE,
    WEIGHT_BITS,
    IntegerConv,
    IntegerSynthesis,
    LayerSpec,
)
from utils.errors import CheckpointError


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def conv(spec: LayerSpec, levels: int = 1, scale: float = 1.0) -> IntegerConv:
    torch.manual_seed(0)
    layer = IntegerConv(spec, levels)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.normal_()
    layer.freeze()
    return layer


def activations(*shape: int, seed: int = 1, high: int = ACTIVATION_LIMIT) -> Tensor:
    """float64 integers of any size that an activation can have."""
    return torch.randint(1 - high, high, shape, generator=torch.Generator().manual_seed(seed)).double()


def reference(layer: IntegerConv, x: Tensor, level: int) -> np.ndarray:
    """The layer in Python's unbounded integers, pixel by pixel; x (C, H, W)."""
    spec, pad = layer.spec, layer.spec.kernel // 2
    values = np.kron(x.numpy().astype(object), np.ones((1, spec.upsample, spec.upsample), dtype=object)).astype(object)
    values = np.vectorize(int, otypes=[object])(values)
    values = np.pad(values, ((0, 0), (pad, pad), (pad, pad)), constant_values=0)
    weight = np.vectorize(int, otypes=[object])(layer.weight_int.numpy())
    bias = layer.bias_int.tolist()
    height, width = x.shape[1] * spec.upsample, x.shape[2] * spec.upsample
    out = np.empty((spec.outputs, height, width), dtype=object)
    left, rest = divmod(level, KNOT_SPACING) if len(bias) > 1 else (0, 0)
    for o in range(spec.outputs):
        # In units of 2^-(ACTIVATION_BITS + WEIGHT_BITS) / KNOT_SPACING, so that the interpolated bias is an integer.
        knots = bias[left][o] * (KNOT_SPACING - rest) + (bias[left + 1][o] * rest if rest else 0)
        for i in range(height):
            for j in range(width):
                window = values[:, i : i + spec.kernel, j : j + spec.kernel]
                total = int((weight[o] * window).sum()) * KNOT_SPACING + knots * 2**WEIGHT_BITS
                divisor = KNOT_SPACING * 2**WEIGHT_BITS
                if spec.activation == "relu":
                    total = max(total, 0)
                elif spec.activation == "leaky_relu" and total < 0:
                    divisor *= round(1 / LEAKY_SLOPE)
                rounded = (2 * total + divisor) // (2 * divisor)
                out[o, i, j] = max(1 - ACTIVATION_LIMIT, min(ACTIVATION_LIMIT - 1, rounded))
    return out


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "none"])
@pytest.mark.parametrize(("kernel", "upsample"), [(3, 1), (3, 2), (1, 1), (5, 2)])
@pytest.mark.parametrize("high", [ACTIVATION_LIMIT, 3000])
def test_equals_arithmetic_in_unbounded_integers(activation: str, kernel: int, upsample: int, high: int) -> None:
    layer = conv(LayerSpec(5, 3, kernel, upsample, activation), levels=256)  # type: ignore[arg-type]
    x = activations(2, 5, 3, 4, high=high)
    levels = torch.tensor([0, 255 - 18])
    out = layer.integer_forward(x, levels)
    assert out.dtype == torch.float64 and out.shape == (2, 3, 3 * upsample, 4 * upsample)
    for image, level, result in zip(x, levels.tolist(), out, strict=True):
        assert (result.numpy().astype(object) == reference(layer, image, level)).all()


@pytest.mark.usefixtures("_two_threads")
def test_order_batch_threads_layout_and_strips_change_nothing() -> None:
    """Floats in another order differ in their last bits; these sums must not."""
    network = IntegerSynthesis([LayerSpec(24, 32, upsample=2), LayerSpec(32, 16, kernel=3)], 256)
    network.freeze()
    x, level = activations(3, 24, 6, 10), torch.tensor([0, 100, 255])
    expected = network.integer_forward(x, level)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(network.integer_forward(x, level), expected)
    assert torch.equal(network.integer_forward(x.contiguous(memory_format=torch.channels_last), level), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network.integer_forward(x, level), expected)
    with patch.object(integer, "STRIP_BYTES", 1):
        assert torch.equal(network.integer_forward(x, level), expected)
    for i in range(3):
        assert torch.equal(network.integer_forward(x[i : i + 1], level[i : i + 1]), expected[i : i + 1])
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    first = network.convolutions()[0]
    first.weight_int.copy_(first.weight_int[:, order])
    assert torch.equal(network.integer_forward(x[:, order], level), expected)


def test_the_float_path_is_what_the_integers_approximate() -> None:
    torch.manual_seed(0)
    network = IntegerSynthesis([LayerSpec(8, 12, upsample=2), LayerSpec(12, 6, kernel=1, activation="none")], 256)
    z = torch.randn(2, 8, 4, 4) * 4
    z = torch.round(z * 2**ACTIVATION_BITS) / 2**ACTIVATION_BITS
    level = torch.tensor([17, 200])
    network.freeze()
    exact = network.integer_forward(z.double() * 2**ACTIVATION_BITS, level) / 2**ACTIVATION_BITS
    assert (network(z, level) - exact).abs().max() < 0.02


def test_bias_passes_through_its_knots() -> None:
    layer = conv(LayerSpec(1, 2, kernel=1, activation="none"), levels=256)
    zero = torch.zeros(256, 1, 1, 1, dtype=torch.float64)
    out = layer.integer_forward(zero, torch.arange(256))[:, :, 0, 0]
    assert torch.equal(out[::KNOT_SPACING], layer.bias_int[:-1].double())
    middle = (layer.bias_int[0].double() + layer.bias_int[1].double()) / 2
    assert torch.equal(out[KNOT_SPACING // 2], torch.floor(middle + 0.5))


def test_thaw_gives_the_floats_that_freeze_gives_back() -> None:
    layer = conv(LayerSpec(4, 4), levels=256)
    before = layer.weight_int.clone(), layer.bias_int.clone()
    layer.thaw()
    assert (layer.weight - before[0].float() / 2**WEIGHT_BITS).abs().max() == 0
    layer.freeze()
    assert torch.equal(layer.weight_int, before[0]) and torch.equal(layer.bias_int, before[1])


def test_weights_that_would_lose_exactness_are_refused() -> None:
    """2^53 is where float64 stops holding every integer; the bound is on the worst case, not on a sample."""
    network = IntegerSynthesis([LayerSpec(16, 4)])
    network.freeze()
    with torch.no_grad():
        network.convolutions()[0].weight.fill_(4000.0)
    with pytest.raises(CheckpointError, match="layer 0"):
        network.freeze()
    with pytest.raises(CheckpointError, match="layer 0"):
        network.thaw()


def test_the_bound_covers_the_largest_sum_there_is() -> None:
    layer = conv(LayerSpec(6, 4, kernel=3, activation="none"), scale=20)
    signs = torch.sign(layer.weight_int.double())
    worst = (layer.weight_int.double().abs().flatten(1).sum(1) * (ACTIVATION_LIMIT - 1)).max()
    assert worst + layer.bias_int.double().abs().max() * 2**WEIGHT_BITS <= layer.largest_sum()
    x = signs[:1] * (ACTIVATION_LIMIT - 1)
    assert layer.integer_forward(x, torch.tensor([0])).abs().max() <= ACTIVATION_LIMIT - 1
