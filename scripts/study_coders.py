"""Which coder? The payload of real latents by this project's range coder and by CompressAI's rANS, over the estimate.

Both code the same symbols with the same probabilities: ours at 22 bits with whole tables, CompressAI's at its 16 bits
with the tails beyond probability 2^-16 left to its escape code. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run

RANS_PRECISION = 16


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ckpt", required=True, metavar="PATH")
    parser.add_argument(
        "--dataset", default="folder", choices=["kitti", "cityscapes", "folder", "synthetic", "builtin"]
    )
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--limit", type=int, default=None)
    args = parser.parse_args()

    import numpy as np

    from data.sources import open_source
    from modules.coder import SymbolDecoder
    from utils.checkpoint import load_checkpoint
    from utils.images import to_float

    codec = load_checkpoint(args.ckpt).codec
    entropy = codec.entropy
    source = open_source(args.dataset, split=args.split, root=args.data_root, limit=args.limit)
    rans = Rans(entropy.z_frequencies.numpy(), entropy.y_frequencies.numpy())
    print(f"`python {shlex.join(sys.argv)}`, {len(source)} pairs, bytes and milliseconds an image\n")
    print("| rate | estimate | range coder | over | encode, decode | rANS | over | encode, decode |")
    print("|---|---|---|---|---|---|---|---|")
    for rate in args.rates:
        rows = []
        for index in range(len(source)):
            coded = codec.code(to_float(source[index].x), rate)
            assert coded.z_symbols is not None and coded.y_symbols is not None and coded.indices is not None
            z, y, tables = (t.reshape(-1).int().numpy() for t in (coded.z_symbols, coded.y_symbols, coded.indices))
            z_tables = np.repeat(np.arange(entropy.hyper, dtype=np.int32), coded.z_symbols[0, 0].numel())
            begin = time.perf_counter()
            payload = entropy.encode(coded)
            encoded = time.perf_counter()
            decoder = SymbolDecoder(payload)
            decoder.take(z_tables, entropy.tables()[0])
            assert np.array_equal(decoder.take(tables, entropy.tables()[1]), y)
            decoded = time.perf_counter()
            string = rans.encode(z, z_tables, y, tables)
            rans_encoded = time.perf_counter()
            assert np.array_equal(rans.decode(string, z_tables, tables), np.concatenate([z, y]))
            end = time.perf_counter()
            times = np.diff([begin, encoded, decoded, rans_encoded, end]) * 1000
            rows.append([float(coded.bits) / 8, len(payload), len(string), *times])
        estimate, own, other, *ms = np.mean(rows, axis=0)
        print(
            f"| {rate:g} | {estimate:.1f} | {own:.1f} | {own - estimate:+.1f} | {ms[0]:.1f}, {ms[1]:.1f} "
            f"| {other:.1f} | {other - estimate:+.1f} | {ms[2]:.1f}, {ms[3]:.1f} |"
        )


class Rans:
    """CompressAI's BufferedRansEncoder and RansDecoder on our tables (tables of z, then of y)."""

    def __init__(self, *frequencies: Any) -> None:
        from compressai._CXX import pmf_to_quantized_cdf

        self.first_y = len(frequencies[0])
        self.cdfs, self.lengths, self.offsets = [], [], []
        for table in (row for rows in frequencies for row in rows):
            pmf, middle = table / table.sum(), len(table) // 2
            likely = [abs(int(i) - middle) for i in (pmf > 2.0**-RANS_PRECISION).nonzero()[0]]
            half = max([1, *likely])
            kept = pmf[middle - half : middle + half + 1]
            cdf = pmf_to_quantized_cdf([*kept.tolist(), max(1 - kept.sum(), 2.0**-RANS_PRECISION)], RANS_PRECISION)
            self.cdfs.append(cdf)
            self.lengths.append(len(cdf))
            self.offsets.append(-half)

    def encode(self, z: Any, z_tables: Any, y: Any, y_tables: Any) -> bytes:
        """One stream of the symbols of z, then of y."""
        from compressai.ans import BufferedRansEncoder

        encoder = BufferedRansEncoder()
        for symbols, tables in ((z, z_tables), (y, y_tables + self.first_y)):
            encoder.encode_with_indexes(symbols.tolist(), tables.tolist(), self.cdfs, self.lengths, self.offsets)
        string: bytes = encoder.flush()
        return string

    def decode(self, string: bytes, z_tables: Any, y_tables: Any) -> list[int]:
        """The symbols of z, then of y."""
        from compressai.ans import RansDecoder

        decoder = RansDecoder()
        decoder.set_stream(string)
        symbols: list[int] = []
        for tables in (z_tables, y_tables + self.first_y):
            symbols += decoder.decode_stream(tables.tolist(), self.cdfs, self.lengths, self.offsets)
        return symbols


if __name__ == "__main__":
    run(main)
