"""Decode mutants of files: each must give an image of its header's size, or one BitstreamError.

    python scripts/stress/fuzz.py --count 100000 --seed 0

Without --ckpt, a small untrained codec is used. Half of the mutants get a right checksum, as from an attacker. All are
decoded up to y_hat and one in a hundred to its image, in processes with limits of memory and time. Another exception,
a signal, a hang, and damage that no checksum noticed are failures. The last line is the result as JSON; the exit status
is 1 if anything failed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.cli import Parser, run
from utils.errors import BitstreamError, ConfigError

MAX_PIXELS = 2**20
"""What the decoder is told to refuse beyond; the mutants' headers claim up to 16 times as much."""
SIZES = ((64, 64), (16, 16), (65, 70), (96, 80), (128, 256))
FORGED_SHARE = 0.5
"""Of the mutants that get this model's tag and a right checksum."""
BATCH = 5000
"""Mutants a process."""
MEMORY_MIB = 1024
"""Memory that a process may take beyond the loaded codec."""
TIMEOUT, START_TIMEOUT = 60, 600
"""Seconds for one mutant, and for loading the codec on a busy machine."""


class Mutator:
    """Mutants of valid files: number i follows from the seed and i alone."""

    def __init__(self, files: Sequence[bytes], identity: bytes, seed: int) -> None:
        self.files, self.identity, self.seed = list(files), identity, seed
        self.changes: list[Callable[[bytes, np.random.Generator], bytes]] = [
            self._flip, self._cut, self._insert, self._remove, self._splice, self._resize, self._payload, self._random
        ]  # fmt: skip

    def __getitem__(self, number: int) -> tuple[bytes, bool]:
        """One to three changes to one of the files, and whether the checksum was made right again."""
        rng = np.random.default_rng([self.seed, number])
        data = self._file(rng)
        for _ in range(rng.integers(1, 4)):
            data = self.changes[rng.integers(len(self.changes))](data, rng)
        forged = bool(rng.random() < FORGED_SHARE)
        return (forge(data, self.identity) if forged else data), forged

    def _file(self, rng: np.random.Generator) -> bytes:
        return self.files[rng.integers(len(self.files))]

    @staticmethod
    def _at(data: bytes, rng: np.random.Generator) -> int:
        """A position, half of the time in the first 16 bytes, where a header is."""
        end = len(data) + 1
        return int(rng.integers(min(end, 16) if rng.random() < 0.5 else end))

    def _flip(self, data: bytes, rng: np.random.Generator) -> bytes:
        altered = bytearray(data)
        for _ in range(rng.integers(1, 9) if data else 0):
            altered[min(self._at(data, rng), len(data) - 1)] ^= 1 << int(rng.integers(8))
        return bytes(altered)

    def _cut(self, data: bytes, rng: np.random.Generator) -> bytes:
        return data[: self._at(data, rng)]

    def _insert(self, data: bytes, rng: np.random.Generator) -> bytes:
        at = self._at(data, rng)
        return data[:at] + rng.bytes(int(rng.integers(1, 20))) + data[at:]

    def _remove(self, data: bytes, rng: np.random.Generator) -> bytes:
        at = self._at(data, rng)
        return data[:at] + data[at + int(rng.integers(1, 20)) :]

    def _splice(self, data: bytes, rng: np.random.Generator) -> bytes:
        other = self._file(rng)
        return data[: self._at(data, rng)] + other[self._at(other, rng) :]

    @staticmethod
    def _resize(data: bytes, rng: np.random.Generator) -> bytes:
        from modules.bitstream import SIZES as CODED_SIZES

        rest = data[header_end(data) or 1 :]
        if rng.random() < 0.2:
            return bytes([0xD0 | int(rng.integers(1, len(CODED_SIZES) + 1))]) + rest
        most = 4096 if rng.random() < 0.1 else 256
        edges = (int(rng.choice([rng.integers(0, most + 2), 16, most])) for _ in range(2))
        return b"\xd0" + b"".join(_varint(edge, padded=bool(rng.random() < 0.1)) for edge in edges) + rest

    @staticmethod
    def _payload(data: bytes, rng: np.random.Generator) -> bytes:
        from modules.bitstream import CHECK_BYTES, TAG_BYTES

        end = (header_end(data) or 1) + 1 + TAG_BYTES + CHECK_BYTES
        length = int(rng.choice([rng.integers(12), rng.integers(300), rng.integers(20_000)], p=[0.45, 0.5, 0.05]))
        return data[:end] + (rng.bytes(length) if rng.random() < 0.7 else bytes([rng.integers(256)]) * length)

    @staticmethod
    def _random(data: bytes, rng: np.random.Generator) -> bytes:
        return bytes([0xD0 | rng.integers(16)]) + rng.bytes(int(rng.integers(200)))


def header_end(data: bytes) -> int | None:
    """Where the rate level lies in bytes that begin like a file, however long their varints; None if nowhere."""
    if not data or data[0] >> 4 != 0xD:
        return None
    position = 1
    for _ in range(0 if data[0] & 15 else 2):
        while position < len(data) and data[position] >= 128:
            position += 1
        position += 1
    return position if position < len(data) else None


def forge(data: bytes, identity: bytes) -> bytes:
    """The same with the model's tag and a right checksum, if it has a header to put them in."""
    from modules.bitstream import CHECK_BYTES, TAG_BYTES

    level = header_end(data)
    if level is None:
        return data
    head = data[: level + 1] + identity[:TAG_BYTES]
    payload = data[len(head) + CHECK_BYTES :]
    return head + hashlib.sha256(identity + head + payload).digest()[:CHECK_BYTES] + payload


def _varint(value: int, padded: bool) -> bytes:
    """Little-endian base 128; `padded`: with a superfluous last byte, which no encoder writes."""
    out: list[int] = []
    while value >= 128 or (padded and not out):
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def verdict_on(codec: Any, data: bytes, synthesise: bool) -> str:
    """`image`, `refused`, or what went wrong: decodes up to y_hat, and with `synthesise` to the image."""
    import torch

    try:
        stream = codec.unpack(data, MAX_PIXELS)
        y_hat = codec.decode_latent(stream)
        rows, columns = (4 * -(-edge // 64) for edge in (stream.height, stream.width))
        if y_hat.shape[2:] != (rows, columns) or not bool(torch.isfinite(y_hat).all()):
            return f"y_hat is {tuple(y_hat.shape)} for {stream.width}x{stream.height}, or not finite"
        if synthesise:
            blind = codec.accepts_no_side or not codec.needs_side
            x_side = None if blind else torch.zeros(3, stream.height, stream.width)
            x_hat = codec.decompress(data, x_side, gamma=1.0, max_pixels=MAX_PIXELS)
            if x_hat.shape != (3, stream.height, stream.width) or not 0 <= x_hat.min() <= x_hat.max() <= 1:
                return f"the image is {tuple(x_hat.shape)} for {stream.width}x{stream.height}, or out of range"
    except BitstreamError:
        return "refused"
    except BaseException as error:  # A panic of the coder's Rust code derives from BaseException alone.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "image"


def small_codec(folder: Path) -> Path:
    """A checkpoint of an untrained codec whose latents have many different symbols."""
    import torch

    from config import PRESETS
    from modules.codec import build_codec
    from modules.entropy import Hyperprior
    from utils.checkpoint import MODEL_FILE, save_checkpoint

    torch.manual_seed(0)
    codec = build_codec(PRESETS["demo"])
    assert isinstance(codec.entropy, Hyperprior)
    with torch.no_grad():
        for parameter in codec.entropy.h_a.parameters():
            parameter.mul_(2)
        for layer in codec.entropy.h_s.convolutions():
            layer.weight.mul_(3)
    codec.freeze()
    save_checkpoint(folder / MODEL_FILE, codec, PRESETS["demo"], 0)
    return folder / MODEL_FILE


def valid_files(codec: Any) -> list[bytes]:
    """Files of smooth random images in several sizes and rates."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    files = []
    for height, width in SIZES:
        cells = torch.rand(1, 3, height // 8, width // 8, generator=generator)
        x = F.interpolate(cells, size=(height, width), mode="bilinear")[0].clamp(0, 1)
        files += [codec.compress(x, rate) for rate in ((0.0, 0.5, 1.0) if codec.variable_rate else (None,))]
    return files


def work(out: Connection, ckpt: Path, seed: int, first: int, last: int, sample: int) -> None:
    """Send the verdict on mutants first .. last - 1, after one message when ready."""
    import resource

    import torch

    from utils.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    codec = load_checkpoint(ckpt).codec
    files = valid_files(codec)
    mutants, known = Mutator(files, codec.entropy.identity(), seed), set(files)
    for data in files:  # What is loaded on first use must not count as a mutant's memory.
        assert verdict_on(codec, data, synthesise=True) == "image"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_MIB * 2**20, resource.RLIM_INFINITY))
    out.send("ready")
    for number in range(first, last):
        data, forged = mutants[number]
        verdict = verdict_on(codec, data, synthesise=number % sample == 0)
        silent = verdict == "image" and not forged and data not in known
        out.send("damage that the checksum did not notice" if silent else verdict)


def batch(ckpt: Path, seed: int, first: int, last: int, sample: int) -> list[str]:
    """Verdicts on mutants from `first` on by one process; the last of them names a crash or a hang, which ends it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, ckpt, seed, first, last, sample), daemon=True)
    process.start()
    sender.close()
    verdicts: list[str] = []
    ready = False
    while len(verdicts) < last - first:
        try:
            if not receiver.poll(TIMEOUT if ready else START_TIMEOUT):
                verdicts.append(f"hang: no answer in {TIMEOUT} s")
                process.kill()
                break
            message = receiver.recv()
        except EOFError:
            process.join()
            verdicts.append(f"crash: the process ended with {process.exitcode}")
            break
        if ready:
            verdicts.append(message)
        ready = True
    process.join()
    if not ready:
        raise SystemExit(f"error: the process that decodes did not start ({verdicts[-1]}); see above.")
    return verdicts


def main() -> int:
    """Fuzz; the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="mutants (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which mutants (default: 0)")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="number of the first, to repeat a failure")
    parser.add_argument("--ckpt", metavar="C", help="run, checkpoint folder or model file to decode with")
    parser.add_argument("--sample", type=int, default=100, metavar="K", help="make every K-th image (default: 100)")
    arguments = parser.parse_args()
    if min(arguments.count, arguments.sample) < 1 or min(arguments.seed, arguments.first) < 0:
        raise ConfigError("--count and --sample must be at least 1, --seed and --first at least 0.")

    from tqdm import tqdm

    from utils.checkpoint import find_model_file

    found, failures, begun = {"image": 0, "refused": 0}, [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tqdm(total=arguments.count, unit="mutant") as bar:
        ckpt = find_model_file(arguments.ckpt) if arguments.ckpt else small_codec(Path(folder))
        number, end = arguments.first, arguments.first + arguments.count
        while number < end:
            for verdict in batch(ckpt, arguments.seed, number, min(number + BATCH, end), arguments.sample):
                if verdict in found:
                    found[verdict] += 1
                else:
                    failures.append({"number": number, "what": verdict})
                number += 1
                bar.update()
    seconds = round(time.monotonic() - begun, 1)
    print(
        json.dumps(
            {"count": arguments.count, "seed": arguments.seed} | found | {"failures": failures, "seconds": seconds}
        )
    )
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
