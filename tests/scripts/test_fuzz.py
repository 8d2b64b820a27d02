"""The fuzzer: repeatable mutants of every kind, nothing else passes, and a short run of the script."""

from collections import Counter
from unittest.mock import patch

import pytest
import torch
from tiny import smooth_pair

from modules.bitstream import unpack
from modules.codec import Codec
from scripts.stress.fuzz import Mutator, forge, header_end, verdict_on
from utils.errors import BitstreamError

COUNT = 150


@pytest.fixture(scope="module")
def mutator(tiny_codec: Codec) -> Mutator:
    files = [tiny_codec.compress(smooth_pair(*size)[0], rate) for size in ((64, 64), (65, 70)) for rate in (0.0, 1.0)]
    return Mutator(files, tiny_codec.entropy.identity(), seed=3)


def test_every_mutant_gives_a_latent_or_one_error(tiny_codec: Codec, mutator: Mutator) -> None:
    kinds = Counter()
    for number in range(COUNT):
        data, forged = mutator[number]
        verdict = verdict_on(tiny_codec, data, synthesise=number % 50 == 0)
        assert verdict in ("image", "refused"), number
        assert forged or verdict == "refused" or data in mutator.files
        kinds[forged, verdict] += 1
    assert kinds[True, "image"] > 10 and kinds[True, "refused"] > 10 and kinds[False, "refused"] > 50


def test_a_forged_file_has_a_right_checksum(tiny_codec: Codec, mutator: Mutator) -> None:
    identity = tiny_codec.entropy.identity()
    for data in mutator.files:
        assert forge(data, identity) == data
        altered = data[:-1] + bytes([data[-1] ^ 1])
        with pytest.raises(BitstreamError, match="checksum"):
            unpack(altered, identity)
        assert unpack(forge(altered, identity), identity).payload == altered[-len(unpack(data, identity).payload) :]
    assert header_end(b"") is None and header_end(b"\xd0\xff") is None and header_end(b"\xd1\x05") == 1


def test_anything_but_an_image_or_that_error_fails(tiny_codec: Codec, mutator: Mutator) -> None:
    """Another exception, a panic that is no Exception, a latent of another shape, and an image out of range."""
    good = mutator.files[0]
    assert verdict_on(tiny_codec, good, synthesise=True) == "image"

    class Panic(BaseException):
        """As pyo3's PanicException."""

    for error in (ValueError("a"), MemoryError(), Panic("rust")):
        with patch.object(Codec, "decode_latent", side_effect=error):
            verdict = verdict_on(tiny_codec, good, synthesise=False)
        assert verdict.startswith(type(error).__name__)
    for latent in (torch.zeros(1, 16, 4, 8), torch.full((1, 16, 4, 4), float("nan"))):
        with patch.object(Codec, "decode_latent", return_value=latent):
            assert "y_hat is" in verdict_on(tiny_codec, good, synthesise=False)
    with patch.object(Codec, "decompress", return_value=torch.full((3, 64, 64), 1.5)):
        assert "the image is" in verdict_on(tiny_codec, good, synthesise=True)
