"""Integer convolutions: exact against unbounded integers, whatever the order, batch, threads or layout."""

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

import modules.integer as integer
from modules.integer import (
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
@pytest.mark.parametrize(("kernel", "upsample"), [(3, 1), (3, 2), (1, 1), (5, 2), (1, 2), (3, 3), (5, 4)])
def test_equals_arithmetic_in_unbounded_integers(activation: str, kernel: int, upsample: int) -> None:
    layer = conv(LayerSpec(5, 3, kernel, upsample, activation), levels=256)  # type: ignore[arg-type]
    x = torch.cat([activations(1, 5, 3, 4), activations(1, 5, 3, 4, high=3000)])
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


def test_thaw_gives_the_floats_that_freeze_gives_back() -> None:
    layer = conv(LayerSpec(4, 4), levels=256)
    before = layer.weight_int.clone(), layer.bias_int.clone()
    layer.thaw()
    assert (layer.weight - before[0].float() / 2**WEIGHT_BITS).abs().max() == 0
    layer.freeze()
    assert torch.equal(layer.weight_int, before[0]) and torch.equal(layer.bias_int, before[1])


def test_weights_that_would_lose_exactness_are_refused() -> None:
    """2^53 is where float64 stops holding every integer; the bound is on the worst case, not on a sample."""
    network = IntegerSynthesis([LayerSpec(16, 4), LayerSpec(4, 4)])
    network.freeze()
    for place, layer in enumerate(network.convolutions()):
        with torch.no_grad():
            before = layer.weight.clone()
            layer.weight[2].fill_(1.001 * 2**19 / layer.weight[2].numel())  # One output's weights sum to 2^33 / 2^14.
        with pytest.raises(CheckpointError, match=f"layer {place} .* could reach 2\\^53"):
            network.freeze()
        with pytest.raises(CheckpointError, match=f"layer {place} .* could reach 2\\^53"):
            network.thaw()
        with torch.no_grad():
            layer.weight.copy_(before)
        network.freeze()


def test_the_bound_is_met_by_the_largest_sum_there_is() -> None:
    layer = conv(LayerSpec(6, 4, kernel=3, activation="none"), levels=256, scale=20)
    with patch.object(IntegerConv, "_finish", lambda self, total: total):  # The sums as they are.
        largest = 0.0
        for output in range(4):
            signs = torch.where(layer.weight_int[output : output + 1] < 0, -1.0, 1.0).double()
            for sign in (-1, 1):
                x = (sign * signs * (ACTIVATION_LIMIT - 1)).expand(17, -1, -1, -1)
                total = layer.integer_forward(x, (torch.arange(17) * KNOT_SPACING).clamp(max=255))
                largest = max(largest, float(total[:, output, 1, 1].abs().max()))
    rounding = 2 ** (WEIGHT_BITS + 1)
    assert largest <= layer.largest_sum() - rounding <= 1.0001 * largest


def at_the_bound(bias: int) -> IntegerSynthesis:
    """A layer of 5 weights whose largest sum of products is 2^53 - 2^33 - 2^20 + 1; knot 5 has this bias."""
    network = IntegerSynthesis([LayerSpec(5, 1, kernel=1, activation="leaky_relu")], levels=256)
    network.freeze()
    layer = network.convolutions()[0]
    layer.weight_int.copy_(torch.tensor([2**31 - 1, 1 - 2**31, 2**31 - 1, 2**31 - 1, 3]).view(1, 5, 1, 1))
    layer.bias_int.zero_()
    layer.bias_int[5] = bias
    return network


def test_sums_up_to_the_bound_are_exact_and_a_larger_bias_of_one_knot_is_refused() -> None:
    """The bias of a rate level counts as much as the weights."""
    products = (ACTIVATION_LIMIT - 1) * (2**33 - 1)
    most = (2**53 - 1 - 2 ** (WEIGHT_BITS + 1) - products) // 2**WEIGHT_BITS
    for sign in (-1, 1):
        network = at_the_bound(sign * most)
        network.check_exact()
        layer = network.convolutions()[0]
        assert 2**53 - 2**WEIGHT_BITS <= layer.largest_sum() < 2**53
        x = sign * torch.sign(layer.weight_int).double() * (ACTIVATION_LIMIT - 1)
        levels = [5 * KNOT_SPACING, 5 * KNOT_SPACING + 9, 4 * KNOT_SPACING + 15]
        with patch.object(IntegerConv, "_finish", lambda self, total: total):
            totals = layer.integer_forward(x.expand(3, -1, -1, -1), torch.tensor(levels)).flatten().tolist()
        for total, share in zip(totals, (16, 7, 15), strict=True):
            assert int(total) == sign * (products + most * 2**WEIGHT_BITS * share // KNOT_SPACING)
        with pytest.raises(CheckpointError, match="layer 0"):
            at_the_bound(sign * (most + 1)).check_exact()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e9])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_weights_without_integers_are_refused(part: str, value: float) -> None:
    """They must not be clamped in silence: what the float path has learnt would not be what is coded."""
    network = IntegerSynthesis([LayerSpec(2, 3), LayerSpec(3, 2)], levels=256)
    with torch.no_grad():
        getattr(network.convolutions()[1], part).view(-1)[-1] = value
    with pytest.raises(CheckpointError, match=r"es of hyper-synthesis layer 1|weights of hyper-synthesis layer 1"):
        network.freeze()
