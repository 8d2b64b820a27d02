"""A fresh codec with shortcuts is a transform codec: y has DCT coefficients of x, and the mean image inverts them."""

import torch
from tiny import smooth_pair, tiny_config

from data.tensors import to_float
from modules.codec import Codec, build_codec


def fresh(latent: int, eighth: int, fusion: str = "correlation") -> Codec:
    torch.manual_seed(0)
    widths = {"analysis_channels": (48, eighth, 32), "synthesis_channels": (48, eighth, 32)}
    codec = build_codec(tiny_config(model={"latent": latent, "fusion": fusion, "hyper_width": 16, **widths}))
    codec.freeze()
    return codec.eval()


def through_y(codec: Codec, x: torch.Tensor, x_side: torch.Tensor) -> torch.Tensor:
    """The mean image of y as it is before rounding."""
    rate, present = torch.zeros(1), torch.ones(1, dtype=torch.bool)
    with torch.no_grad():
        y = codec.g_a(2 * x[None] - 1, rate)
        return (codec.context(y, x_side[None], present, rate).mean[0] + 1) / 2


def test_all_coefficients_give_the_image_back() -> None:
    """768 of 16x16 blocks of three colours, whatever the side image."""
    x, x_side = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(through_y(fresh(768, 192), x, x_side), x, rtol=0, atol=1e-5)


def test_fewer_coefficients_keep_most_of_a_photograph() -> None:
    from skimage import data

    x = to_float(data.astronaut()[:256, :256])
    errors = [float((through_y(fresh(latent, 96), x, x) - x).square().mean()) for latent in (32, 128, 320)]
    assert errors[2] < errors[1] < errors[0] < 0.1 * float((x - x.mean()).square().mean())
    assert errors[2] < 0.05 * errors[0]


def test_a_fresh_codec_already_codes() -> None:
    codec = fresh(320, 96)
    x, x_side = smooth_pair(64, 128)
    sizes, errors = [], []
    for rate in (0.0, 0.5, 1.0):
        data = codec.compress(x, rate)
        sizes.append(len(data))
        errors.append(float((codec.decompress(data, x_side) - x).square().mean()))
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True) and errors[0] < 1e-2
