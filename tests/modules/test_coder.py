"""The arithmetic coder: every symbol comes back, at the cost that the tables say, and no bytes can crash it."""

import numpy as np
import pytest

from modules.coder import PRECISION, ProbabilityTables, SymbolDecoder, SymbolEncoder, quantise_pmf
from utils.errors import BitstreamError

TOTAL = 1 << PRECISION


def gaussians(scales: list[float], limit: int) -> np.ndarray:
    """Frequencies of discretised Gaussians on [-limit, limit]."""
    symbols = np.arange(-limit, limit + 1)
    return quantise_pmf(np.stack([np.exp(-0.5 * (symbols / s) ** 2) for s in scales]))


FREQUENCIES = gaussians([0.11, 1.0, 8.0, 64.0], 255)
TABLES = ProbabilityTables(FREQUENCIES)


def draw(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Symbols with the tables under which they are likely."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 4, count).astype(np.int32)
    symbols = np.rint(rng.normal(0, np.array([0.11, 1, 8, 64])[which])).clip(-255, 255).astype(np.int32)
    return symbols, which


def encode(symbols: np.ndarray, which: np.ndarray) -> bytes:
    encoder = SymbolEncoder()
    encoder.put(symbols, which, TABLES)
    return encoder.finish()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 1000])
def test_symbols_come_back(count: int) -> None:
    for seed in range(20 if count < 100 else 2):
        symbols, which = draw(count, seed)
        np.testing.assert_array_equal(SymbolDecoder(encode(symbols, which)).take(which, TABLES), symbols)


def test_two_kinds_of_symbols_share_one_stream() -> None:
    """z first, then y under tables that the decoder knows only after z."""
    z_tables = ProbabilityTables(gaussians([2.0, 5.0], 127))
    z, y = np.array([3, -100, 0, 127], dtype=np.int32), draw(200)
    z_which = np.array([1, 1, 0, 0], dtype=np.int32)
    encoder = SymbolEncoder()
    encoder.put(z, z_which, z_tables)
    encoder.put(*y, TABLES)
    decoder = SymbolDecoder(encoder.finish())
    np.testing.assert_array_equal(decoder.take(z_which, z_tables), z)
    np.testing.assert_array_equal(decoder.take(y[1], TABLES), y[0])


def test_the_least_likely_symbols_come_back() -> None:
    """-255 and 255 under a standard deviation of 0.11 have the smallest frequency there is."""
    symbols = np.array([255, -255, 255, 0, -255], dtype=np.int32)
    which = np.zeros(5, dtype=np.int32)
    np.testing.assert_array_equal(SymbolDecoder(encode(symbols, which)).take(which, TABLES), symbols)


@pytest.mark.parametrize("count", [50, 2000, 20000])
def test_the_payload_costs_what_the_tables_say(count: int) -> None:
    """At most one byte over the information content of the symbols; this catches a coder's flush and padding."""
    for seed in range(5):
        symbols, which = draw(count, seed)
        bits = -np.log2(FREQUENCIES[which, symbols + 255] / TOTAL).sum()
        assert -1 <= len(encode(symbols, which)) - bits / 8 <= (1 if bits / 8 < 4000 else 8)


def test_frequencies_are_positive_and_sum_to_the_total() -> None:
    pmf = np.random.default_rng(0).random((7, 33)) ** 8
    pmf[0, 1:] = 0
    frequencies = quantise_pmf(pmf / pmf.sum(1, keepdims=True))
    assert (frequencies >= 1).all() and (frequencies.sum(1) == TOTAL).all()
    assert frequencies[0, 0] == TOTAL - 32
    np.testing.assert_allclose(frequencies / TOTAL, pmf / pmf.sum(1, keepdims=True), atol=40 / TOTAL)


@pytest.mark.parametrize(
    "frequencies",
    [
        np.full((2, 4), TOTAL // 4, dtype=np.int32) + np.array([[1, 0, 0, 0], [0, 0, 0, 0]], dtype=np.int32),
        np.array([[0, TOTAL]], dtype=np.int32),
        np.array([TOTAL - 1, 1], dtype=np.int32),
    ],
)
def test_tables_that_are_none_are_refused(frequencies: np.ndarray) -> None:
    with pytest.raises(ValueError, match="positive and sum"):
        ProbabilityTables(frequencies)


def test_any_bytes_give_symbols_or_one_named_error() -> None:
    """Neither foreign nor truncated payloads may crash the process or raise anything else."""
    rng = np.random.default_rng(0)
    symbols, which = draw(300)
    good = encode(symbols, which)
    payloads = [rng.bytes(int(n)) for n in rng.integers(0, 200, 100)] + [good[:n] for n in range(len(good))]
    payloads += [b"", b"\xff" * 100, b"\0" * 100]
    for payload in payloads:
        try:
            taken = SymbolDecoder(payload).take(which, TABLES)
        except BitstreamError as error:
            assert "damaged" in str(error)
        else:
            assert taken.min() >= -255 and taken.max() <= 255


def test_bytes_that_are_never_read_are_refused() -> None:
    """Up to the last word that the symbols bring in, bytes count; behind it they are not part of any code."""
    for seed, count in enumerate([0, 1, 5, 60, 300, 9000]):
        symbols, which = draw(count, seed)
        payload = encode(symbols, which)
        lengths = []
        for extra in [0, *range(4, 13)]:
            decoder = SymbolDecoder(payload + bytes(extra))
            np.testing.assert_array_equal(decoder.take(which, TABLES), symbols)
            try:
                decoder.finish()
            except BitstreamError as error:
                assert "of which its symbols need at most" in str(error)
            else:
                lengths.append(len(payload) + extra)
        assert lengths[0] == len(payload) and lengths[-1] < len(payload) + 12


def test_a_forged_payload_of_any_length_has_an_end() -> None:
    rng = np.random.default_rng(3)
    which = draw(40)[1]
    for length in (400, 401, 4000):
        decoder = SymbolDecoder(rng.bytes(length))
        decoder.take(which, TABLES)
        with pytest.raises(BitstreamError, match=f"has {length} bytes"):
            decoder.finish()
