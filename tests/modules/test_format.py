"""docs/format.md says the truth, and format 1 stays what it is: an independent decoder and a golden file."""

import hashlib

import numpy as np
import pytest
import reference_decoder
import torch
from reference_decoder import Layer, Model
from tiny import smooth_pair, untrained_codec
from torch import nn

from modules.bitstream import Bitstream, pack, unpack
from modules.codec import Codec
from modules.entropy import Coded, Hyperprior
from modules.integer import IntegerSynthesis, LayerSpec
from modules.noise import payload_seed, sampler_noise
from utils.errors import BitstreamError

GOLDEN = (
    "d04146c9db640c688300002eef781ebdcb5b454743f674ea32f76adb23cb18a38e4e97f4f813801ebbadffe9975c2c4364ecc52338ad93"
    "6b1725512067cc00bf2bc0ddbedd0084277951fc76423079ff930dd8de67d0b1d8cfac2d7eebb997f0818cfc7801dde1ab0309a1ce6371"
    "2589d486f029d9e7ee653f830e1538f934c2d2e3e606fbff12669673b4821ffa1432929129f429e7139821375873e1b1ae3347691696a2"
    "008d4274fe9d5230386353e2f9a5afd7b753"
)
"""A file of format 1 for an image of 65 rows and 70 columns at rate level 201."""
GOLDEN_IDENTITY = "db64f17e7474dfc89de7cb9db9f659fd175feea271ea2c94abaf301d2c319e48"
GOLDEN_Y_HAT = "67ed48fd22bb7900d34c5eea6c51451908eaff9ea378b9f3dfd54718c92eece3"
"""SHA-256 of y_hat as little-endian float32."""


def integer_table(peaks: np.ndarray, entries: int) -> np.ndarray:
    """Frequencies (tables, entries) that fall off as 1 / (width + distance^2), made without a float."""
    distance = np.abs(np.arange(entries) - entries // 2).astype(np.int64)
    raw = 2**30 // (1 + peaks[:, None].astype(np.int64) + distance[None] ** 2)
    frequencies = 1 + raw * (2**22 - entries) // raw.sum(1, keepdims=True)
    frequencies[:, entries // 2] += 2**22 - frequencies.sum(1)
    return frequencies


def pattern(shape: tuple[int, ...], spread: int) -> torch.Tensor:
    """Fixed integers in [-spread, spread]."""
    return (torch.arange(int(np.prod(shape))) * 7919 % 1009 % (2 * spread + 1) - spread).view(shape).int()


def golden_model() -> Hyperprior:
    """An entropy model of 2 and 3 channels whose integers are formulas."""
    h_s = IntegerSynthesis(
        [
            LayerSpec(2, 4, upsample=2, activation="leaky_relu"),
            LayerSpec(4, 3, upsample=2, activation="leaky_relu"),
            LayerSpec(3, 6, kernel=1, activation="none"),
        ],
        levels=256,
    )
    model = Hyperprior(3, 2, nn.Identity(), h_s, levels=256)
    for layer in h_s.convolutions():
        layer.weight_int.copy_(pattern(tuple(layer.weight_int.shape), 9000))
        layer.bias_int.copy_(pattern(tuple(layer.bias_int.shape), 700))
    head = h_s.convolutions()[-1]
    head.weight_int.copy_(pattern((6, 3, 1, 1), 1500))
    head.bias_int[:, 3:] += 30 * 256
    model.z_frequencies.copy_(torch.from_numpy(integer_table(np.array([3, 40]), 255)))
    model.z_medians.copy_(torch.tensor([-77, 300]))
    model.y_frequencies.copy_(torch.from_numpy(integer_table(np.arange(64) ** 2, 511)))
    model.inverse_gain.copy_(400_000 + 3_001 * (255 - torch.arange(256))[:, None] + torch.arange(3) * 17)
    model.frozen.fill_(True)
    model.thaw()
    return model


def golden_symbols(model: Hyperprior, size: tuple[int, int], level: int) -> Coded:
    """Fixed symbols for an image of this size, some of them at the edges of the tables."""
    z = pattern((1, 2, -(-size[0] // 64), -(-size[1] // 64)), 9)
    z[0, 0, 0, 0] = -127
    mean, index = model._parameters_from(z, torch.tensor([level]))
    y = pattern(tuple(mean.shape), 4)
    y.view(-1)[:2] = torch.tensor([255, -255])
    return Coded(model._dequantise(y, mean, torch.tensor([level])), torch.zeros(1), z, y, index)


def as_reference(model: Hyperprior) -> Model:
    layers = [
        Layer(*(getattr(a.spec, name) for name in ("inputs", "outputs", "kernel", "upsample", "activation")), *parts)
        for a in model.h_s.convolutions()
        for parts in [(a.weight_int.numpy(), a.bias_int.numpy())]
    ]
    tables = (model.z_frequencies, model.z_medians, model.y_frequencies, model.inverse_gain)
    return Model(*(table.numpy() for table in tables), layers)


def test_format_1_does_not_drift() -> None:
    """The golden file: never edit it. A change of the format needs a new number and another golden file."""
    model = golden_model()
    assert model.identity().hex() == GOLDEN_IDENTITY
    data = bytes.fromhex(GOLDEN)
    stream = unpack(data, model.identity())
    assert (stream.height, stream.width, stream.level) == (65, 70, 201)
    y_hat = model.decode(stream.payload, (2, 2), stream.level)
    assert hashlib.sha256(y_hat.numpy().astype("<f4").tobytes()).hexdigest() == GOLDEN_Y_HAT
    assert np.array_equal(reference_decoder.decode(data, as_reference(model)), y_hat[0].numpy())


def test_the_encoder_still_writes_the_golden_file() -> None:
    model = golden_model()
    coded = golden_symbols(model, (65, 70), 201)
    assert pack(Bitstream(65, 70, 201, model.encode(coded)), model.identity()).hex() == GOLDEN


@pytest.mark.parametrize("size", [(64, 64), (130, 65), (128, 256)])
def test_another_decoder_reads_the_same_latent(tiny_codec: Codec, size: tuple[int, int]) -> None:
    x, _ = smooth_pair(*size, seed=4)
    model = as_reference(tiny_codec.entropy)
    assert model.identity() == tiny_codec.entropy.identity()
    for rate in (0.0, 0.43, 1.0):
        data = tiny_codec.compress(x, rate)
        (height, width), level, tag, check, start = reference_decoder.header(data)
        assert (height, width) == size and level == round(255 * rate) and tag == model.identity()[:2]
        assert check == hashlib.sha256(model.identity() + data[: start - 3] + data[start:]).digest()[:3]
        own = tiny_codec.decode_latent(tiny_codec.unpack(data))
        assert np.array_equal(reference_decoder.decode(data, model), own[0].numpy())


def test_both_decoders_agree_on_a_model_of_one_rate() -> None:
    codec = untrained_codec(model={"variable_rate": False})
    data = codec.compress(smooth_pair(70, 64)[0])
    assert as_reference(codec.entropy).identity() == codec.entropy.identity()
    own = codec.decode_latent(codec.unpack(data))
    assert np.array_equal(reference_decoder.decode(data, as_reference(codec.entropy)), own[0].numpy())


def test_both_decoders_refuse_the_same_payloads(tiny_codec: Codec) -> None:
    """Random, cut and lengthened payloads: equal latents, or a refusal from both."""
    rng, model = np.random.default_rng(0), as_reference(tiny_codec.entropy)
    good = tiny_codec.unpack(tiny_codec.compress(smooth_pair()[0], 0.3)).payload
    payloads = [rng.bytes(n) for n in (0, 3, 20, 41, 60, 90, 120, 150)]
    payloads += [good[:9], good + b"\0", good + bytes(4), good + bytes(8), good + bytes(12), good + b"\xff" * 5]
    outcomes = []
    for payload in payloads:
        data = pack(Bitstream(64, 64, 76, payload), model.identity())
        try:
            expected = reference_decoder.decode(data, model)
        except ValueError:
            with pytest.raises(BitstreamError):
                tiny_codec.decode_latent(tiny_codec.unpack(data))
            outcomes.append("refused")
        else:
            assert np.array_equal(tiny_codec.decode_latent(tiny_codec.unpack(data))[0].numpy(), expected)
            outcomes.append("read")
    assert outcomes.count("refused") >= 2 and outcomes.count("read") >= 4


@pytest.mark.parametrize("size", [(64, 64), (3, 5)])
def test_the_noise_is_the_documents(size: tuple[int, int]) -> None:
    payload = bytes(range(50))
    own = sampler_noise(payload_seed(payload), (3, *size)).numpy()
    np.testing.assert_allclose(reference_decoder.noise(payload, *size), own, rtol=0, atol=1e-6)
