"""Building blocks equal what their descriptions say."""

import torch
import torch.nn.functional as F

from modules.transforms import Down


def test_down_is_pixel_unshuffle_and_a_1x1_convolution() -> None:
    torch.manual_seed(0)
    down = Down(5, 7).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 5, 8, 12).contiguous(memory_format=torch.channels_last)
    expected = down.conv(F.pixel_unshuffle(x, 2))
    torch.testing.assert_close(down(x), expected)
    own, other = (torch.autograd.grad(y.square().sum(), down.conv.weight)[0] for y in (down(x), expected))
    torch.testing.assert_close(own, other)
