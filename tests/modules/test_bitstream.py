"""The file format: fixed bytes, at most 8 of overhead, and one named error for everything that is not a file."""

import hashlib

import pytest

from modules.bitstream import CHECK_BYTES, MAX_EDGE, MIN_EDGE, SIZES, Bitstream, pack, unpack
from utils.errors import BitstreamError

IDENTITY = bytes(range(32))
OTHER = bytes(range(1, 33))
PAYLOAD = bytes(range(200, 240))


def test_the_format_does_not_drift() -> None:
    """Files are kept; these bytes are format 1 for ever."""
    common = pack(Bitstream(128, 256, 77, PAYLOAD), IDENTITY)
    assert common.hex() == "d14d0001" + "faee9d" + PAYLOAD.hex()
    odd = pack(Bitstream(65, 257, 255, b""), IDENTITY)
    assert odd.hex() == "d0418102ff0001" + "33cdd5"


@pytest.mark.parametrize("size", [*SIZES, (16, 16), (65, 257), (127, 128), (4096, 4096), (16, 4096)])
@pytest.mark.parametrize("level", [0, 255])
def test_what_is_packed_comes_back(size: tuple[int, int], level: int) -> None:
    stream = Bitstream(*size, level, PAYLOAD)
    data = pack(stream, IDENTITY)
    assert unpack(data, IDENTITY) == stream
    overhead = len(data) - len(PAYLOAD)
    assert overhead == 7 if size in SIZES else overhead <= 11


def test_the_protocols_sizes_have_a_code_of_their_own() -> None:
    for size in ((128, 256), (375, 1242), (1024, 2048)):
        assert size in SIZES
    assert len(SIZES) == len(set(SIZES)) == 15


@pytest.mark.parametrize("size", [(128, 256), (65, 257)])
def test_every_flipped_bit_is_noticed(size: tuple[int, int]) -> None:
    data = pack(Bitstream(*size, 100, PAYLOAD), IDENTITY)
    for position in range(len(data)):
        for bit in range(8):
            altered = bytearray(data)
            altered[position] ^= 1 << bit
            with pytest.raises(BitstreamError):
                unpack(bytes(altered), IDENTITY)


@pytest.mark.parametrize("size", [(128, 256), (65, 257)])
def test_every_truncation_and_any_extra_byte_is_noticed(size: tuple[int, int]) -> None:
    data = pack(Bitstream(*size, 100, PAYLOAD), IDENTITY)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            unpack(data[:length], IDENTITY)
    for extra in (b"\0", b"\xff", b"\n"):
        with pytest.raises(BitstreamError, match="checksum"):
            unpack(data + extra, IDENTITY)


def test_a_file_of_another_model_is_named_as_such() -> None:
    data = pack(Bitstream(128, 256, 100, PAYLOAD), OTHER)
    with pytest.raises(BitstreamError, match="model with tag 0102, but this checkpoint has tag 0001"):
        unpack(data, IDENTITY)
    same_tag = IDENTITY[:2] + OTHER[2:]
    with pytest.raises(BitstreamError, match="checksum"):
        unpack(pack(Bitstream(128, 256, 100, PAYLOAD), same_tag), IDENTITY)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "0x89"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "0xff"),
        (b"\xd0\x80\x80\x80\x80" + bytes(50), "impossible image size"),
        (b"\xd0\x01\x01" + bytes(50), "image of 1x1"),
        (b"\xd0\xff\xff\x7f\x10" + bytes(50), "image of"),
        (b"\xd1", "cut short"),
        (b"\xd0\xc1\x00\x81\x02" + bytes(50), "more bytes than it needs"),
        (b"\xd0\x41\x81\x82\x00" + bytes(50), "more bytes than it needs"),
        (b"\xd0\x80\x00\x41" + bytes(50), "more bytes than it needs"),
        (b"\xd0\x80\x01\x80\x02" + bytes(50), "256x128, which has a code"),
    ],
)
def test_foreign_bytes_are_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(BitstreamError, match=words) as caught:
        unpack(data, IDENTITY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [SIZES[0], (65, 257)])
def test_one_size_has_one_header(size: tuple[int, int]) -> None:
    """Whatever else the first bytes are, with a good checksum too, they do not stand for this size."""
    good = pack(Bitstream(*size, 9, PAYLOAD), IDENTITY)
    end = len(good) - len(PAYLOAD) - CHECK_BYTES
    varints = [[bytes([side & 127 | 128, side >> 7]), bytes([side & 127 | 128, side >> 7 | 128, 0])] for side in size]
    varints[0].append(bytes([size[0]]) if size[0] < 128 else b"\xff")
    for height in varints[0]:
        for width in varints[1]:
            head = b"\xd0" + height + width + good[end - 3 : end]
            check = hashlib.sha256(IDENTITY + head + PAYLOAD).digest()[:CHECK_BYTES]
            if head != good[:end]:
                with pytest.raises(BitstreamError):
                    unpack(head + check + PAYLOAD, IDENTITY)


def test_sizes_out_of_range_are_noticed_even_with_a_good_checksum() -> None:
    for size in ((MIN_EDGE - 1, 64), (64, MAX_EDGE + 1)):
        with pytest.raises(BitstreamError, match="height and width must lie"):
            unpack(pack(Bitstream(*size, 0, PAYLOAD), IDENTITY), IDENTITY)
