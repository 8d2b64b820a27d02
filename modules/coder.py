"""Arithmetic coding of integer symbols with fixed probability tables, as one stream of bytes.

The range coder is `constriction`'s (Bamler, 2022): NumPy arrays in and out, 32-bit words, 24-bit probabilities. This
module is the only one that knows it.
"""

from __future__ import annotations

from collections.abc import Iterator

import constriction
import numpy as np
from numpy.typing import NDArray

from utils.errors import BitstreamError

Symbols = NDArray[np.int32]
PRECISION = 22
"""Every table's frequencies are positive integers that sum to 2^22."""
WORD_BYTES = 4
MAX_SYMBOL_BYTES = 3
"""No symbol costs more: the rarest has a probability of 2^-22, and dividing the range loses less than 0.01 bit."""
END_BYTES = 2 * WORD_BYTES
"""What the decoder holds besides what the symbols' renormalisations brought in."""


def quantise_pmf(pmf: NDArray[np.float64]) -> NDArray[np.int32]:
    """Probabilities (tables, K), rows summing to about 1 -> positive int32 frequencies whose rows sum to 2^22."""
    # f = floor(p (2^22 - K)) + 1 is at least 1; the most probable symbol takes what rounding has left of 2^22.
    total = 1 << PRECISION
    size = pmf.shape[1]
    pmf = np.maximum(pmf, 0)
    pmf = pmf / pmf.sum(axis=1, keepdims=True)
    frequencies = np.floor(pmf * (total - size)).astype(np.int64) + 1
    rows = np.arange(len(frequencies))
    frequencies[rows, frequencies.argmax(axis=1)] += total - frequencies.sum(axis=1)
    return frequencies.astype(np.int32)


class ProbabilityTables:
    """Tables of integer frequencies (tables, K); symbol s of any table is coded as index s + K // 2."""

    def __init__(self, frequencies: NDArray[np.int32]) -> None:
        if frequencies.ndim != 2 or (frequencies < 1).any() or (frequencies.sum(axis=1) != 1 << PRECISION).any():
            raise ValueError(f"Every row of frequencies must be positive and sum to 2^{PRECISION}.")
        self.half = frequencies.shape[1] // 2
        self.limit = frequencies.shape[1] - 1 - self.half
        """Symbols must lie in [-half, limit]; with an odd K the range is symmetric."""
        # float32 and float64 hold integers below 2^24 exactly, so the coder's model is a function of integers alone.
        self._frequencies = frequencies
        self._models = [
            constriction.stream.model.Categorical(row.astype(np.float32) / np.float32(1 << PRECISION), perfect=False)
            for row in frequencies
        ]

    def __deepcopy__(self, memo: dict[int, object]) -> ProbabilityTables:
        """Itself: it never changes, and the coder's models cannot be copied."""
        return self

    def __reduce__(self) -> tuple[type[ProbabilityTables], tuple[NDArray[np.int32]]]:
        """Pickled as the integers that the coder's models follow from, which cannot be pickled."""
        return ProbabilityTables, (self._frequencies,)

    def __len__(self) -> int:
        """The number of tables."""
        return len(self._models)

    def model(self, table: int) -> constriction.stream.model.Categorical:
        """The coder's model of one table."""
        return self._models[table]


def _runs(tables: Symbols, probability: ProbabilityTables) -> tuple[NDArray[np.intp], Iterator[tuple[int, slice]]]:
    """Group symbols by table: a stable order, and (table, slice of that order) for every table in use."""
    # NumPy sorts integers of 8 and 16 bits by radix, some ten times as fast as wider ones.
    order = np.argsort(tables.astype(np.min_scalar_type(len(probability))), kind="stable")
    counts = np.bincount(tables)
    used = np.flatnonzero(counts)
    ends = np.cumsum(counts[used]).tolist()
    return order, ((table, slice(a, b)) for table, a, b in zip(used.tolist(), [0, *ends], ends, strict=False))


class SymbolEncoder:
    """Collects symbols in order; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def put(self, symbols: Symbols, tables: Symbols, probability: ProbabilityTables) -> None:
        """Append flat int32 symbols, symbol i under table tables[i]; each must lie in the tables' range."""
        order, runs = _runs(tables, probability)
        indices = (symbols + probability.half)[order].astype(np.int32)
        for table, run in runs:
            self._encoder.encode(indices[run], probability.model(table))

    def words(self) -> int:
        """The renormalisations so far, each of which writes a word at the encoder and reads one at the decoder."""
        return int(self._encoder.pos()[0])

    def finish(self) -> bytes:
        """The shortest payload that decodes to the symbols; the decoder reads zeros past its end.

        The coder ends on a whole 32-bit word somewhere in its final interval. Any number in that interval decodes to
        the same symbols, so the shortest one that lies there is taken.
        """
        # All words up to one inside the final interval [low, low + span), as numbers of `size` bytes.
        payload: bytes = self._encoder.get_compressed().astype(">u4").tobytes()
        words, (lower, span) = self._encoder.pos()
        size = WORD_BYTES * words + END_BYTES
        point = int.from_bytes(payload.ljust(size, b"\0"), "big")
        low = point - (point - lower) % 2 ** (8 * END_BYTES)  # `lower` has its low bytes alone: earlier words are out.
        # The shortest prefix that reaches the interval, as it is or with its last byte one higher.
        for length in range(max(0, len(payload) - END_BYTES + 1), len(payload)):
            head = payload[:length]
            above = (int.from_bytes(head, "big") + 1) % 256 ** max(length, 1)
            for candidate in (head, above.to_bytes(length, "big") if length else b""):
                if low <= int.from_bytes(candidate.ljust(size, b"\0"), "big") < low + span:
                    return candidate
        return payload


class SymbolDecoder:
    """Takes symbols back from the bytes in the order in which they were put; then `finish` looks for bytes left over.

    Any bytes give symbols or a BitstreamError: past their end the coder reads zeros.
    """

    def __init__(self, payload: bytes) -> None:
        self._length = len(payload)
        self._record: list[tuple[Symbols, Symbols, ProbabilityTables]] = []
        padded = payload + bytes(-len(payload) % WORD_BYTES)
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))

    def take(self, tables: Symbols, probability: ProbabilityTables) -> Symbols:
        """Flat int32 symbols, one for each entry of `tables`. Raises BitstreamError for bytes that are no code."""
        order, runs = _runs(tables, probability)
        indices = np.empty(len(tables), dtype=np.int32)
        try:
            for table, run in runs:
                indices[order[run]] = self._decoder.decode(probability.model(table), run.stop - run.start)
        except (AssertionError, ValueError) as error:
            raise BitstreamError(
                f"The payload is not a valid arithmetic code ({error}); the file is damaged."
            ) from error
        symbols = indices - probability.half
        self._record.append((symbols, tables, probability))
        return symbols

    def finish(self) -> None:
        """Raise BitstreamError if the payload has bytes that were never read.

        The coder tells only whether all bytes may have been read. Where that is open, its renormalisations are counted
        by encoding the symbols again.
        """
        if self._decoder.maybe_exhausted():
            return
        encoder = SymbolEncoder()
        for symbols, tables, probability in self._record:
            encoder.put(symbols, tables, probability)
        read = WORD_BYTES * encoder.words() + END_BYTES
        if self._length > read:
            raise BitstreamError(
                f"The payload has {self._length} bytes, of which its symbols need at most {read}; the file is damaged: "
                "copy or encode it again."
            )
