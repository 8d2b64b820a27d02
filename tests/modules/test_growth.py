"""A wider codec begins as the narrower one that it grows from."""

import pytest
import torch
from tiny import smooth_pair, tiny_config, untrained_codec

from modules.codec import Codec, build_codec
from modules.growth import grow
from modules.noise import Draws

WIDER = {
    "latent": 24, "hyper_width": 20, "analysis_channels": (20, 28, 40), "side_channels": (20, 28, 40),
    "synthesis_channels": (20, 28, 40), "unet_channels": (20, 28, 40),
}  # fmt: skip


def grown(narrow: Codec, **model: object) -> Codec:
    torch.manual_seed(1)
    wide = build_codec(tiny_config(model=model))
    assert grow(wide, narrow)
    wide.freeze()
    return wide.eval()


@pytest.mark.parametrize("fusion", ["correlation", "none"])
def test_a_wider_codec_makes_the_same_image(fusion: str) -> None:
    narrow = untrained_codec(model={"fusion": fusion, "shortcut": fusion != "none"})
    with torch.no_grad():
        for parameter in narrow.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))  # Zeros of the start would hide what does not match.
    narrow.freeze()
    wide = grown(narrow, fusion=fusion, shortcut=True, **WIDER)
    x, x_side = smooth_pair(64, 128)
    side = x_side if fusion != "none" else None
    for rate in (0.0, 0.7):
        files = [codec.compress(x, rate) for codec in (narrow, wide)]
        for gamma in (0.0, 1.0):
            before, after = (
                codec.decompress(data, side, gamma=gamma, seed=0)
                for codec, data in zip((narrow, wide), files, strict=True)
            )
            torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_what_is_new_learns() -> None:
    wide = grown(untrained_codec(model={"fusion": "correlation"}), fusion="correlation", shortcut=True, **WIDER)
    x, x_side = (image[None] for image in smooth_pair(64, 128))
    output = wide.train()(x, x_side, Draws([1]))
    (output.bits.sum() * 1e-3 + sum((task.estimate - task.target).square().sum() for task in output.tasks)).backward()
    for name in ("g_a.shortcut.conv", "g_s.shortcut.conv", "g_s.stem"):
        gradient = wide.get_submodule(name).weight.grad
        assert gradient is not None and float(gradient.abs().sum()) > 0, name


def test_a_codec_that_is_wider_somewhere_does_not_fit() -> None:
    narrow = untrained_codec()
    wide = build_codec(tiny_config(model={**WIDER, "latent": 8}))
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    assert not grow(wide, narrow)
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())


def test_another_kind_of_fusion_is_learnt_anew(tiny_codec: Codec) -> None:
    other = build_codec(tiny_config(model={"fusion": "pixel_aligned"}))
    assert grow(other, tiny_codec)
    assert torch.equal(other.g_a.head.weight, tiny_codec.g_a.head.weight)
