"""Speed of our codec beside the published distributed codec, JPEG, WebP and AVIF, timed in turn in one process.

    python scripts/benchmark.py --ckpt checkpoints/small_kitti --json results/speed.json

Prints a row as soon as it has its first figure, then ratios with their targets. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run
from utils.errors import ConfigError

BEGAN = time.monotonic()
"""The budget counts from here; what takes time to import is imported later."""
SHORTEST = 0.1
"""Seconds of a turn: what is faster is called several times, and the turn counts as their mean."""
GAMMA = 1.0
"""What decoding is timed with: at 0 the denoiser has nothing to do."""
PAPER_STEPS, TIMED_STEPS = 200, (2, 5)
"""The published codec decodes in 200 steps; two shorter decodings are timed, and steps between them multiplied."""
TARGETS = {
    "decode, 1 step, against dicm_paper's 200": ("ours decode 1", "dicm decode 200", 1 / 1500),
    "encode with coding against dicm_paper's analysis in floats": ("ours encode", "dicm analysis", 1 / 6),
    "encode against AVIF": ("ours encode", "avif encode", 1.0),
    "training step against dicm_paper": ("ours train", "dicm train", 1 / 15),
}
"""What is compared: ratio of the first time to the second, and the largest that is aimed at."""


@dataclass
class Row:
    """One operation: `run` does it once; `seconds` has a value a turn; bytes of memory that a call adds at its peak."""

    name: str
    run: Callable[[], object]
    note: str = ""
    calls: int = 1
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    gflop: float | None = None

    def line(self) -> str:
        """The row as text."""
        quartiles = quantiles(self.seconds, n=4) if len(self.seconds) > 1 else [self.seconds[0]] * 3
        times = f"{1e3 * median(self.seconds):10.2f} ms [{1e3 * quartiles[0]:.2f}, {1e3 * quartiles[2]:.2f}]"
        memory = "" if self.peak is None else f", {self.peak / 2**20:.0f} MiB"
        work = "" if self.gflop is None else f", {self.gflop:.2f} GFLOP"
        return f"{self.name:24}{times}{memory}{work}{'; ' + self.note if self.note else ''}"


class OutOfTime(Exception):
    """The budget is over."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds, also in the middle of a network."""

    def over(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(rows: list[Row], turns: int, deadline: float, say: Callable[[str], None]) -> list[str]:
    """Time the rows in turn, A B C A B C ..., so that what disturbs the machine disturbs all.

    The first round counts FLOPs and memory and warms up. Returns the names of the rows that did not fit.
    """
    from tqdm import tqdm

    bar = tqdm(total=turns * len(rows), unit="turn")
    with bar, contextlib.suppress(OutOfTime, KeyboardInterrupt), limit(deadline - time.monotonic()):
        for row in rows:
            row.gflop, row.peak = costs(row.run)
            row.calls = max(1, math.ceil(SHORTEST / timed(row.run, 1)))
            row.seconds.append(timed(row.run, row.calls))
            say(row.line())
            bar.update()
        for _ in range(turns - 1):
            for row in rows:
                row.seconds.append(timed(row.run, row.calls))
                bar.update()
    return [row.name for row in rows if not row.seconds]


def timed(function: Callable[[], object], calls: int) -> float:
    """Seconds a call, all work on a GPU done."""
    import torch

    synchronise = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    synchronise()
    begin = time.perf_counter()
    for _ in range(calls):
        function()
    synchronise()
    return (time.perf_counter() - begin) / calls


def costs(function: Callable[[], object]) -> tuple[float | None, int | None]:
    """GFLOP of the convolutions and matrix products of one call; bytes that another adds to the resident set at most.

    A multiplication and an addition are two operations. Memory is told by Linux alone, and on a CPU.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    gc.collect(1)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Forget the peak so far (man 5 proc).
        before = _status("VmRSS")
        function()
        peak: int | None = max(0, _status("VmHWM") - before)
    except OSError:
        peak = None
    return counter.get_total_flops() / 1e9 or None, peak


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def our_rows(codec: Any, pair: Any, rate: float, steps: list[int]) -> list[Row]:
    """Encoding from pixels to the bytes of a file, and decoding from them, entropy coding included."""
    from data.tensors import to_float, to_uint8

    asked = rate if codec.variable_rate else None
    data = codec.compress(to_float(pair.x), asked)

    def decode(count: int, gamma: float = GAMMA) -> object:
        return to_uint8(codec.decompress(data, to_float(pair.x_side), steps=count, gamma=gamma))

    rows = [Row("ours encode", lambda: codec.compress(to_float(pair.x), asked), f"{len(data)} bytes")]
    rows += [Row(f"ours decode {count}", lambda count=count: decode(count)) for count in steps]  # type: ignore[misc]
    return [*rows, Row("ours decode gamma 0", lambda: decode(1, gamma=0.0), "no denoiser")]


def paper_rows(codec: Any, pair: Any) -> list[Row]:
    """The published codec: its analysis and hyperprior in floats, its file, and two short decodings."""
    import torch

    from data.tensors import to_float, to_uint8
    from modules.codec import pad
    from modules.transforms import HYPER_STRIDE

    x = pad(to_float(pair.x)[None].to(next(codec.parameters()).device), HYPER_STRIDE)
    published = codec.common
    data = codec.compress(to_float(pair.x))

    @torch.no_grad()
    def analyse() -> object:
        return published.hyperprior(published.g_a(2 * x - 1), None, "common")

    def decode(steps: int) -> object:
        return to_uint8(codec.decompress(data, to_float(pair.x_side), steps=steps))

    rows = [Row("dicm analysis", analyse, "no entropy coding, as published")]
    rows.append(Row("dicm encode", lambda: codec.compress(to_float(pair.x)), "integer hyperprior and entropy coding"))
    for steps in TIMED_STEPS:
        rows.append(Row(f"dicm decode {steps}", lambda steps=steps: decode(steps)))  # type: ignore[misc]
    return rows


def anchor_rows(pair: Any, quality: int) -> list[Row]:
    """JPEG, WebP and AVIF by Pillow, with the settings of the evaluation."""
    from utils.evaluation import anchors

    rows = []
    for name in (name for name in anchors.DEFAULT if anchors.unavailable(name) is None):
        data = anchors.encode(name, pair.x, quality)
        encode = lambda name=name: anchors.encode(name, pair.x, quality)  # noqa: E731
        rows.append(Row(f"{name} encode", encode, f"{len(data)} bytes"))
        rows.append(Row(f"{name} decode", lambda data=data: anchors.decode(data)))  # type: ignore[misc]
    return rows


def training_row(name: str, config: Any, pairs: list[Any], device: Any) -> Row:
    """One optimizer step without perceptual loss: forward, backward, clipping and Adam."""
    import torch

    from data.tensors import to_float
    from modules.codec import build_codec
    from modules.losses import objective
    from modules.noise import Draws
    from utils.training.optimisation import build_optimizer

    codec = build_codec(config).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer, clipped = build_optimizer(codec, config.train)
    x, x_side = (torch.stack([to_float(getattr(p, view)) for p in pairs]).to(device) for view in ("x", "x_side"))
    draws = Draws([Draws.key(0, number) for number in range(len(pairs))], device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        output = codec(x, x_side, draws)
        loss, _ = objective(output, config.loss, codec.variable_rate, None)
        (loss if output.aux is None else loss + output.aux).backward()
        torch.nn.utils.clip_grad_norm_(clipped, config.train.clip)
        optimizer.step()

    return Row(name, step, f"{len(pairs)} pairs")


def build_rows(arguments: Any, height: int, width: int) -> list[Row]:
    """All rows at one size."""
    import torch

    from config import PRESETS
    from data.sources import open_source
    from modules.codec import build_codec
    from utils.checkpoint import load_checkpoint

    device = torch.device(arguments.device)
    source = open_source("builtin", split="train", height=height, width=width)
    pair = source[0]
    loaded = load_checkpoint(arguments.ckpt, device)
    rows = our_rows(loaded.codec, pair, arguments.rate, arguments.steps)
    rows += [] if "anchors" in arguments.skip else anchor_rows(pair, arguments.quality)
    pairs = [source[number % len(source)] for number in range(arguments.batch)]
    trains = "training" not in arguments.skip and height % 64 == width % 64 == 0
    if trains:
        stage_1 = replace(loaded.config, loss=replace(loaded.config.loss, perceptual="none", adversarial_weight=0.0))
        rows.append(training_row("ours train", stage_1, pairs, device))
    if "paper" not in arguments.skip:
        torch.manual_seed(0)
        published = build_codec(PRESETS["dicm_paper"])
        published.freeze()
        rows += paper_rows(published.to(device).eval(), pair)
        rows += [training_row("dicm train", PRESETS["dicm_paper"], pairs, device)] if trains else []
    return rows


def ratios(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """What TARGETS names, as ratios of medians with the quartiles of the ratios turn by turn."""
    times = {row.name: row.seconds for row in rows if row.seconds}
    few, more = (times.get(f"dicm decode {steps}") for steps in TIMED_STEPS)
    if few and more:
        (a, b), total = TIMED_STEPS, PAPER_STEPS
        times[f"dicm decode {total}"] = [
            m + (total - b) * (m - f) / (b - a) for f, m in zip(few, more, strict=False)
        ]  # fmt: skip
    found = {}
    for name, (ours, theirs, bound) in TARGETS.items():
        if ours in times and theirs in times:
            per_turn = [x / y for x, y in zip(times[ours], times[theirs], strict=False)]
            value = median(times[ours]) / median(times[theirs])
            quartiles = quantiles(per_turn, n=4) if len(per_turn) > 1 else [value] * 3
            found[name] = {"ratio": value, "q1": quartiles[0], "q3": quartiles[2], "at_most": bound}
    return found


def main() -> None:
    """Measure; raises ProjectError with what to do."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--ckpt", required=True, metavar="C", help="run, checkpoint folder or model file")
    add("--rate", type=float, default=0.5, metavar="R", help="0 smallest file to 1 largest (default: 0.5)")
    add("--steps", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="our decoding steps (default: 1 2 4)")
    add("--size", default="128x256", metavar="HxW", help="pixels; training needs multiples of 64 (default: 128x256)")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    add("--threads", type=int, metavar="N", help="of PyTorch on the CPU (default: PyTorch's choice)")
    add("--turns", type=int, default=15, metavar="N", help="times each operation is timed (default: 15)")
    add(
        "--budget",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds in all; what is left out is named (default: 600)",
    )
    add("--batch", type=int, default=4, metavar="N", help="pairs of a training step (default: 4)")
    add("--quality", type=int, default=30, metavar="Q", help="of JPEG, WebP and AVIF, 1 to 100 (default: 30)")
    add("--skip", nargs="+", choices=("paper", "anchors", "training"), default=[], help="do not measure these")
    add("--json", type=Path, metavar="FILE", help="write rows, ratios and machine here")
    arguments = parser.parse_args()
    height, _, width = arguments.size.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"--size is {arguments.size!r}; a size is height x width, for example 128x256.")
    if min(arguments.turns, arguments.batch, arguments.threads or 1, *arguments.steps) < 1 or arguments.budget <= 0:
        raise ConfigError("--turns, --batch, --threads, --steps and --budget must be positive.")

    import torch
    from tqdm import tqdm

    from utils.files import write_json, writing
    from utils.outputs import refuse_overwriting
    from utils.run import environment

    refuse_overwriting([arguments.json], [arguments.ckpt])
    if arguments.json is not None:
        with writing(arguments.json):
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    rows: list[Row] = []
    with contextlib.suppress(OutOfTime), limit(BEGAN + arguments.budget - time.monotonic()):
        rows = build_rows(arguments, int(height), int(width))
    left_out = measure(rows, arguments.turns, BEGAN + arguments.budget, lambda line: tqdm.write(line, file=sys.stderr))
    found = ratios(rows)
    print(*(row.line() for row in rows if row.seconds), sep="\n")
    if left_out or not rows:
        print(f"Left out, for --budget was over: {', '.join(left_out) or 'everything'}.")
    for name, ratio in found.items():
        met = "met" if ratio["ratio"] <= ratio["at_most"] else "missed"
        print(f"{name}: 1/{1 / ratio['ratio']:.4g} (aim: at most 1/{1 / ratio['at_most']:.4g}), {met}")
    print(f"{torch.get_num_threads()} threads, load average {load:.2f} before, {os.getloadavg()[0]:.2f} after")
    if arguments.json is not None:
        table = {row.name: {"seconds": row.seconds, "peak": row.peak, "gflop": row.gflop} for row in rows}
        write_json(arguments.json, {"rows": table, "ratios": found, "left_out": left_out, "machine": environment()})


if __name__ == "__main__":
    run(main)
