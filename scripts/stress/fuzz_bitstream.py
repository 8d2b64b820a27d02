"""Decode mutants of files: each must give an image of its header's size, or one BitstreamError.

    python scripts/stress/fuzz_bitstream.py --count 100000 --seed 0

Without --ckpt, a small untrained codec is used. Half of the mutants get a right checksum, as from an attacker. All are
decoded up to y_hat and one in a hundred to its image, in processes with limits of memory and time. Another exception,
a signal, a hang, and damage that no checksum noticed are failures. Ctrl-C ends with the result so far. The last line is
the result as JSON; the exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.cli import run

MAX_PIXELS = 2**20
"""What the decoder is told to refuse beyond; the mutants' headers claim up to 16 times as much."""
SIZES = ((64, 64), (16, 16), (65, 70), (96, 80), (128, 256))
RATES = (0.0, 0.5, 1.0)
START_SECONDS = 600
"""Patience with a process that loads the codec on a busy machine."""


def small_codec(folder: Path) -> Path:
    """A checkpoint of an untrained codec whose latents have many different symbols."""
    import torch

    from config import Config, ModelConfig
    from modules.codec import build_codec
    from utils.checkpoint import MODEL_FILE, save_checkpoint

    narrow: dict[str, Any] = {
        f"{part}_{what}": value
        for part in ("analysis", "side", "synthesis", "unet")
        for what, value in (("channels", (16, 24, 32)), ("blocks", (1, 1, 1)))
    }
    config = Config(name="fuzz", model=ModelConfig(latent=16, hyper=8, embedding=16, **narrow))
    torch.manual_seed(0)
    codec = build_codec(config)
    with torch.no_grad():
        for parameter in codec.entropy.h_a.parameters():
            parameter.mul_(2)
        for layer in codec.entropy.h_s.convolutions():
            layer.weight.mul_(3)
    codec.freeze()
    save_checkpoint(folder / MODEL_FILE, codec, config, 0)
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
        files += [codec.compress(x, rate) for rate in (RATES if codec.variable_rate else (None,))]
    return files


def work(out: Connection, ckpt: Path, seed: int, first: int, last: int, memory: int, sample: int) -> None:
    """Judge mutants first .. last - 1 and send (kind, detail) for each, after one message when ready."""
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer.
    import torch

    from scripts.stress.mutants import Mutator, Verdict, judge
    from utils.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    codec = load_checkpoint(ckpt).codec
    files = valid_files(codec)
    mutator, known = Mutator(files, codec.entropy.identity(), seed), set(files)
    for data in files:  # What is loaded on first use must not count as a mutant's memory.
        assert judge(codec, data, MAX_PIXELS, synthesise=True).kind == "image"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory * 2**20, resource.RLIM_INFINITY))
    out.send("ready")
    for number in range(first, last):
        mutant = mutator[number]
        verdict = judge(codec, mutant.data, MAX_PIXELS, synthesise=number % sample == 0)
        if verdict.kind == "image" and not mutant.forged and mutant.data not in known:
            verdict = Verdict("failed", "silent error: damage that the checksum did not notice")
        out.send((verdict.kind, verdict.detail, mutant.data.hex() if verdict.kind == "failed" else ""))


def batch(arguments: argparse.Namespace, ckpt: Path, first: int, last: int, result: dict[str, Any], bar: Any) -> int:
    """Judge mutants from `first` on in one process; the first one that is left, `last` if none is."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    limits = (arguments.memory, arguments.sample)
    process = context.Process(target=work, args=(sender, ckpt, arguments.seed, first, last, *limits), daemon=True)
    process.start()
    sender.close()
    number, ready, end = first, False, ""
    while number < last:
        try:
            if not receiver.poll(arguments.timeout if ready else START_SECONDS):
                end = f"hang: no answer in {arguments.timeout} s"
                process.kill()
                break
            message = receiver.recv()
        except EOFError:
            process.join()
            end = f"crash: the process ended with {process.exitcode}"
            break
        if not ready:
            ready = True
            continue
        kind, detail, data = message
        result[kind] += 1
        if kind == "failed":
            result["failures"].append({"number": number, "what": detail, "hex": data[:2000]})
        number += 1
        bar.update()
    process.join()
    if not ready:
        raise SystemExit(f"error: the process that decodes did not start ({end}); see above.")
    if end:
        result["failed"] += 1
        result["failures"].append({"number": number, "what": end, "hex": ""})
        number += 1
        bar.update()
    return number


def main() -> int:
    """Fuzz; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="mutants (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which mutants (default: 0)")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="number of the first, to repeat a failure")
    parser.add_argument("--ckpt", metavar="C", help="run, checkpoint folder or model file to decode with")
    parser.add_argument(
        "--sample", type=int, default=100, metavar="K", help="make the image of every K-th (default: 100)"
    )
    parser.add_argument("--batch", type=int, default=5000, metavar="N", help="mutants a process (default: 5000)")
    parser.add_argument(
        "--memory", type=int, default=1024, metavar="MIB", help="beyond the loaded codec (default: 1024)"
    )
    parser.add_argument(
        "--timeout", type=float, default=60, metavar="S", help="seconds a mutant may take (default: 60)"
    )
    arguments = parser.parse_args()
    if min(arguments.count, arguments.sample, arguments.batch) < 1 or min(arguments.seed, arguments.first) < 0:
        parser.error("--count, --sample and --batch must be at least 1, --seed and --first at least 0")

    from tqdm import tqdm

    from utils.checkpoint import find_model_file

    result: dict[str, Any] = {
        **{"count": arguments.count, "seed": arguments.seed, "first": arguments.first},
        **{"image": 0, "refused": 0, "failed": 0, "failures": []},
    }
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tqdm(total=arguments.count, unit="mutant", disable=None) as bar:
        ckpt = find_model_file(arguments.ckpt) if arguments.ckpt else small_codec(Path(folder))
        number, end = arguments.first, arguments.first + arguments.count
        try:
            while number < end:
                number = batch(arguments, ckpt, number, min(number + arguments.batch, end), result, bar)
        except KeyboardInterrupt:
            result["count"] = sum(result[kind] for kind in ("image", "refused", "failed"))
            print(f"stopped by SIGINT after {result['count']} of {arguments.count} mutants", file=sys.stderr)
    result["seconds"] = round(time.monotonic() - begun, 1)
    print(json.dumps(result))
    if result["count"] < arguments.count:
        return 128 + signal.SIGINT
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    run(main)
