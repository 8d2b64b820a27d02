"""Files made to do harm: whatever the bytes, and with a right checksum too, an image comes out or one named error."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import smooth_pair

from modules.bitstream import Bitstream, pack
from modules.codec import MAX_PIXELS, Codec
from utils.errors import BitstreamError


def forge(codec: Codec, payload: bytes, size: tuple[int, int] = (64, 80), level: int = 100) -> bytes:
    """A file that only its payload can give away."""
    return pack(Bitstream(*size, level, payload), codec.entropy.identity())


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(payload=st.binary(max_size=120), level=st.integers(0, 255), height=st.integers(16, 130))
def test_any_payload_gives_a_latent_or_one_error(tiny_codec: Codec, payload: bytes, level: int, height: int) -> None:
    try:
        stream = tiny_codec.unpack(forge(tiny_codec, payload, (height, 70), level))
        y_hat = tiny_codec.decode_latent(stream)
    except BitstreamError as error:
        assert "\n" not in str(error)
    else:
        assert y_hat.shape == (1, 16, 4 * -(-height // 64), 8) and bool(torch.isfinite(y_hat).all())


def test_a_payload_cut_short_with_a_right_checksum_still_decodes(tiny_codec: Codec) -> None:
    """The decoder reads zeros past the end, so a shorter payload is another latent, of the same size."""
    x, _ = smooth_pair(64, 80)
    whole = tiny_codec.unpack(tiny_codec.compress(x, 1.0))
    for length in (len(whole.payload) // 2, 3, 0):
        stream = tiny_codec.unpack(forge(tiny_codec, whole.payload[:length]))
        try:
            assert tiny_codec.decode_latent(stream).shape == (1, 16, 4, 8)
        except BitstreamError as error:
            assert "not a valid arithmetic code" in str(error)


def test_bytes_behind_the_code_are_refused(tiny_codec: Codec) -> None:
    payload = tiny_codec.unpack(tiny_codec.compress(smooth_pair(64, 80)[0], 0.5)).payload
    for extra in (9, 100):
        for filler in (b"\0", b"\xaa", b"\xff"):
            with pytest.raises(BitstreamError, match="of which its symbols need at most"):
                tiny_codec.decode_latent(tiny_codec.unpack(forge(tiny_codec, payload + extra * filler, level=128)))


def test_a_payload_longer_than_any_latent_is_refused_before_it_is_decoded(tiny_codec: Codec) -> None:
    """One hyper-latent position of 8 channels and 16 latent positions of 16, three bytes each, and the coder's 8."""
    most = 3 * (8 + 16 * 16) + 8
    with pytest.raises(BitstreamError, match=f"has {most + 1} bytes, but .* at most {most};"):
        tiny_codec.decode_latent(tiny_codec.unpack(forge(tiny_codec, bytes(most + 1), (64, 64))))


def test_the_rarest_symbols_stay_under_that_bound(tiny_codec: Codec) -> None:
    """No latent's payload reaches it: every symbol at the cost of the rarest one."""
    coded = tiny_codec.code(torch.zeros(3, 64, 64), 1.0)
    assert coded.y_symbols is not None and coded.indices is not None and coded.z_symbols is not None
    coded.z_symbols.fill_(127)
    coded.y_symbols.fill_(255)
    coded.indices.fill_(0)
    assert 0.8 * 3 * (8 + 256) < len(tiny_codec.entropy.encode(coded)) < 3 * (8 + 256)


def test_a_large_image_is_refused_before_memory_is_taken(tiny_codec: Codec) -> None:
    claim = forge(tiny_codec, b"", (4096, 4096))
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError, match=r"4096x4096, 16777216 pixels.*\(--max-pixels\)"):
            tiny_codec.decompress(claim, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    assert 3840 * 2160 <= MAX_PIXELS < 4096 * 4096


def test_max_pixels_is_the_largest_that_is_decoded(tiny_codec: Codec) -> None:
    data = tiny_codec.compress(smooth_pair(64, 80)[0], 0.0)
    assert tiny_codec.decompress(data, None, max_pixels=64 * 80).shape == (3, 64, 80)
    with pytest.raises(BitstreamError, match="80x64, 5120 pixels, and at most 5119"):
        tiny_codec.decompress(data, None, max_pixels=64 * 80 - 1)


def test_a_latent_beyond_the_networks_range_is_an_error_not_an_image(own_codec: Codec) -> None:
    with torch.no_grad():
        for parameter in own_codec.g_s.parameters():  # type: ignore[union-attr]
            parameter.mul_(1e30)
    data = own_codec.compress(smooth_pair(64, 80)[0], 0.5)
    with pytest.raises(BitstreamError, match="not finite"):
        own_codec.decompress(data, None)


def test_all_symbols_at_the_edges_of_the_tables_come_back(tiny_codec: Codec) -> None:
    for y, z in ((-255, -127), (255, 127)):
        coded = tiny_codec.code(smooth_pair(64, 64)[0], 0.5)
        assert coded.y_symbols is not None and coded.z_symbols is not None
        coded.z_symbols.fill_(z)
        level = torch.tensor([128])
        mean, coded.indices = tiny_codec.entropy._parameters_from(coded.z_symbols, level)
        coded.y_symbols.fill_(y)
        expected = tiny_codec.entropy._dequantise(coded.y_symbols, mean, level)
        decoded = tiny_codec.entropy.decode(tiny_codec.entropy.encode(coded), (1, 1), 128)
        assert np.array_equal(decoded.numpy(), expected.numpy())
