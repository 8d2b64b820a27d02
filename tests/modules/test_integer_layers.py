"""Integer convolutions in strips of rows, and with a leaky activation."""

from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

import modules.integer
from modules.integer import IntegerConv, LayerSpec


@pytest.mark.parametrize("spec", [LayerSpec(6, 9, 5, 2, "leaky_relu"), LayerSpec(6, 9, 3), LayerSpec(6, 9, 1)])
def test_strips_of_rows_give_the_same_integers(spec: LayerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = IntegerConv(spec, 256)
    nn.init.normal_(layer.bias)
    layer.freeze()
    x, level = torch.randint(-3000, 3000, (2, 6, 13, 17)).double(), torch.tensor([37, 200])
    whole = layer.integer_forward(x, level)
    torch.testing.assert_close(whole / 2**8, layer(x.float() / 2**8, level).double(), atol=0.02, rtol=0)
    taken: list[int] = []

    def stack(parts: list[Tensor]) -> Tensor:
        windows = torch.stack(parts)
        taken.append(windows.numel() * windows.element_size())
        return windows

    row = 2 * 17 * 6 * spec.upsample**2 * (1 if spec.kernel == 1 else 3) ** 2 * 8
    for limit in (1, 3 * row):
        monkeypatch.setattr(modules.integer, "STRIP_BYTES", limit)
        with patch("modules.integer.torch", SimpleNamespace(stack=stack, bmm=torch.bmm)):
            assert torch.equal(layer.integer_forward(x, level), whole)
    assert taken == 13 * [row] + 4 * [3 * row] + [row]


def test_the_negative_slope_is_a_power_of_two_in_both_paths() -> None:
    layer = IntegerConv(LayerSpec(1, 1, 1, activation="leaky_relu"))
    nn.init.ones_(layer.weight)
    layer.freeze()
    level = torch.zeros(1, dtype=torch.int64)
    x = torch.tensor([[[[-8.0, 8.0]]]])
    assert layer(x, level).tolist() == [[[[-2.0, 8.0]]]]
    assert (layer.integer_forward(x.double() * 2**8, level) / 2**8).tolist() == [[[[-2.0, 8.0]]]]
