"""Does a context model pay? Checkerboard and channel context against the plain hyperprior, on one frozen encoder.

g_a, h_a and the prior of z stay those of the checkpoint. For each design h_s and the context, which is zero at first,
are trained on the bits of y alone, with the same latents and noise; `plain`, h_s trained further, is the control. Bits
are those of the symbols of `--split` under the exact integers; bytes are the checkpoint's true files plus the
difference in the bits of y. WORK keeps latents, training states and results: the same command again continues.

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
    from modules.diffusion_codec import DiffusionCodec
    from utils.checkpoint import Checkpoint
    from utils.context_study import ContextModel, Latents

TURNS = 40
"""Timed calls of each design's integers."""


def parse() -> argparse.Namespace:
    """The command line. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--ckpt", required=True, metavar="PATH", help="a run or checkpoint folder, or a model file")
    add("--data-root", required=True, metavar="DIR", help="of the source `folder`")
    add("--work", type=Path, required=True, metavar="WORK", help="folder for latents, states and results")
    add("--split", default="val", choices=["val", "test"])
    add("--bytes", type=int, nargs="+", default=[250, 400, 800], metavar="N", help="sizes of files to report")
    add("--crops", type=int, default=4096, metavar="N", help="training crops, each at one random rate level")
    add("--channels", type=int, default=64, metavar="N", help="that take part, those with most bits")
    add("--steps", type=int, default=1500, metavar="N", help="optimizer steps for each design")
    add("--lr", type=float, default=5e-4, help="of h_s")
    add("--context-lr", type=float, default=2e-3)
    add("--designs", nargs="+", metavar="NAME", help="beside plain; default: all")
    add("--threads", type=int, default=2, metavar="N", help="at which the integers are timed")
    add("--out", type=Path, metavar="FILE", help="Markdown file to write")
    arguments = parser.parse_args()
    for name, least in (("crops", 16), ("channels", 1), ("steps", 1), ("threads", 1)):
        if getattr(arguments, name) < least:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}; it must be at least {least}.")
    return arguments


def main() -> None:
    """See the module."""
    args = parse()
    from modules.diffusion_codec import DiffusionCodec
    from utils.checkpoint import load_checkpoint
    from utils.context_study import DESIGNS, ContextModel, channel_bits

    names = list(DESIGNS) if args.designs is None else args.designs
    if unknown := [name for name in names if name not in DESIGNS]:
        raise ConfigError(f"There is no design {unknown[0]!r}; choose from {', '.join(DESIGNS)}.")
    loaded = load_checkpoint(args.ckpt)
    codec = loaded.codec
    if not isinstance(codec, DiffusionCodec) or not codec.variable_rate:
        raise ConfigError(f"{loaded.path} is not of the variable-rate codec `diffusion`, the only one studied here.")
    if codec.entropy.mean_before_gain:
        raise ConfigError(f"{loaded.path} has model.mean_before_gain, and contexts are studied for means of y x gain.")
    if args.channels > codec.entropy.latent:
        raise ConfigError(f"--channels is {args.channels}, but y has {codec.entropy.latent}.")
    args.work.mkdir(parents=True, exist_ok=True)
    train, held_out, about = latents(args, loaded, codec)
    h_s, levels = codec.entropy.h_s, codec.entropy.levels
    bits = channel_bits(h_s, train[slice(256)])
    names = list(dict.fromkeys(["plain", *names]))
    models = {name: ContextModel(h_s, DESIGNS[name], bits, args.channels, levels) for name in names}
    results = {name: result(args, loaded, name, model, train, held_out) for name, model in models.items()}
    report(args, models, results, held_out, about)


def latents(
    args: argparse.Namespace, loaded: Checkpoint, codec: DiffusionCodec
) -> tuple[Latents, dict[str, Latents], dict[str, Any]]:
    """Training latents, those of the split at each size of file, and what is known of the files; computed once."""
    from dataclasses import replace

    from safetensors.torch import save_file

    from data.sources import open_source
    from train import training_data
    from utils.checkpoint import read_tensors
    from utils.context_study import Latents
    from utils.context_training import latents_of_size, training_latents
    from utils.files import writing
    from utils.images import to_float

    file = args.work / "latents.safetensors"
    made_from = {
        "model": codec.entropy.identity().hex(),
        "split": args.split,
        "sizes": args.bytes,
        "crops": args.crops,
    }
    if not file.is_file():
        data = replace(loaded.config.data, folder_root=args.data_root, mismatched=0.0)
        parts = {"train": training_latents(codec, training_data(replace(loaded.config, data=data)), args.crops)}
        source = open_source("folder", split=args.split, root=args.data_root)
        images = [to_float(source[i].x) for i in range(len(source))]
        if len({image.shape for image in images}) > 1:
            raise ConfigError(
                f"The images of {args.data_root}, split {args.split}, differ in size; give some of one size."
            )
        files = {}
        for size in args.bytes:
            parts[str(size)], files[str(size)] = latents_of_size(codec, images, size)
        tensors = {f"{name}.{field}": tensor for name, part in parts.items() for field, tensor in vars(part).items()}
        about = {"made_from": made_from, "groups": list(source.groups), "file_bytes": files}
        temporary = file.with_name(file.name + ".tmp")
        with writing(file):
            save_file(tensors, temporary, {"about": json.dumps(about)})
            temporary.replace(file)
    metadata, tensors = read_tensors(file)
    about = json.loads(metadata["about"])
    if about["made_from"] != made_from:
        raise ConfigError(f"{file} was made from {about['made_from']}; choose another --work, or remove it.")
    parts = {
        name: Latents(*(tensors[f"{name}.{field}"] for field in ("y", "z_hat", "level")))
        for name in ("train", *map(str, args.bytes))
    }
    return parts.pop("train"), parts, about


def result(
    args: argparse.Namespace,
    loaded: Checkpoint,
    name: str,
    model: ContextModel,
    train: Latents,
    held_out: dict[str, Latents],
) -> dict[str, Any]:
    """Bits of y for each size and image, before and after training; from WORK if they are there."""
    from config import LossConfig
    from utils.context_training import Settings, fit, measure
    from utils.files import write_whole

    settings = Settings(args.steps, args.lr, args.context_lr)
    stem = "_".join([name.replace(", ", "_").replace(" ", "_"), *map(str, (args.channels, *vars(settings).values()))])
    file = args.work / f"{stem}.json"
    if not file.is_file():
        before = measure(model, held_out)
        assert isinstance(loaded.config.loss, LossConfig)
        fit(model, train, loaded.config.loss, settings, args.work / stem)
        write_whole(file, json.dumps({"before": before, "after": measure(model, held_out)}).encode())
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def report(
    args: argparse.Namespace,
    models: dict[str, ContextModel],
    results: dict[str, Any],
    held_out: dict[str, Latents],
    about: dict[str, Any],
) -> None:
    """Print the table, and write it to --out."""
    import numpy as np

    from utils.bootstrap import ClusterBootstrap
    from utils.markdown import publish, table

    bootstrap = ClusterBootstrap(about["groups"])

    def files(size: str, bits: dict[str, list[float]]) -> Any:
        """Bytes of each file, had y these bits."""
        change = np.array(bits[size]) - np.array(results["plain"]["before"][size])
        return np.array(about["file_bytes"][size]) + change / 8

    def cell(size: str, bits: dict[str, list[float]], compare: bool) -> str:
        own, plain = files(size, bits), files(size, results["plain"]["after"])
        if not compare:
            return f"{own.mean():.1f}"
        interval = bootstrap.mean(100 * (own / plain - 1))
        margin = f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else ""
        return f"{own.mean():.1f}, {100 * (own.mean() / plain.mean() - 1):+.2f} %{margin}"

    costs = cost(args, models, held_out)
    start = [cell(size, results["plain"]["before"], False) for size in held_out]
    rows = [["the checkpoint", "", "", "", *start]]
    for name, bits in results.items():
        rows.append([name, *costs[name], *(cell(size, bits["after"], name != "plain") for size in held_out)])
    columns = ["design", "M parameters", "multiply-adds a pixel", "ms"]
    columns += [f"bytes at rate level {int(latents.level[0])}" for latents in held_out.values()]
    lines = [
        f"split {args.split}, {len(about['groups'])} images in {bootstrap.groups} groups; h_s and context, the time of "
        f"their exact integers for one image on {args.threads} threads; bytes of a file, against plain, and the 95 % "
        "interval of the images' mean difference.",
        "",
        f"`python {shlex.join(sys.argv)}`",
        "",
        *table(columns, rows),
    ]
    publish(lines, args.out)


def cost(
    args: argparse.Namespace, models: dict[str, ContextModel], held_out: dict[str, Latents]
) -> dict[str, tuple[str, str, str]]:
    """Millions of parameters, multiply-adds a pixel and the median time in ms of each design, timed in turns."""
    import numpy as np
    import torch

    from modules.transforms import STRIDE
    from utils.benchmark.cost import count_flops

    torch.set_num_threads(args.threads)
    one = next(iter(held_out.values()))[slice(1)]
    pixels = one.y[0, 0].numel() * STRIDE**2
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad():
        for model in models.values():  # Also fills the caches of the integers.
            model.freeze()
            list(model.passes(one, exact=True))
        for _ in range(TURNS):
            for name, model in models.items():
                begin = time.perf_counter()
                list(model.passes(one, exact=True))
                times[name].append(1000 * (time.perf_counter() - begin))
        costs = {}
        for name, model in models.items():
            parameters = sum(parameter.numel() for parameter in model.parameters())
            operations = count_flops(lambda model=model: list(model.passes(one))) / 2 / pixels  # type: ignore[misc]
            costs[name] = (f"{parameters / 1e6:.3f}", f"{operations:.0f}", f"{np.median(times[name]):.2f}")
    return costs


if __name__ == "__main__":
    run(main)
