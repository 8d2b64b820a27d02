"""The published networks of CDC and DICM: sizes, shapes, use of context, and one definition of time."""

import torch
import torch.nn.functional as F
from torch import nn

from modules.integer import IntegerSynthesis
from modules.published.layers import ChannelNorm, LinearAttention
from modules.published.transforms import (
    PaperHyperSynthesis,
    hyper_synthesis_layers,
)

META = torch.device("meta")
SIZES = [(128, 256), (64, 64), (192, 320)]
SMALL_CONTEXTS = (3, 8, 16, 24)


def count(*modules: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_float_hyper_synthesis_has_the_parameters_and_shape_of_the_integer_one() -> None:
    with META:
        published, exact = PaperHyperSynthesis(), IntegerSynthesis(hyper_synthesis_layers())
        assert count(published) == count(exact) == 4_457_472
        z_hat = torch.empty(1, 256, 2, 4)
        assert published(z_hat).shape == exact(z_hat, torch.zeros(1, dtype=torch.int64)).shape == (1, 512, 8, 16)


def test_hyper_synthesis_stays_exact_in_integers() -> None:
    torch.manual_seed(0)
    h_s = IntegerSynthesis(hyper_synthesis_layers())
    h_s.freeze()  # raises if a sum could leave float64's exact range
    h_s.thaw()
    z_hat, level = torch.randint(-3, 4, (1, 256, 1, 2)), torch.zeros(1, dtype=torch.int64)
    exact = h_s.integer_forward(z_hat * 2.0**8, level) / 2**8
    assert exact.shape == (1, 512, 4, 8)
    torch.testing.assert_close(exact.float(), h_s(z_hat.float(), level), rtol=0, atol=2 / 2**8)


def test_channel_norm_is_layer_norm_over_channels() -> None:
    norm, x = ChannelNorm(6), 3 * torch.randn(2, 6, 4, 5) + 1
    nn.init.normal_(norm.gain)
    nn.init.normal_(norm.offset)
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (6,), norm.gain, norm.offset).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)


def test_linear_attention_equals_its_definition() -> None:
    attention, x = LinearAttention(5), torch.randn(2, 5, 3, 4)
    q, k, v = attention.to_qkv(attention.norm(x)).flatten(2).chunk(3, dim=1)
    weights = k.softmax(dim=2)
    expected = torch.zeros_like(q)
    for n in range(q.shape[2]):
        for m in range(q.shape[2]):
            expected[:, :, n] += v[:, :, m] * (weights[:, :, m] * q[:, :, n]).sum(1, keepdim=True) / 5**0.5
    torch.testing.assert_close(attention(x), x + attention.to_out(expected.view_as(x)))
