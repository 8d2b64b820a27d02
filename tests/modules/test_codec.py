"""The codec end to end: what the receiver decodes is what the sender meant, on any setting of either."""

import inspect
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from reference_decoder import Layer, hyper_synthesis
from tiny import batch_of_pairs, smooth_pair
from torch import Tensor, nn

from modules.bitstream import Bitstream, pack
from modules.codec import Codec, pad
from modules.coder import SymbolEncoder
from modules.entropy import Coded
from modules.noise import sampler_noise

SIZES = [(16, 16), (65, 257), (64, 128), (375, 1242)]
RATES = [0.0, 0.5, 1.0]


@pytest.fixture
def _threads() -> Iterator[None]:
    """Puts the number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def decoded_latent(codec: Codec, data: bytes) -> Tensor:
    """y_hat as the receiver has it: what `decompress` hands to its synthesis."""
    caught: list[Tensor] = []

    def spy(y_hat: Tensor, *_: Any) -> Tensor:
        caught.append(y_hat)
        return torch.zeros(1, 3, 16 * y_hat.shape[2], 16 * y_hat.shape[3])

    with patch.object(codec, "synthesise", spy):
        codec.decompress(data, None)
    return caught[0]


@pytest.mark.parametrize("size", SIZES)
def test_decoded_latent_equals_the_forward_passes(tiny_codec: Codec, size: tuple[int, int]) -> None:
    """Bit for bit, at odd sizes and at every rate."""
    x, x_side = smooth_pair(*size, seed=7)
    batch = pad(x[None], 64), pad(x_side[None], 64)
    for rate in RATES:
        data = tiny_codec.compress(x, rate)
        with torch.no_grad():
            forward = tiny_codec(*batch, rate=torch.tensor([rate])).y_hat
        assert torch.equal(decoded_latent(tiny_codec, data), forward)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("decoder", ["plain", "bf16", "channels_last", "two_threads"])
@pytest.mark.parametrize("encoder", ["plain", "bf16", "channels_last", "two_threads", "batched"])
def test_sender_and_receiver_may_differ(tiny_codec: Codec, own_codec: Codec, encoder: str, decoder: str) -> None:
    """Threads, precision, layout and batching change the sender's floats; what it meant still arrives exactly."""
    x, _ = batch_of_pairs(3, 64, 128)
    level = torch.tensor([200])
    torch.set_num_threads(2 if encoder == "two_threads" else 1)
    sender = own_codec.to(memory_format=torch.channels_last) if encoder == "channels_last" else tiny_codec  # type: ignore[call-overload]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=encoder == "bf16"):
        if encoder == "batched":
            coded = sender.analyse(x, level.expand(3))
            coded = Coded(**{n: getattr(coded, n)[1:2] for n in ("y_hat", "bits", "z_symbols", "y_symbols", "indices")})
        else:
            coded = sender.analyse(x[1:2], level)
    data = sender.pack(x[1], coded, 200 / 255)

    torch.set_num_threads(2 if decoder == "two_threads" else 1)
    receiver = own_codec.to(memory_format=torch.channels_last) if decoder == "channels_last" else tiny_codec  # type: ignore[call-overload]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=decoder == "bf16"):
        assert torch.equal(decoded_latent(receiver, data), coded.y_hat)


@pytest.mark.parametrize("size", [(64, 64), (65, 257)])
def test_files_are_those_of_the_plain_computation(tiny_codec: Codec, size: tuple[int, int]) -> None:
    """Byte for byte: int64 sums after the upsampling, and symbols that are coded one by one in the order of tables."""
    x, _ = smooth_pair(*size, seed=8)
    entropy, rate = tiny_codec.entropy, 0.43
    level = torch.tensor([tiny_codec.level(rate)])
    with torch.no_grad():
        image = (2 * pad(x[None], 64) - 1).contiguous(memory_format=torch.channels_last)
        y = tiny_codec.g_a(image, level / 255) * (2**20 / entropy.inverse_gain[level].double()).float()[..., None, None]  # type: ignore[operator]
        medians = entropy.z_medians[:, None, None]
        z_symbols = torch.round(entropy.h_a(y) - medians / 256).clamp(-127, 127)[0].numpy().astype(np.int64)
    z_fixed = 256 * z_symbols + medians.numpy()
    layers = [
        Layer(**vars(layer.spec), weight=layer.weight_int.numpy(), bias=layer.bias_int.numpy())
        for layer in entropy.h_s.convolutions()
    ]
    mean, v = np.split(hyper_synthesis(layers, z_fixed, int(level)), 2)
    index = ((v + 128) // 256).clip(0, 63).ravel()
    y_symbols = np.rint(y[0].double().numpy() - mean / 256).clip(-255, 255).astype(np.int64).ravel()
    encoder = SymbolEncoder()
    places = [(0, table, symbol) for table, row in enumerate(z_symbols) for symbol in row.ravel()]
    places += [(1, table, symbol) for table in range(64) for symbol in y_symbols[index == table]]
    for kind, table, symbol in places:
        one_symbol, one_table = (np.array([value], dtype=np.int32) for value in (symbol, table))
        encoder.put(one_symbol, one_table, entropy.tables()[kind])
    plain = Bitstream(*size, int(level), encoder.finish())
    assert tiny_codec.compress(x, rate) == pack(plain, entropy.identity())
    assert len(set(index)) > 3 and len(set(y_symbols)) > 3 and len(set(z_symbols.ravel())) > 3


@pytest.mark.parametrize(("size", "header"), [((128, 256), 7), ((375, 1242), 7), ((65, 257), 10), ((64, 64), 9)])
def test_a_file_has_the_bytes_that_were_estimated(tiny_codec: Codec, size: tuple[int, int], header: int) -> None:
    """Header and checksum, the estimate, and at most a byte: nothing else is written and nothing is left out."""
    x, _ = smooth_pair(*size, seed=11)
    for rate in RATES:
        data, estimate = tiny_codec.compress(x, rate), tiny_codec.estimate_bits(x, rate) / 8
        assert -1 - 0.02 * estimate <= len(data) - header - estimate <= 1 + 0.005 * estimate


def test_compress_has_no_access_to_the_side_image(own_codec: Codec) -> None:
    """By signature, and by behaviour: without any part of the receiver the sender writes the same bytes."""
    for method in ("compress", "code", "pack", "analyse", "estimate_bits"):
        names = set(inspect.signature(getattr(Codec, method)).parameters)
        assert not {name for name in names if "side" in name}, method
    assert list(inspect.signature(Codec.compress).parameters) == ["self", "x", "rate"]
    x, x_side = smooth_pair(64, 64)
    before = own_codec.compress(x, 0.5)
    own_codec.decompress(before, x_side)
    for part in ("e_side", "g_s", "unet"):
        setattr(own_codec, part, nn.Identity())
    assert own_codec.compress(x, 0.5) == before


def test_mistake_09_the_same_file_gives_the_same_image(tiny_codec: Codec) -> None:
    """Also at full noise and with torch's generator elsewhere; another seed gives another image."""
    x, x_side = smooth_pair(64, 128)
    data = tiny_codec.compress(x, 0.5)
    for steps in (1, 3):
        first = tiny_codec.decompress(data, x_side, steps=steps, gamma=1.0)
        torch.manual_seed(steps)
        torch.rand(7)
        assert torch.equal(tiny_codec.decompress(data, x_side, steps=steps, gamma=1.0), first)
        other = tiny_codec.decompress(data, x_side, steps=steps, gamma=1.0, seed=1)
        assert torch.equal(tiny_codec.decompress(data, x_side, steps=steps, gamma=1.0, seed=1), other)
        assert not torch.equal(other, first)
        still = [tiny_codec.decompress(data, x_side, steps=steps, gamma=0.0, seed=seed) for seed in (1, 2)]
        assert torch.equal(*still)


def test_files_differ_in_their_noise(tiny_codec: Codec) -> None:
    """The seed is the payload's digest: two rates of one image start from different noise."""
    x, x_side = smooth_pair()
    with patch("modules.diffusion_codec.sampler_noise", wraps=sampler_noise) as noise:
        for rate in (0.0, 1.0):
            tiny_codec.decompress(tiny_codec.compress(x, rate), x_side, gamma=1.0)
    seeds = [call.args[0] for call in noise.call_args_list]
    assert len(set(seeds)) == 2


def test_the_side_image_matters_and_may_be_missing(tiny_codec: Codec) -> None:
    """Right view, wrong view and the learned null input give three images from one file."""
    x, x_side = smooth_pair(128, 256, seed=9)
    data = tiny_codec.compress(x, 0.5)
    right, wrong, none = (tiny_codec.decompress(data, side) for side in (x_side, x_side.flip(1), None))
    for a, b in ((right, wrong), (right, none), (wrong, none)):
        assert (a - b).abs().mean() > 0.005
    assert torch.equal(tiny_codec.decompress(data, None), none)


def test_arguments_out_of_range_say_so(tiny_codec: Codec) -> None:
    x, x_side = smooth_pair()
    data = tiny_codec.compress(x, 0.5)
    for rate in (None, -0.1, 1.01, float("nan")):
        with pytest.raises(ValueError, match="rate is"):
            tiny_codec.compress(x, rate)
    bad_images: list[tuple[Tensor, str]] = [
        (x[None], "shape"),
        (x[:1], "shape"),
        (x * 255, r"\[0, 1\]"),
        (x - 0.5, r"\[0, 1\]"),
        ((x * 255).to(torch.uint8), r"\[0, 1\]"),
        (x[:, :15], "16 to 4096"),
    ]
    for image, words in bad_images:
        with pytest.raises(ValueError, match=words):
            tiny_codec.compress(image, 0.5)
        with pytest.raises(ValueError, match=f"{words}|image of"):
            tiny_codec.decompress(data, image)
    with pytest.raises(ValueError, match="64x48"):
        tiny_codec.decompress(data, x_side[:, :48])
    for arguments, words in (({"steps": 0}, "steps is 0"), ({"gamma": -0.1}, "gamma"), ({"gamma": 1.5}, "gamma")):
        with pytest.raises(ValueError, match=words):
            tiny_codec.decompress(data, x_side, **arguments)  # type: ignore[arg-type]


def test_rate_levels_cover_one_byte(tiny_codec: Codec) -> None:
    assert [tiny_codec.level(rate) for rate in (0.0, 0.5, 1.0)] == [0, 128, 255]
    x, _ = smooth_pair()
    assert tiny_codec.compress(x, 100 / 255)[3] == 100  # After format, height and width: the rate level.


def test_padding_repeats_the_border() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4).expand(1, 3, 3, 4)
    padded = pad(image, 8)
    assert padded.shape == (1, 3, 8, 8) and torch.equal(padded[:, :, :3, :4], image)
    assert (padded[:, :, 3:, :4] == image[:, :, -1:]).all() and (padded[..., 4:] == padded[..., 3:4]).all()
    assert pad(padded, 8).shape == padded.shape
