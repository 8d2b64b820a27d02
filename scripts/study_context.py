"""Does a context model pay? Checkerboard and channel context against the plain hyperprior, on one frozen encoder.

g_a, h_a and the prior of z stay those of the checkpoint. For each design h_s and the context, which begins at zero, are
trained on the bits of y alone, on the same latents with the same noise; `plain`, h_s trained further, is the control.
Bits are those of the symbols of `--split` under the exact integers; bytes are the checkpoint's true files plus the
difference in the bits of y. Latents and finished designs are kept in WORK: the same command again continues.

    python scripts/study_context.py --ckpt checkpoints/small --data-root DIR --work runs/context
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from utils.checkpoint import Checkpoint
    from utils.context_study import ContextModel, Design, Latents

BATCH = 16
WARMUP = 100
TURNS = 40
"""Timed calls of each design's integers."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--ckpt", required=True, metavar="PATH", help="a run or checkpoint folder, or a model file")
    parser.add_argument("--data-root", required=True, metavar="DIR", help="of the source `folder`")
    parser.add_argument("--split", default="val", choices=["val", "test"])
    parser.add_argument("--work", type=Path, required=True, metavar="WORK", help="folder for latents and results")
    parser.add_argument("--bytes", type=int, nargs="+", default=[250, 400, 800], help="sizes of files to report")
    parser.add_argument("--crops", type=int, default=4096, help="training crops, each at one random rate level")
    parser.add_argument("--steps", type=int, default=1500, help="optimizer steps for each design")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--designs", nargs="+", default=None, metavar="NAME", help="default: all")
    parser.add_argument("--threads", type=int, default=2, help="at which the integers are timed")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="Markdown file to write")
    return parser.parse_args()


def main() -> None:
    """See the module."""
    args = parse()
    from utils.checkpoint import load_checkpoint
    from utils.context_study import DESIGNS
    from utils.files import write_whole

    names = list(DESIGNS) if args.designs is None else args.designs
    if unknown := [name for name in names if name not in DESIGNS]:
        raise ConfigError(f"There is no design {unknown[0]!r}; choose from {', '.join(DESIGNS)}.")
    loaded = load_checkpoint(args.ckpt)
    args.work.mkdir(parents=True, exist_ok=True)
    train, held_out, about = latents(args, loaded)
    results = {}
    for name in dict.fromkeys(["plain", *names]):
        file = args.work / f"{name.replace(' ', '_')}_{args.steps}_{args.lr:g}.json"
        if not file.is_file():
            write_whole(file, json.dumps(study(args, loaded, DESIGNS[name], train, held_out)).encode())
        results[name] = json.loads(file.read_text())
    report(args, loaded, results, held_out, about)


# ---------------------------------------------------------------- latents


def latents(args: argparse.Namespace, loaded: Checkpoint) -> tuple[Latents, dict[str, Latents], dict[str, Any]]:
    """Training latents, those of the split at each size of file, and what is known of the files; computed once."""
    import torch
    from safetensors.torch import save_file

    from utils.checkpoint import read_tensors
    from utils.context_study import Latents
    from utils.files import writing

    file = args.work / "latents.safetensors"
    made_from = {
        "model": loaded.codec.entropy.identity().hex(),
        "split": args.split,
        "sizes": args.bytes,
        "crops": args.crops,
    }
    if file.is_file():
        metadata, tensors = read_tensors(file)
        about = json.loads(metadata["about"])
        if about["made_from"] != made_from:
            raise ConfigError(f"{file} was made from {about['made_from']}; choose another --work, or remove it.")
    else:
        about = {"made_from": made_from}
        tensors = compute(args, loaded, about)
        with writing(file):
            temporary = file.with_name(file.name + ".tmp")
            save_file(tensors, temporary, {"about": json.dumps(about)})
            temporary.replace(file)

    def part(name: str) -> Latents:
        return Latents(*(tensors[f"{name}.{field}"] for field in ("y", "z_hat", "level")))

    torch.manual_seed(0)
    return part("train"), {str(size): part(str(size)) for size in args.bytes}, about


def compute(args: argparse.Namespace, loaded: Checkpoint, about: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of all latents by name; adds the files' levels, bytes and groups to `about`."""
    from dataclasses import replace

    import numpy as np
    import torch

    from data.mixture import make_loader
    from data.sources import open_source
    from train import training_data
    from utils.images import to_float

    codec = loaded.codec
    data = replace(loaded.config.data, folder_root=args.data_root, mismatched=0.0)
    tensors: dict[str, list[Tensor]] = {}

    def add(name: str, x: Tensor, level: Tensor) -> None:
        for field, tensor in zip(("y", "z_hat", "level"), analyse(codec, x, level), strict=True):
            tensors.setdefault(f"{name}.{field}", []).append(tensor)

    generator = torch.Generator().manual_seed(0)
    batches = make_loader(training_data(replace(loaded.config, data=data)), range(args.crops), BATCH, workers=1)
    for batch in batches:
        add("train", batch["x"].float() / 255, torch.randint(256, (BATCH,), generator=generator))
    source = open_source("folder", split=args.split, root=args.data_root)
    images = [to_float(source[i].x) for i in range(len(source))]
    about |= {"groups": list(source.groups), "levels": {}, "file_bytes": {}}
    for size in args.bytes:
        level, files = level_for(codec, images, size)
        about["levels"][str(size)], about["file_bytes"][str(size)] = level, files
        for x in images:
            add(str(size), x[None], torch.tensor([level]))
    assert np.isfinite([float(t[-1].sum()) for t in tensors.values()]).all()
    return {name: torch.cat(parts).contiguous() for name, parts in tensors.items()}


def analyse(codec: Any, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y times gain, z_hat and level of x (B, 3, H, W) in [0, 1], as `Hyperprior.quantise` computes them."""
    import torch

    entropy = codec.entropy
    with torch.no_grad():
        y = codec.g_a((2 * x - 1).contiguous(memory_format=torch.channels_last), level.float() / 255).float()
        scaled = y * entropy.gain(level)
        medians = (entropy.z_medians.float() / 256)[:, None, None]
        return scaled.contiguous(), torch.round(entropy.h_a(scaled) - medians) + medians, level


def level_for(codec: Any, images: list[Tensor], size: int) -> tuple[int, list[int]]:
    """The rate level whose files have about `size` bytes in the mean, and the bytes of each file."""
    import numpy as np

    low, high = 0, 255
    while high - low > 1:
        middle = (low + high) // 2
        files = [len(codec.compress(x, middle / 255)) for x in images]
        low, high = (middle, high) if np.mean(files) < size else (low, middle)
    return high, [len(codec.compress(x, high / 255)) for x in images]


# ---------------------------------------------------------------- one design


def study(
    args: argparse.Namespace, loaded: Checkpoint, design: Design, train: Latents, held_out: dict[str, Latents]
) -> dict[str, Any]:
    """Train one design; bits of y for each image and size, before and after."""
    begin = time.monotonic()
    model = build(loaded, design, train)
    before = measure(model, held_out)
    fit(args, loaded, model, train)
    return {"before": before, "bits": measure(model, held_out), "seconds": time.monotonic() - begin}


def build(loaded: Checkpoint, design: Design, train: Latents) -> ContextModel:
    """The design around the checkpoint's h_s; channels are ordered by their bits at all rates alike."""
    import torch

    from utils.context_study import ContextModel, channel_bits

    h_s = loaded.codec.entropy.h_s
    return ContextModel(h_s, design, channel_bits(h_s, train[torch.arange(256)]), loaded.codec.entropy.levels)


def fit(args: argparse.Namespace, loaded: Checkpoint, model: ContextModel, train: Latents) -> None:
    """Adam on the noisy bits, rates balanced as in `modules/losses.py`; the same samples and noise for every design."""
    import torch

    from modules.losses import lambda_of

    loss = loaded.config.loss
    weight = (lambda_of(loss, train.level / 255, True) / (loss.lambda_min * loss.lambda_max) ** 0.5) ** -loss.balance
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    order = torch.empty(0, dtype=torch.long)
    for step in range(args.steps):
        if len(order) < BATCH:
            order = torch.randperm(len(train.level), generator=generator)
        chosen, order = order[:BATCH], order[BATCH:]
        batch = train[chosen]
        noise = torch.rand(batch.y.shape, generator=generator) - 0.5
        optimizer.param_groups[0]["lr"] = args.lr * min(1, (step + 1) / WARMUP, (args.steps - step) / args.steps * 1.5)
        bits = (weight[chosen] * model(batch, noise)).mean() / 1000
        optimizer.zero_grad()
        bits.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: {float(bits):.4f} thousand weighted bits", file=sys.stderr, flush=True)


def measure(model: ContextModel, held_out: dict[str, Latents]) -> dict[str, list[float]]:
    """Bits of y of each image at each size, by the exact integers."""
    import torch

    model.freeze()
    with torch.no_grad():
        return {size: model(latents, exact=True).tolist() for size, latents in held_out.items()}


# ---------------------------------------------------------------- report


def report(
    args: argparse.Namespace,
    loaded: Checkpoint,
    results: dict[str, Any],
    held_out: dict[str, Latents],
    about: dict[str, Any],
) -> None:
    """Print the table, and write it to --out."""
    import numpy as np
    import torch

    from utils.bootstrap import ClusterBootstrap
    from utils.context_study import DESIGNS
    from utils.markdown import publish, table

    torch.set_num_threads(args.threads)
    one = {size: latents[torch.tensor([0])] for size, latents in held_out.items()}[str(args.bytes[0])]
    models = {name: build(loaded, DESIGNS[name], held_out[str(args.bytes[0])]) for name in results}
    costs = cost(models, one)
    bootstrap = ClusterBootstrap(about["groups"])

    def sizes(bits: dict[str, list[float]]) -> list[Any]:
        """Bytes of the files of each size, had the bits of y been these."""
        start = results["plain"]["before"]
        return [
            np.array(about["file_bytes"][size]) + (np.array(bits[size]) - np.array(start[size])) / 8
            for size in about["file_bytes"]
        ]

    control = sizes(results["plain"]["bits"])
    rows = [["checkpoint", *["-"] * 3, *(f"{files.mean():.1f}" for files in sizes(results["plain"]["before"]))]]
    for name, result in results.items():
        cells = []
        for files, plain in zip(sizes(result["bits"]), control, strict=True):
            gain = 100 * (files / plain - 1)
            interval = bootstrap.mean(gain)
            cells.append(f"{files.mean():.1f}")
            if name != "plain":
                cells[-1] += f" ({100 * (files.mean() / plain.mean() - 1):+.2f} %"
                cells[-1] += f" [{interval[0]:+.2f}, {interval[1]:+.2f}])" if interval else ")"
        parameters, operations, milliseconds = costs[name]
        rows.append([name, f"{parameters / 1e6:.3f}", f"{operations:.0f}", f"{milliseconds:.2f}", *cells])
    columns = ["design", "M parameters", "multiply-adds a pixel", f"ms on {args.threads} threads"]
    columns += [f"bytes at level {about['levels'][size]}" for size in about["levels"]]
    publish([f"`python {shlex.join(sys.argv)}`", "", *table(columns, rows)], args.out)


def cost(models: dict[str, ContextModel], one: Latents) -> dict[str, tuple[int, float, float]]:
    """Parameters, multiply-adds a pixel, and the median time in ms of the exact integers for one image, in turns."""
    import numpy as np
    import torch

    from utils.benchmark.cost import count_flops

    times: dict[str, list[float]] = {name: [] for name in models}
    pixels = one.y.shape[2] * one.y.shape[3] * 256
    with torch.no_grad():
        for turn in range(TURNS + 5):
            for name, model in models.items():
                begin = time.perf_counter()
                model(one, exact=True)
                if turn >= 5:
                    times[name].append(time.perf_counter() - begin)
        return {
            name: (
                sum(p.numel() for p in model.parameters()),
                count_flops(lambda model=model: model(one)) / 2 / pixels,  # type: ignore[misc]
                1000 * float(np.median(times[name])),
            )
            for name, model in models.items()
        }


if __name__ == "__main__":
    run(main)
